"""One FITS file from an array and a header: checksums, check, and only then its name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from stillsun.errors import InputError
from stillsun.io._fitscards import CARD, read_header
from stillsun.io.atomic import replacing

_BLOCK = 2880
_ONES = 0xFFFFFFFF


def write_product(
    path: Path,
    image: Any,
    header: fits.Header,
    check: Callable[[fits.Header], Sequence[str]] | None = None,
    *,
    missing: bool = False,
) -> Path:
    """
    Write a one-HDU FITS file under a temporary name, and rename it when it is right.

    The bytes depend on image and header only: the checksum cards carry no time.

    Parameters
    ----------
    path : Path
        Final path; an existing file is replaced in one step.
    image : array_like, shape (y, x)
        Pixels, written as float32.
    header : astropy.io.fits.Header
        Cards; the structural ones are set here.
    check : callable, optional
        Takes the complete header and returns findings; see `stillsun.sky.validate.check_header`.
    missing : bool, optional
        NaN may stand for pixels that came from nowhere.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    InputError
        If the image is not two-dimensional and finite, or the check finds something.
    """
    path = Path(path)
    pixels = np.asarray(image, dtype=np.float32)
    wrong = np.isinf(pixels) if missing else ~np.isfinite(pixels)
    if pixels.ndim != 2 or wrong.any():
        raise InputError(
            "not an image that can be written", file=path, expected="finite values (y, x)", found=pixels.shape
        )
    hdu = fits.PrimaryHDU(pixels.astype(">f4"), header=header)
    # The default comment would be the time of day.
    hdu.add_checksum(when="of this HDU")
    if check is not None and (findings := check(hdu.header)):
        raise InputError("the header is not complete: " + "; ".join(findings), file=path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as handle:
        handle.write(hdu.header.tostring().encode("ascii"))
        hdu.data.tofile(handle)
        handle.write(b"\0" * (-hdu.data.nbytes % _BLOCK))
    return path


def read_cards(path: Path, names: Collection[str]) -> dict[str, Any]:
    """
    Read some values of a file's first header, and nothing else of it.

    Parameters
    ----------
    path : Path
        FITS file.
    names : collection of str
        Keywords.

    Returns
    -------
    dict
        Value by keyword, as astropy reads it; without those that are not there.

    Raises
    ------
    InputError
        If it is no FITS file.
    """
    with Path(path).open("rb", buffering=0) as handle:
        header = read_header(handle.fileno(), 0, Path(path), "the file")
    cards = [header[at : at + CARD] for at in range(0, len(header), CARD)]
    values: dict[str, Any] = {}
    for number, card in enumerate(cards):
        name = card[:8].decode("ascii", "replace").rstrip()
        if name not in names or card[8:9] != b"=":
            continue
        # A long text goes on in the cards behind it.
        last = number + 1
        while last < len(cards) and cards[last].startswith(b"CONTINUE"):
            last += 1
        with suppress(fits.VerifyError, ValueError):
            values[name] = fits.Card.fromstring(b"".join(cards[number:last])).value
    return values


def is_product(path: Path, digest: str) -> bool:
    """
    Tell whether a file is finished, whole and made from the same things.

    Parameters
    ----------
    path : Path
        FITS file.
    digest : str
        What its ``DIGEST`` card must say.

    Returns
    -------
    bool
        True where card, size and checksum are right.

    Notes
    -----
    Seaman, Pence & Rots (2012), FITS checksum proposal.
    """
    try:
        with Path(path).open("rb") as handle:
            header = fits.Header.fromfile(handle)
            size = header["NAXIS1"] * header["NAXIS2"] * abs(header["BITPIX"]) // 8
            if header.get("DIGEST") != digest or "CHECKSUM" not in header:
                return False
            expected = handle.tell() + size + (-size % _BLOCK)
            handle.seek(0)
            words = np.fromfile(handle, dtype=">u4")
    except (OSError, EOFError, KeyError, ValueError):
        return False
    if words.nbytes != expected:
        return False
    # CHECKSUM is chosen so that the words of the whole HDU add up to minus zero, in ones' complement.
    total = int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & _ONES) + (total >> 32)
    return total == _ONES
