"""What a frame file says of the quality of its image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stillsun.core.quality import centre_of, frame_quality, median_gradient_similarity
from stillsun.core.summary import summarise
from stillsun.errors import InputError
from stillsun.products.base import find, series
from stillsun.products.bursts import STATE, Bursts
from stillsun.products.destretched import Destretched
from stillsun.products.flags import Flag
from stillsun.stages.base import StageContext

# Share of the median light level below which an image is dim; of its exposures, of pixels from nowhere.
_DIM, _FEW, _MANY = 0.7, 0.5, 0.1
_UNSTEADY_PX = 0.5
_DATA = {"minimum": "MIN", "maximum": "MAX", "mean": "MEAN", "median": "MEDN", "rms": "RMS"}


def quality_columns(ctx: StageContext, used: np.ndarray, *, registered: bool) -> dict[str, np.ndarray]:
    """
    Cards on the quality of the images, one value an image, from the records of the stages.

    Parameters
    ----------
    ctx : StageContext
        Context of the export.
    used : numpy.ndarray, shape (n,)
        Exposures that each image is made of.
    registered : bool
        The channel is the reference, or registered to it.

    Returns
    -------
    dict
        By keyword.
    """
    bursts, images = ctx.bursts, ctx.destretched
    columns: dict[str, np.ndarray] = {"IMG_NUM": np.arange(bursts.rows)}
    taken = np.asarray(bursts.frames_used)
    columns["NEXPLOST"] = np.maximum(taken - used, 0)
    for card, dataset in (("RAW_BEG", Bursts.first_file), ("RAW_END", Bursts.last_file)):
        if (files := find(bursts, dataset)) is not None:
            columns[card] = np.array([Path(str(name)).name for name in files])
    if (first := find(bursts, Bursts.first_frame)) is not None:
        columns["RAW_NUM"] = np.asarray(first)
    repaired = find(images, Destretched.repaired)
    if repaired is not None:
        columns["DSREPAIR"] = np.asarray(100 * np.mean(repaired, axis=1, dtype=np.float64))
    residual = np.asarray(images.residual_px, np.float64)
    columns["DSRESID"] = np.asarray(residual)
    wrong = {Flag.few_exposures: used < _FEW * taken, Flag.unsteady: residual > _UNSTEADY_PX}
    match = find(images, Destretched.match)
    if match is not None:
        wrong |= {Flag.unlike: match == 0, Flag.poor: match == 1}
    level = series(bursts, Bursts.light_level)
    if level is not None:
        wrong[Flag.dim] = level < _DIM * np.nanmedian(level)
    told = [np.isfinite(getattr(bursts, name)) for name in STATE]
    wrong[Flag.no_log] = ~np.any(told, axis=0)
    pointed = ctx.best_pointing().method != "unknown"
    wrong |= {Flag.not_pointed: np.array(not pointed), Flag.not_registered: np.array(not registered)}
    flags = np.zeros(bursts.rows, np.int64)
    for flag, where in wrong.items():
        flags |= np.where(where, int(flag), 0)
    return columns | {"QUALITY": flags}


def pixel_cards(image: np.ndarray, path: Path, valid: np.ndarray | None = None) -> dict[str, float]:
    """
    Cards on the range of the pixels.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns) float32.
    path : Path
        File, for errors.
    valid : numpy.ndarray, optional
        (rows, columns) bool; False where a pixel came from nowhere.

    Returns
    -------
    dict
        By keyword.

    Raises
    ------
    InputError
        If a pixel that counts is not finite.
    """
    try:
        summary = summarise(image if valid is None else image[valid], "numpy")
    except InputError as error:
        raise InputError(error.message, file=path) from error
    return {f"DATA{short}": getattr(summary, long) for long, short in _DATA.items()}


def image_cards(image: np.ndarray, valid: np.ndarray | None, flags: int) -> dict[str, float | int]:
    """
    Cards on how good an image is, from its pixels.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns) float32, finite.
    valid : numpy.ndarray or None
        (rows, columns) bool; False where a pixel came from nowhere.
    flags : int
        What is known without the pixels.

    Returns
    -------
    dict
        By keyword.
    """
    centre = centre_of(image.shape)
    middle = np.ascontiguousarray(image[centre])
    known = middle if valid is None else np.where(valid[centre], middle, np.float32(np.nan))
    missing = 0 if valid is None else int(image.size - np.count_nonzero(valid))
    return {
        "MFGS": median_gradient_similarity(known),
        "CONTRAST": float(frame_quality(middle[None], backend="numpy")[0][0]),
        "NTOTPIX": image.size,
        "NMASKPIX": missing,
        "PCT_MASK": 100 * missing / image.size,
        "QUALITY": flags | (int(Flag.many_missing) if missing > _MANY * image.size else 0),
    }
