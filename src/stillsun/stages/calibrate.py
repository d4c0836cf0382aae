"""Darks, flats, targets and line grids to the calibration product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from stillsun.config.schema import CalibrateConfig, Combine
from stillsun.core.badpixels import DEAD, HOT, UNSTABLE, find_bad_pixels, find_unstable_pixels
from stillsun.core.batch import RawBlock
from stillsun.core.calibrate import (
    Correction,
    correct_frames,
    correct_image,
    gain_table,
    make_correction,
    response_table,
)
from stillsun.core.calibrate_in_time import between, make_drifting
from stillsun.core.linegrid import measure_line_grid
from stillsun.core.statistics import FrameStatistics
from stillsun.errors import InputError
from stillsun.io.inventory import find_files, open_source
from stillsun.io.source import FrameSource
from stillsun.products.calibration import GRID, MEANS, SEQUENCES, TARGET, Calibration
from stillsun.stages._averages import Average, average_roles
from stillsun.stages.base import StageContext

_FIDUCIALS = ("target", "linegrid")
# Exposures of darks and flats that differ by more are said: the dark current grows with the exposure.
_EXPOSURE_TOLERANCE = 0.05
# A measured plate scale that differs by more from the configured one is not believed (SSOSoft manual,
# section 7.2: "if the calculated version is more than 10% different, these values will be used").
_SCALE_TOLERANCE = 0.1


def run(ctx: StageContext) -> None:
    """
    Average the calibration frames, and store all that calibrates the data.

    Parameters
    ----------
    ctx : StageContext
        Context; reads raw files only.

    Raises
    ------
    InputError
        If files are missing or damaged, of different shape, or the flats are darker than the darks.
    """
    config: CalibrateConfig = ctx.config
    sources = {role: open_source(ctx.observation, ctx.settings, role) for role in ("dark", "flat")}
    for role in _FIDUCIALS:
        if find_files(ctx.observation, ctx.settings, role):
            sources[role] = open_source(ctx.observation, ctx.settings, role)
        elif getattr(ctx.settings, role).pattern is not None:
            ctx.note(f"no {role} files: the channel is reduced without")
    for role, source in sources.items():
        for finding in source.findings:
            ctx.note(f"{role}: {finding}")
    _check_exposures(ctx, sources)

    averages = average_roles(ctx, sources)
    means = {role: average.whole for role, average in averages.items()}
    dark, flat = means["dark"], means["flat"]
    gain = gain_table(flat.mean, dark.mean)
    bad = find_bad_pixels(
        dark.mean, flat.mean, dead_fraction=config.dead_fraction, hot_sigma=config.hot_sigma
    ) | find_unstable_pixels(
        dark.mean, flat.mean, dark.variance, flat.variance, unstable_sigma=config.unstable_sigma
    )
    drift = _drift(averages) if config.combine is Combine.interpolate else {}
    if drift:
        bad[(drift["flat_responses"] == 0).any(axis=0)] |= DEAD
    _note_pixels(ctx, bad, flat)
    correction = make_correction(dark.mean, gain, bad, backend=ctx.backend)
    first = make_drifting(**drift, bad_pixels=bad, backend=ctx.backend).first if drift else correction

    images = {
        "dark": dark.mean,
        "flat": flat.mean,
        "gain": gain,
        "dark_variance": dark.variance,
        "flat_variance": flat.variance,
        "bad_pixels": bad,
        **{role: correct_image(means[role].mean, correction) for role in _FIDUCIALS if role in means},
    }
    # The noise is made of the first flats, which the first sequence of flats makes even.
    noise = _noise(sources["flat"], flat, config.noise_frames, first)
    scale, scatter, origin = _plate_scale(ctx, images.get("linegrid"))
    rows, columns = sources["dark"].shape[1:]
    parts = [
        part
        for part, there in ((TARGET, TARGET in images), (GRID, GRID in images), (SEQUENCES, drift))
        if there
    ]
    sizes = {"darks": len(averages["dark"].times), "flats": len(averages["flat"].times), "noise": len(noise)}
    fields = Calibration.fields(
        MEANS, *parts, rows=rows, columns=columns, target_rows=rows, target_columns=columns, **sizes
    )
    with ctx.create(1, fields, {}) as store:
        for name, image in {**images, **drift}.items():
            store.write(name, image)
        store.write("noise", noise)
        store.write("plate_scale", scale)
        store.write("plate_scale_scatter", scatter)
        store.write("plate_scale_source", origin)
        for role in ("dark", "flat"):
            store.write(f"{role}_frames", means[role].frames)
            store.write(f"{role}_rejected", len(means[role].outliers) + len(means[role].saturated))
        store.mark(0)


def _drift(averages: Mapping[str, Average]) -> dict[str, np.ndarray]:
    """What `stillsun.core.calibrate_in_time.make_drifting` takes, as it is stored."""
    dark, flat = averages["dark"], averages["flat"]
    darks = np.array([part.mean for part in dark.parts])
    responses = [
        response_table(part.mean, between(darks, dark.times, time))
        for part, time in zip(flat.parts, flat.times, strict=True)
    ]
    return {
        "dark_sequences": darks.astype(np.float32),
        "dark_times": dark.times,
        "flat_responses": np.array(responses),
        "flat_times": flat.times,
    }


def _noise(flats: FrameSource, mean: FrameStatistics, frames: int, correction: Correction) -> np.ndarray:
    """Calibrated flat frames: the first good ones, from as many files as it takes."""
    refused = {*mean.outliers, *mean.saturated}
    chosen = [k for k in range(flats.shape[0]) if k not in refused][:frames]

    def blocks() -> Iterator[RawBlock]:
        for run in np.split(np.array(chosen), np.flatnonzero(np.diff(chosen) != 1) + 1):
            yield from flats.blocks(int(run[0]), int(run[-1]) + 1)

    corrected = correct_frames(blocks(), correction)
    return np.asarray(corrected.get() if correction.backend.is_gpu else corrected)


def _plate_scale(ctx: StageContext, linegrid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Plate scale (x, y), its scatter and where it comes from."""
    configured = np.array(ctx.settings.plate_scale, dtype=np.float64)
    unknown = np.full(2, np.nan)
    if linegrid is None or not ctx.config.measure_plate_scale:
        return configured, unknown, "configured"
    try:
        found = measure_line_grid(
            linegrid, (configured[0], configured[1]), spacing_arcsec=ctx.config.line_spacing_arcsec
        )
    except InputError as error:
        ctx.note(f"linegrid: {error.message} ({error.found}): the configured plate scale is used")
        return configured, unknown, "configured"
    measured = np.array(found.plate_scale)
    if (np.abs(measured / configured - 1) > _SCALE_TOLERANCE).any():
        ctx.note(
            f"linegrid: the plate scale {measured[0]:.5f}, {measured[1]:.5f} arcsec/px differs by more than "
            f"{_SCALE_TOLERANCE:.0%} from the configured one, which is used"
        )
        return configured, unknown, "configured"
    return measured, np.array(found.scatter), "line grid"


def _check_exposures(ctx: StageContext, sources: Mapping[str, FrameSource]) -> None:
    dark, flat = sources["dark"].exposure_s, sources["flat"].exposure_s
    if abs(dark - flat) > _EXPOSURE_TOLERANCE * max(dark, flat):
        ctx.note(f"darks were exposed for {dark * 1e3:.4g} ms, flats for {flat * 1e3:.4g} ms")


def _note_pixels(ctx: StageContext, bad: np.ndarray, flat: FrameStatistics) -> None:
    if bad.any():
        dead, hot, unstable = (int(np.count_nonzero(bad & flag)) for flag in (DEAD, HOT, UNSTABLE))
        ctx.note(f"{dead} dead, {hot} hot and {unstable} unstable pixels are filled from their neighbours")
    saturated = float(np.mean(flat.mean >= ctx.settings.camera.saturation))
    if saturated > 0:
        ctx.note(f"{saturated:.2%} of the flat is saturated ({ctx.settings.camera.saturation} DN)")
