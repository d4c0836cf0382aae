"""Coordinates of a cube whose pointing follows the Sun: a table of each image's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS


def tabular_wcs(headers: Sequence[fits.Header], seconds: np.ndarray, shape: tuple[int, int]) -> WCS:
    """
    One coordinate system for all images of a sequence.

    Each image's own coordinates are kept at its corners, and between them they are linear: over a field of
    an arcminute that is right to a few milliarcseconds of the gnomonic projection.

    Parameters
    ----------
    headers : sequence of astropy.io.fits.Header
        Of each image, at least two.
    seconds : numpy.ndarray, shape (n,)
        Times of the images from that of the first, ascending.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    astropy.wcs.WCS
        Three axes, ``HPLN-TAB``, ``HPLT-TAB`` (arcsec) and ``UTC--TAB`` (s, from ``DATEREF``).

    Notes
    -----
    Greisen, Calabretta, Valdes & Allen (2006), Astronomy & Astrophysics 446, 747: the -TAB algorithm.
    """
    rows, columns = shape
    corners = np.array([[x, y] for y in (1, rows) for x in (1, columns)], np.float64)
    # (time, y, x, what): FITS counts the axes of the table the other way round.
    table = np.empty((len(headers), 2, 2, 3))
    for number, header in enumerate(headers):
        world = WCS(header).all_pix2world(corners, 1) * 3600.0
        world[:, 0] = (world[:, 0] + 648000.0) % 1296000.0 - 648000.0
        table[number, ..., :2] = world.reshape(2, 2, 2)
        table[number, ..., 2] = seconds[number]
    index: dict[str, Sequence[float] | np.ndarray] = {
        "X": (1.0, float(columns)),
        "Y": (1.0, float(rows)),
        "T": np.arange(1.0, len(headers) + 1),
    }
    names = "HPLN+HPLT+TIME"
    made = [fits.Column(names, f"{table.size}D", dim=f"(3,2,2,{len(headers)})", array=table[None])]
    made += [
        fits.Column(f"{axis}-INDEX", f"{len(values)}D", dim=f"({len(values)})", array=np.array([values]))
        for axis, values in index.items()
    ]
    extension = fits.BinTableHDU.from_columns(made, name="WCS-TAB")
    cards = fits.Header()
    cards["WCSAXES"] = 3
    kinds = (("HPLN-TAB", "arcsec"), ("HPLT-TAB", "arcsec"), ("UTC--TAB", "s"))
    for axis, ((kind, unit), letter) in enumerate(zip(kinds, index, strict=True), start=1):
        cards[f"CTYPE{axis}"], cards[f"CUNIT{axis}"] = kind, unit
        cards[f"CRPIX{axis}"], cards[f"CRVAL{axis}"], cards[f"CDELT{axis}"] = 1.0, 1.0, 1.0
        cards[f"PS{axis}_0"], cards[f"PS{axis}_1"] = "WCS-TAB", names
        cards[f"PS{axis}_2"] = f"{letter}-INDEX"
        cards[f"PV{axis}_1"], cards[f"PV{axis}_2"], cards[f"PV{axis}_3"] = 1, 1, axis
    first = headers[0]
    cards["DATEREF"], cards["TIMESYS"] = first["DATE-AVG"], "UTC"
    cards["MJDREF"] = first["MJD-AVG"]
    for name in ("DSUN_OBS", "HGLN_OBS", "HGLT_OBS", "RSUN_REF"):
        if name in first:
            cards[name] = first[name]
    found = WCS(cards, fobj=fits.HDUList([fits.PrimaryHDU(), extension]))
    found.array_shape = (len(headers), rows, columns)
    return found
