"""The few conditions that must hold before a channel's products are trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stillsun.config.schema import QualityConfig, SpeckleEngine
from stillsun.io.store import StoreReader
from stillsun.qa.products import ChannelProducts

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


def checklist(
    products: ChannelProducts, limits: QualityConfig, *, is_reference: bool, files: int | None = None
) -> list[Check]:
    """
    Judge the products of a channel that there are; only small datasets are read.

    Parameters
    ----------
    products : ChannelProducts
        The channel.
    limits : QualityConfig
        The limits.
    is_reference : bool
        The channel is the reference channel.
    files : int, optional
        FITS files of final frames; None: not exported.

    Returns
    -------
    list of Check
        In the order of the stages; nothing of stages without a product.
    """
    found = [*_calibration(products, limits), *_bursts(products, limits), *_speckle(products, limits)]
    found += _destretch(products, limits)
    found += [*_registration(products, limits, is_reference), *_pointing(products, limits)]
    if files is not None and products.after is not None:
        rows = products.after.rows
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


def _calibration(products: ChannelProducts, limits: QualityConfig) -> Iterator[Check]:
    store = products.inputs.get("calibration")
    if store is None:
        return
    bad = store.read("bad_pixels") != 0
    yield _most("calibrate", "bad pixels", 100 * float(bad.mean()), limits.bad_pixels, " %")
    needed = ("dark_variance", "flat_variance", "dark_frames", "flat_frames")
    noise = np.nan
    if all(name in store for name in needed):
        dark, flat, darks, flats = (np.asarray(store.read(name), np.float64) for name in needed)
        signal = store.read("flat").astype(np.float64) - store.read("dark")
        good = ~bad & (signal > 0)
        if good.any():
            noise = float(np.median(np.sqrt(dark / darks + flat / flats)[good] / signal[good]))
    yield _most("calibrate", "noise of the gain", 100 * noise, limits.gain_noise, " %")


def _bursts(products: ChannelProducts, limits: QualityConfig) -> Iterator[Check]:
    store = products.inputs.get("bursts")
    if store is None:
        return
    attributes = store.attributes
    share = np.nan
    if "frames_dropped" in attributes:
        dropped, used = int(attributes["frames_dropped"]), store.rows * int(attributes["frames_per_burst"])
        share = dropped / max(1, dropped + used)
    yield _most("assemble", "frames in no burst", 100 * share, limits.unused_frames, " %")


def _speckle(products: ChannelProducts, limits: QualityConfig) -> Iterator[Check]:
    store = products.before
    if store is None or products.options["speckle"].engine is SpeckleEngine.none:
        return
    r0 = _median(store, "r0")
    yield _least("speckle", "median Fried parameter", r0, limits.fried_cm / 100, " cm", 100.0)
    change = _median(store, "convergence")
    if np.isfinite(change):
        yield _most("speckle", "median last change of the phases", change, limits.phase_change, " rad")
    raw = products.inputs.get("bursts")
    gain = np.nan if raw is None else _median(store, "contrast") / _median(raw, "contrast")
    yield _least("speckle", "contrast over that of the best raw frames", gain, limits.contrast_gain, "")


def _destretch(products: ChannelProducts, limits: QualityConfig) -> Iterator[Check]:
    store = products.after
    if store is None:
        return
    residual = _median(store, "residual_px")
    yield _most("destretch", "median shift left over", residual, limits.residual_px, " px")
    repaired = np.nan
    if "repaired" in store:
        by_kernel = np.asarray(store.read("repaired"), np.float64).mean(axis=0)
        repaired = float(by_kernel.max(initial=0.0))
    yield _most("destretch", "repaired tiles of any kernel", 100 * repaired, limits.repaired_tiles, " %")
    ratio = _median(store, "sharpness_after") / _median(store, "sharpness_before")
    yield _least("destretch", "sharpness kept", 100 * ratio, limits.sharpness_kept, " %")


def _registration(products: ChannelProducts, limits: QualityConfig, is_reference: bool) -> Iterator[Check]:
    store = products.inputs.get("registration")
    if store is None or is_reference:
        return
    error = _median(store, "uncertainty")
    yield _most("register", "error of the offset", error, limits.registration_arcsec, " arcsec")


def _pointing(products: ChannelProducts, limits: QualityConfig) -> Iterator[Check]:
    store = products.inputs.get("pointing")
    if store is None:
        return
    error = _median(store, "uncertainty")
    yield _most("align", "error of the pointing", error, limits.pointing_arcsec, " arcsec")


def _median(store: StoreReader, name: str) -> float:
    """Median of what is known of a dataset; NaN for nothing."""
    values = np.asarray(store.read(name), np.float64) if name in store else np.array([])
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else np.nan
