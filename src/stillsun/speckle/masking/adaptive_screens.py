"""Makes the table of what a correlation tracker gains beyond its linear response, by Monte Carlo."""

from __future__ import annotations

import numpy as np
import scipy.fft

from stillsun.core.zernike import zernike_basis
from stillsun.speckle.engine import Progress
from stillsun.speckle.masking.adaptive_transfer import (
    TRACK_LIMIT,
    TrackingTable,
    features,
    object_power,
    residual_transfer,
)
from stillsun.speckle.masking.adaptive_wavefront import SCREEN_PIXELS, residual_wavefront
from stillsun.speckle.masking.screens import (
    exposure_transfer,
    phase_screen,
    round_pupil,
    tracked,
)

_MODES = (2, 5, 9, 14, 24, 35, 50, 65)
_EFFICIENCIES = (0.0, 0.5, 0.7, 0.85, 0.95)
# Pixels over the pupil.
_PUPIL = SCREEN_PIXELS
_GRID = 2 * _PUPIL
_SCREEN = 2048
_SCREENS = 6
_OUTER_SCALE = 26.0
# As many as the transforms have: the gain rises within a tenth of the diffraction limit.
_BINS = 32
_REFERENCE = np.array([0.125, 0.25])
_LAST = 0.72
_FINE = np.linspace(0.0, 1.0, 101)
_CHUNK = 25
_ROUNDS = 3
# Below this spectral ratio the scatter of the exposures decides.
_LEAST_RATIO = 0.04
# A loss is not known better than this.
_LEAST_LOSS = 0.03
# Keeps the coefficients small where features go together.
_RIDGE = 0.03


def simulate_tracking(
    *, cases: int = 800, exposures: int = 300, seed: int = 1, progress: Progress | None = None
) -> TrackingTable:
    """
    Compare a correlation tracker with its linear model in wavefronts corrected to many degrees.

    Parameters
    ----------
    cases : int, optional
        Random choices of D/r0 (3 to 16), modes, efficiency, share of the high layer, and distance.
    exposures : int, optional
        Wavefronts in each.
    seed : int, optional
        Seed of the random numbers.
    progress : callable, optional
        Called with (cases done, in all).

    Returns
    -------
    TrackingTable
        Least-squares coefficients of the logarithm of the gain in the spectral ratio.

    Notes
    -----
    The true tracker follows the brightest speckle, which is more than a tilt; where the seeing is strong
    that keeps up to twice the coherent power that the linear one does.
    """
    rng = np.random.default_rng(seed)
    screens = [s for _ in range(_SCREENS) for s in phase_screen(rng, _SCREEN, 1.0 / _PUPIL, _OUTER_SCALE)]
    pupil = round_pupil(_PUPIL)
    axis = np.arange(_GRID) - _GRID // 2
    q = scipy.fft.ifftshift(np.hypot(axis[:, None], axis)) / _PUPIL
    ring = np.minimum(np.rint(q * _BINS).astype(np.intp), _BINS)
    telescope = exposure_transfer(pupil, np.zeros((1, _PUPIL, _PUPIL), dtype=np.float32))[0].real
    seen = np.where((q > 0) & (q < TRACK_LIMIT), object_power(q), 0.0).astype(np.float32)

    def rings(values: np.ndarray) -> np.ndarray:
        return np.bincount(ring.ravel(), values.ravel(), _BINS + 1)[:_BINS]

    radii = rings(q) / rings(np.ones_like(q))
    terms, gains, weights = [], [], []
    for number in range(cases):
        # In order: the covariances of one number of modes are made once.
        modes = _MODES[number * len(_MODES) // cases]
        efficiency = float(rng.choice(_EFFICIENCIES))
        strength = float(np.exp(rng.uniform(np.log(3.0), np.log(16.0))))
        share = float(rng.uniform(0.1, 0.6))
        wavefront = residual_wavefront(modes)
        corrected = wavefront.corrected(efficiency)
        node = int(rng.integers(len(wavefront.distances)))
        moved = round(wavefront.distances[node] * _PUPIL)
        phases = _phases(rng, screens, pupil, exposures, modes, efficiency, share, moved)
        phases *= np.float32(strength ** (5 / 6))
        power, coherent = _tracked_power(pupil, phases, seen, telescope)
        ratio = rings(coherent) / rings(power)
        model = residual_transfer(corrected, [node], _FINE, strength, share)
        speckle, coherent = (
            rings(np.interp(q, _FINE, values) * telescope**2)
            for values in (model.speckle[0], model.coherent[0])
        )
        known = features(_FINE, model.coherent[0] / model.speckle[0], _REFERENCE)
        terms.append(np.stack([np.interp(radii, _FINE, row) for row in known]))
        gains.append(np.log(np.maximum(ratio, 1e-9) * speckle / coherent))
        # The more is lost, the more a mean scatters: near the lock point a thousandth counts.
        lost = np.maximum(1 - ratio, 0.0) + _LEAST_LOSS
        weights.append(np.where(ratio > _LEAST_RATIO, ratio / lost, 0.0))
        if progress is not None:
            progress(number + 1, cases)
    used = np.flatnonzero((radii > 0.5 / _BINS) & (radii < _LAST))
    found = [np.zeros(len(terms[0]))]
    for k in used:
        matrix, weight = np.array([t[:, k] for t in terms]), np.array([w[k] for w in weights])
        normal = (matrix.T * weight) @ matrix + _RIDGE * np.eye(matrix.shape[1])
        found.append(np.linalg.solve(normal, (matrix.T * weight) @ np.array([g[k] for g in gains])))
    return TrackingTable(np.concatenate([[0.0], radii[used]]), np.array(found), _REFERENCE)


def _phases(
    rng: np.random.Generator,
    screens: list[np.ndarray],
    pupil: np.ndarray,
    count: int,
    modes: int,
    efficiency: float,
    share: float,
    moved: int,
) -> np.ndarray:
    """Residual phases for D/r0 = 1 at a distance of so many pixels, (count, pupil, pupil) float32."""
    start = (_GRID - _PUPIL) // 2
    inner = slice(start, start + _PUPIL)
    inside = pupil[inner, inner] > 0
    axis = (np.arange(_PUPIL) - _PUPIL / 2 + 0.5) / (_PUPIL / 2)
    y, x = (part[inside] for part in np.meshgrid(axis, axis, indexing="ij"))
    # The soft edge reaches a little beyond the unit circle, where polynomials grow.
    radius = np.maximum(np.hypot(y, x), 1.0)
    basis = zernike_basis(x / radius, y / radius, modes + 1)
    solver = np.linalg.pinv(basis.T)[1:]
    phases = np.zeros((count, _PUPIL, _PUPIL), dtype=np.float32)
    for phase in phases:
        ground, high = (screens[i] for i in rng.choice(len(screens), 2, replace=False))
        places = rng.integers(0, _SCREEN - _PUPIL - moved, (2, 2))
        near, lock, far = (
            screen[r : r + _PUPIL, c : c + _PUPIL][inside] * np.sqrt(part)
            for screen, r, c, part in (
                (ground, *places[0], 1 - share),
                (high, *places[1], share),
                (high, places[1][0], places[1][1] + moved, share),
            )
        )
        left = near + far - efficiency * (solver @ (near + lock)) @ basis[1:]
        phase[inside] = left - left.mean()
    return phases


def _tracked_power(
    pupil: np.ndarray, phases: np.ndarray, seen: np.ndarray, telescope: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean power of the transfer function, and of its tracked mean without the bias of few."""
    count = len(phases)
    parts = np.array_split(phases, max(1, count // _CHUNK))
    transfers = [exposure_transfer(pupil, part) for part in parts]
    power = np.zeros(telescope.shape)
    for transfer in transfers:
        power += (np.abs(transfer) ** 2).sum(axis=0) / count
    mean = telescope.astype(np.complex64)
    for _ in range(_ROUNDS):
        reference = (seen * mean).astype(np.complex64)
        mean = np.sum([tracked(t, reference).sum(axis=0) for t in transfers], axis=0) / count
    return power, (count * np.abs(mean) ** 2 - power) / (count - 1)
