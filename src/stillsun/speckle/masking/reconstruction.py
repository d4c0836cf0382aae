"""A burst of short exposures becomes one image: the open speckle reconstruction."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from stillsun.core.backend import Backend, get_backend, to_host
from stillsun.errors import ConfigError
from stillsun.speckle.engine import Progress, Reconstruction
from stillsun.speckle.masking.adaptive import AdaptiveFit, adaptive_model
from stillsun.speckle.masking.adaptive_field import Field
from stillsun.speckle.masking.amplitude import object_spectrum
from stillsun.speckle.masking.assembly import Mosaic, SubfieldKeeper
from stillsun.speckle.masking.device import DeviceWorker
from stillsun.speckle.masking.geometry import Lattice, inner_lattice, subfield_lattice, subfield_size
from stillsun.speckle.masking.host import HostWorker
from stillsun.speckle.masking.limb import with_dark_sky
from stillsun.speckle.masking.limits import check_ranges, plate_scale_of
from stillsun.speckle.masking.methods import METHODS
from stillsun.speckle.masking.noise import FlatFrames, subfield_noise
from stillsun.speckle.masking.powers import LEAST_INNER, BurstPowers, burst_powers
from stillsun.speckle.masking.prepare import PreparedBurst, prepare, smooth_background
from stillsun.speckle.masking.ratio import SeeingFit, seeing_model
from stillsun.speckle.masking.subfield import Geometry, SubfieldResult
from stillsun.speckle.masking.tracking import frame_shifts

log = logging.getLogger(__name__)

_ARCSEC = np.pi / 648_000
# Subfields follow the frame within this many arcsec.
_REACH_ARCSEC = 0.45
# D/r0 below this cannot be told from no seeing at all.
_WEAKEST = 0.2
_LEAST_FREQUENCIES = 24


def reconstruct(
    burst: Any,
    plate_scale: float | tuple[float, float],
    wavelength: float,
    diameter: float = 762.0,
    noise: Any = None,
    deconvolve: bool = True,
    backend: Backend | str | None = None,
    *,
    method: str = "triple_correlation",
    subfield_arcsec: float = 7.0,
    phase_limit: float = 95.0,
    u_limit: float = 10.0,
    v_limit: float = 10.0,
    max_iterations: int = 10,
    snr_keep: float = 80.0,
    weight_exponent: float = 1.2,
    apodisation: float = 30.0,
    noise_filter: bool = True,
    ao_used: bool = False,
    ao_modes: int = 65,
    ao_lock_x: float = -1,
    ao_lock_y: float = -1,
    ao_field_arcsec: float = 8.0,
    ao_order: float = 8.0,
    ao_lag_ms: float = 2.0,
    exposure_ms: float = 0.0,
    wind: float = 10.0,
    pixel_mtf: bool = False,
    keep_subfields: bool = False,
    progress: Progress | None = None,
) -> Reconstruction:
    """
    Reconstruct one image from a burst of short exposures by speckle masking.

    Parameters
    ----------
    burst : array_like
        Calibrated frames, (frames, rows, columns), any real type; used as float32.
    plate_scale : float or tuple of float
        Arcsec per pixel, one value or (x, y).
    wavelength : float
        Nanometres.
    diameter : float, optional
        Telescope diameter, millimetres.
    noise : array_like or FlatFrames, optional
        Burst of calibrated flat frames, (frames, rows, columns), for the shape of the noise's power. Without
        it, or if its frames are all alike, the noise is taken as white. For many bursts give
        `stillsun.speckle.masking.noise.FlatFrames`, which measure their noise once.
    deconvolve : bool, optional
        Divide by the transfer function of the telescope too; if not, the image is as a perfect telescope of
        that diameter would show it.
    backend : Backend or str, optional
        Where to compute; the burst may already be there.
    method : {"triple_correlation", "knox_thompson"}, optional
        Way to the phases.
    subfield_arcsec : float, optional
        Side of a subfield, arcsec.
    phase_limit : float, optional
        Highest frequency whose phase is reconstructed, per cent of the diffraction limit.
    u_limit, v_limit : float, optional
        Limits of the bispectrum, per cent of the diffraction limit: one of the vectors u, v, u + v is not
        longer than `v_limit` and one has an x component not larger than `u_limit`. For Knox-Thompson: of the
        difference of two frequencies.
    max_iterations : int, optional
        Sweeps over the phase equations at most.
    snr_keep : float, optional
        Per cent of the bispectrum (of the cross-spectra) that is used, best first.
    weight_exponent : float, optional
        Weights are the signal-to-noise ratio to this power.
    apodisation : float, optional
        Per cent of a subfield's side on which its window falls, both sides together.
    noise_filter : bool, optional
        Damp frequencies where noise prevails.
    ao_used : bool, optional
        Adaptive optics corrected the wavefront: transfer functions are those of a partly corrected one, which
        change over the field. A burst in which no correction is seen is taken as uncorrected, with a note.
        If not, the seeing is taken as uncorrected but for image motion (tip-tilt).
    ao_modes : int, optional
        Zernike modes after piston, in Noll's order, that were corrected, 3 to 66: at most, for how far the
        correction reaches is found from the burst.
    ao_lock_x, ao_lock_y : float, optional
        Column and row of the lock point, pixels, zero-based; the middle of the frame where negative.
    ao_field_arcsec : float, optional
        Side of the field that the wavefront sensor looks at.
    ao_order : float, optional
        Radial order of the modes of which half as much is corrected as of tip and tilt, above 1: the search
        for it begins there, and goes no farther from it than the burst asks for.
    ao_lag_ms : float, optional
        Time by which the mirror is behind, milliseconds; the air moves with `wind`.
    exposure_ms : float, optional
        Length of an exposure, milliseconds, in which air that moves washes out speckles; 0: an instant.
    wind : float, optional
        Speed of the lower of two layers of air, m/s; the upper one moves twice as fast and across.
    pixel_mtf : bool, optional
        Divide by the transfer function of pixels that integrate over their area.
    keep_subfields : bool, optional
        Return the subfields before they are put together as well.
    progress : callable, optional
        Called with (subfields done, subfields in all).

    Returns
    -------
    Reconstruction
        Image to the edge of the frame, Fried parameter at the observed wavelength, tracking.

    Raises
    ------
    ConfigError
        If an option is out of its range.
    InputError
        If the arrays do not fit, or subfield or frame are too small.
    ReconstructionError
        If the burst holds nothing that can be reconstructed.

    Notes
    -----
    Amplitudes after Labeyrie (1970) with the speckle transfer function that the spectral ratio
    (von der Luehe 1984) calls for, phases from the triple correlation (Weigelt 1977; Lohmann, Weigelt &
    Wirnitzer 1983; Pehlemann & von der Luehe 1989) or the cross-spectra of Knox & Thompson (1974) by
    phasor averaging (Matson 1991), per subfield.
    Frames are shifted by whole pixels only: interpolation would filter them and make the noise coloured.

    Memory: the burst as float32, and per thread about 12 bytes a frame and subfield pixel. On a GPU the burst
    and 40 % of its memory for the subfields in work.
    """
    scale_y, scale_x = plate_scale_of(plate_scale)
    if method not in METHODS:
        raise ConfigError("no such method of phase reconstruction", expected=", ".join(METHODS), found=method)
    check_ranges(
        wavelength=(wavelength, 0, np.inf),
        diameter=(diameter, 0, np.inf),
        subfield_arcsec=(subfield_arcsec, 0, np.inf),
        phase_limit=(phase_limit, 0, 100),
        u_limit=(u_limit, 0, 100),
        v_limit=(v_limit, 0, 100),
        snr_keep=(snr_keep, 0, 100),
        max_iterations=(max_iterations + 1, 0, np.inf),
        weight_exponent=(weight_exponent + 1, 0, np.inf),
        apodisation=(apodisation + 1, 0, 101),
        ao_modes=(ao_modes, 2, 66),
        ao_field_arcsec=(ao_field_arcsec + 1, 0, np.inf),
        ao_order=(ao_order, 1, np.inf),
        ao_lag_ms=(ao_lag_ms + 1, 0, np.inf),
        exposure_ms=(exposure_ms + 1, 0, np.inf),
        wind=(wind + 1, 0, np.inf),
    )
    backend = get_backend(backend)
    backend.use()
    prepared = prepare(burst, backend)
    shape = prepared.frames.shape[1:]
    size = subfield_size(subfield_arcsec, (scale_y, scale_x), shape)
    notes = [*prepared.notes]
    if size * np.sqrt(scale_y * scale_x) < 0.9 * subfield_arcsec:
        notes.append(f"subfields of {size} px: the frame is smaller than {subfield_arcsec:g} arcsec")
    limit = diameter * 1e-3 / (wavelength * 1e-9) * _ARCSEC
    geometry = Geometry(
        size=size,
        limits=(limit * scale_y, limit * scale_x),
        reach=min(max(3, round(_REACH_ARCSEC / min(scale_y, scale_x))), size // 8),
        phase_limit=phase_limit / 100,
        u_limit=u_limit / 100,
        v_limit=v_limit / 100,
        apodised=apodisation / 100,
    )
    if len(geometry.frequencies) < _LEAST_FREQUENCIES:
        raise ConfigError(
            "too few frequencies for a reconstruction",
            expected=f"at least {_LEAST_FREQUENCIES} within the phase limit",
            found=len(geometry.frequencies),
            remedy="Raise subfield_arcsec or phase_limit; check plate scale, wavelength and diameter",
        )
    flats = None
    if noise is not None:
        flats = (noise if isinstance(noise, FlatFrames) else FlatFrames(noise)).noise(shape, geometry)
    if noise is not None and flats is None:
        notes.append("no noise could be read from the noise frames: it was taken from the data")
    lattice = subfield_lattice(shape, size, geometry.apodised)
    surface = smooth_background(prepared, size, backend)
    shifts = frame_shifts(prepared.frames, prepared.scale, backend)
    data = prepared.frames, prepared.scale, surface, shifts, geometry
    worker = (DeviceWorker if backend.is_gpu else HostWorker)(
        *data,
        backend,
        method,
        snr_keep=snr_keep / 100,
        weight_exponent=weight_exponent,
        sweeps=max_iterations,
    )
    places = list(product(range(lattice.counts[0]), range(lattice.counts[1])))
    results = []
    for result in worker.reduce(lattice.corners):
        results.append(result)
        if progress is not None:
            progress(len(results), len(places))
    noise_power = subfield_noise(results, geometry, flats, prepared.level)
    powers = burst_powers(results, noise_power, lattice, len(prepared.frames))
    adaptive = None
    if ao_used:
        lock = _lock((ao_lock_y, ao_lock_x), shape)
        late = wind * ao_lag_ms * 1e-3
        field = Field(
            lattice,
            (scale_y, scale_x),
            lock,
            ao_modes,
            diameter * 1e-3,
            geometry.apodised,
            ao_field_arcsec,
            late,
        )
        adaptive = _fit_field(powers, geometry, field, ao_order)
        if adaptive is None:
            notes.append("no correction by adaptive optics is seen in the burst: reconstructed as without")
    if adaptive is not None:
        fit = adaptive.seeing
        log.info("speckle: %s", adaptive.turbulence)
    else:
        if np.count_nonzero(lattice.inner) < LEAST_INNER:
            inside = inner_lattice(shape, size, shifts)
            more = list(worker.reduce(inside.corners, phases=False))
            noise_there = subfield_noise(more, geometry, flats, prepared.level)
            powers = powers.judged_by(burst_powers(more, noise_there, inside, len(prepared.frames)))
        fit = _fit(powers, geometry, wind * exposure_ms / diameter, len(results))
    if fit.at_edge:
        notes.append(f"Fried parameter at the edge of the models (D/r0 = {fit.strength:g})")
    transfer = fit.speckle if deconvolve else fit.speckle / fit.telescope
    if pixel_mtf:
        transfer = transfer * geometry.pixel_transfer() ** 2
    model = _model(geometry)
    mosaic = Mosaic(lattice, geometry.window, backend)
    keeper = SubfieldKeeper(lattice, geometry, to_host(surface)) if keep_subfields else None

    def spectrum(index: int) -> np.ndarray:
        return object_spectrum(
            results[index],
            noise_power[index],
            transfer if adaptive is None else transfer[index],
            fit.ratio[index],
            len(prepared.frames),
            model,
            noise_filter=noise_filter,
        )

    if adaptive is None:
        images = worker.images(spectrum, results)
    else:
        images = adaptive.images(worker, spectrum, results, backend)
    for place, result, tile in zip(places, results, images, strict=True):
        mosaic.add(*place, tile, result.level)
        if keeper is not None:
            keeper.add(*place, to_host(tile), result.level)
    for note in notes:
        log.info("speckle: %s", note)
    image = with_dark_sky(mosaic.image() + surface, surface, prepared, backend)
    image = to_host(image * np.float32(prepared.level))
    subfields = None if keeper is None else keeper.finish(results, fit, model, prepared.level)
    outcome = _outcome(image, results, fit, prepared, lattice, diameter, len(burst))
    return replace(outcome, subfields=subfields, notes=tuple(notes))


def _outcome(
    image: np.ndarray,
    results: list[SubfieldResult],
    fit: SeeingFit,
    prepared: PreparedBurst,
    lattice: Lattice,
    diameter: float,
    frames: int,
) -> Reconstruction:
    counts = lattice.counts
    shifts = np.full((frames, 2, *counts), np.nan, dtype=np.float32)
    stacked = np.stack([r.shifts for r in results], axis=-1)
    shifts[prepared.used] = stacked.reshape(len(prepared.used), 2, *counts)
    metres = diameter * 1e-3
    return Reconstruction(
        image=image,
        r0=metres / max(fit.strength, _WEAKEST),
        r0_map=(metres / np.maximum(fit.local, _WEAKEST)).astype(np.float32).reshape(counts),
        shifts=shifts,
        convergence=np.array([r.change for r in results], dtype=np.float32).reshape(counts),
        centres=lattice.centres,
        used=prepared.used,
    )


def _model(geometry: Geometry, moved: float = 0.0) -> Any:
    return seeing_model(geometry.size, *geometry.limits, geometry.phase_limit, geometry.apodised, moved)


def _fit(powers: BurstPowers, geometry: Geometry, moved: float, count: int) -> SeeingFit:
    return _model(geometry, moved).fit(powers, count)


def _fit_field(powers: BurstPowers, geometry: Geometry, field: Field, order: float) -> AdaptiveFit | None:
    # Sums of matrix products depend on the number of threads, and a search makes much of little.
    with threadpool_limits(1, "blas"):
        model = adaptive_model(geometry.size, *geometry.limits, geometry.phase_limit, geometry.apodised)
        return model.fit_field(powers, field, order)


def _lock(place: tuple[float, float], shape: tuple[int, ...]) -> tuple[float, float]:
    y, x = (p if p >= 0 else (length - 1) / 2 for p, length in zip(place, shape, strict=True))
    return y, x
