"""The few conditions that must hold before a channel's products are trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stillsun.config.schema import QualityConfig, SpeckleEngine
from stillsun.products.base import Dataset, Rows, StoreProduct, find
from stillsun.products.bursts import Bursts
from stillsun.products.calibration import Calibration
from stillsun.products.channel import Channel
from stillsun.products.destretched import Destretched
from stillsun.products.pointing import SolarPointing
from stillsun.products.reconstructed import Reconstructed
from stillsun.products.registration import Registration
from stillsun.qa.products import images_after, images_before

_EVERY_FRAME = "a FITS file for every frame"
# What to do where a condition does not hold.
_REMEDIES = {
    "bad pixels": "Look at dark and flat below: a wrong dark, a shutter that stuck? Else the camera is ill.",
    "noise of the gain": "Too few flats or too little light in them; take the flats of another sequence too.",
    "frames in no burst": "Gaps, or a remainder: another assemble.frames_per_burst, or a larger max_gap.",
    "median Fried parameter": "The seeing was bad: use the clearest frames only, see the curves.",
    "median last change of the phases": "The phases have not settled: raise speckle.max_iterations.",
    "contrast over that of the best raw frames": "The reconstruction gains nothing here: check plate scale, "
    "wavelength and diameter; in very good seeing, or with a wide filter, speckle=none may do better.",
    "median shift left over": "The frames still move: smaller destretch.kernels, or another reference.",
    "repaired tiles of any kernel": "Many shifts were not believed: leave out the smallest of "
    "destretch.kernels, or look for clouds and bad seeing.",
    "sharpness kept": "Destretch blurs: destretch.interpolation=lanczos4, or leave out the smallest kernel.",
    "error of the offset": "Use coordinates of this channel with care; target frames of both channels help.",
    "error of the pointing": "Match to a full-disk image: align=hmi, or give align.pointing=[x,y].",
}


@dataclass(frozen=True)
class Check:
    """
    One condition, judged.

    Attributes
    ----------
    stage : str
        Stage whose product it belongs to.
    condition : str
        What must hold, with its limit.
    found : str
        What was found.
    holds : bool or None
        None: cannot be judged, `found` says why.
    remedy : str
        What to do where it does not hold.
    """

    stage: str
    condition: str
    found: str
    holds: bool | None
    remedy: str = ""

    def words(self) -> str:
        """
        The check as one line.

        Returns
        -------
        str
            Stage, condition, what was found.
        """
        return f"{self.stage}: {self.condition}; found {self.found}"


def checklist(channel: Channel, limits: QualityConfig, *, files: int | None = None) -> list[Check]:
    """
    Judge the products of a channel that there are; only small datasets are read.

    Parameters
    ----------
    channel : Channel
        The channel.
    limits : QualityConfig
        The limits.
    files : int, optional
        FITS files of final frames; None: not exported.

    Returns
    -------
    list of Check
        In the order of the stages; nothing of stages without a product.
    """
    found = [*_calibration(channel, limits), *_bursts(channel, limits), *_speckle(channel, limits)]
    found += _destretch(channel, limits)
    found += [*_registration(channel, limits), *_pointing(channel, limits)]
    final = images_after(channel)
    if files is not None and final is not None:
        rows = final.rows
        found.append(
            Check(
                "export",
                _EVERY_FRAME,
                f"{files} for {rows} frames",
                files == rows,
                "Do it again: force=[export].",
            )
        )
    return found


def _most(stage: str, what: str, value: float, limit: float, unit: str, factor: float = 1.0) -> Check:
    return _judge(stage, what, f"at most {factor * limit:g}{unit}", factor * value, value <= limit, unit)


def _least(stage: str, what: str, value: float, limit: float, unit: str, factor: float = 1.0) -> Check:
    return _judge(stage, what, f"at least {factor * limit:g}{unit}", factor * value, value >= limit, unit)


def _judge(stage: str, what: str, limit: str, shown: float, holds: bool, unit: str) -> Check:
    condition, remedy = f"{what} {limit}", _REMEDIES[what]
    if not np.isfinite(shown):
        return Check(stage, condition, "not known", None, remedy)
    found = f"{shown:.0f}{unit}" if shown >= 100 else f"{shown:.3g}{unit}"
    return Check(stage, condition, found, bool(holds), remedy)


def _calibration(channel: Channel, limits: QualityConfig) -> Iterator[Check]:
    found = channel.get(Calibration)
    if found is None:
        return
    bad = found.bad_pixels != 0
    yield _most("calibrate", "bad pixels", 100 * float(bad.mean()), limits.bad_pixels, " %")
    needed = (found.dark_variance, found.flat_variance, found.dark_frames, found.flat_frames)
    noise = np.nan
    if all(value is not None for value in needed):
        dark, flat, darks, flats = (np.asarray(value, np.float64) for value in needed)
        signal = found.flat.astype(np.float64) - found.dark
        good = ~bad & (signal > 0)
        if good.any():
            noise = float(np.median(np.sqrt(dark / darks + flat / flats)[good] / signal[good]))
    yield _most("calibrate", "noise of the gain", 100 * noise, limits.gain_noise, " %")


def _bursts(channel: Channel, limits: QualityConfig) -> Iterator[Check]:
    bursts = channel.get(Bursts)
    if bursts is None:
        return
    attributes = bursts.attributes
    share = np.nan
    if "frames_dropped" in attributes:
        dropped, used = int(attributes["frames_dropped"]), bursts.rows * int(attributes["frames_per_burst"])
        share = dropped / max(1, dropped + used)
    yield _most("assemble", "frames in no burst", 100 * share, limits.unused_frames, " %")


def _speckle(channel: Channel, limits: QualityConfig) -> Iterator[Check]:
    made, raw = images_before(channel), channel.get(Bursts)
    if made is None or channel.options["speckle"].engine is SpeckleEngine.none:
        return
    r0 = _median(made, Reconstructed.r0)
    yield _least("speckle", "median Fried parameter", r0, limits.fried_cm / 100, " cm", 100.0)
    change = _median(made, Reconstructed.convergence)
    if np.isfinite(change):
        yield _most("speckle", "median last change of the phases", change, limits.phase_change, " rad")
    gain = _median(made, Reconstructed.contrast) / _median(raw, Bursts.contrast)
    yield _least("speckle", "contrast over that of the best raw frames", gain, limits.contrast_gain, "")


def _destretch(channel: Channel, limits: QualityConfig) -> Iterator[Check]:
    final = images_after(channel)
    if final is None:
        return
    residual = _median(final, Destretched.residual_px)
    yield _most("destretch", "median shift left over", residual, limits.residual_px, " px")
    share = find(final, Destretched.repaired)
    repaired = np.nan if share is None else float(np.mean(share, axis=0, dtype=np.float64).max(initial=0.0))
    yield _most("destretch", "repaired tiles of any kernel", 100 * repaired, limits.repaired_tiles, " %")
    ratio = _median(final, Destretched.sharpness_after) / _median(final, Destretched.sharpness_before)
    yield _least("destretch", "sharpness kept", 100 * ratio, limits.sharpness_kept, " %")


def _registration(channel: Channel, limits: QualityConfig) -> Iterator[Check]:
    found = channel.get(Registration)
    if found is None or channel.is_reference:
        return
    error = _median(found, Registration.uncertainty)
    yield _most("register", "error of the offset", error, limits.registration_arcsec, " arcsec")


def _pointing(channel: Channel, limits: QualityConfig) -> Iterator[Check]:
    found = channel.get(SolarPointing)
    if found is None:
        return
    error = _median(found, SolarPointing.uncertainty)
    yield _most("align", "error of the pointing", error, limits.pointing_arcsec, " arcsec")


def _median(product: StoreProduct | None, dataset: Dataset) -> float:
    """Median of what is known of a dataset; NaN for nothing."""
    found = find(product, dataset)
    if isinstance(found, Rows):
        found = found(slice(None))
    values = np.asarray([] if found is None else found, np.float64)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else np.nan
