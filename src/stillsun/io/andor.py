"""How the images lie in spool files: by ``acquisitionmetadata.ini`` beside them, or by their overscan."""

from __future__ import annotations

import configparser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillsun.errors import InputError
from stillsun.io.foreign import LARGEST_FRAME, chip_size, open_regular, read_text, reading
from stillsun.io.source import WORD, frame_bytes

OVERSCAN = (2, 12)
"""Rows and columns of a spool file beyond the image."""
FULL_CHIP = (2048, 2048)
FILE = "acquisitionmetadata.ini"
_LARGEST = 65536
_MOST_IMAGES = 100_000
# Both put a pixel into a word of 16 bits.
_READ = ("Mono16", "Mono12")
_REMEDY = "Correct it or move it away, or exclude these spool files by the pattern"


@dataclass(frozen=True)
class SpoolForm:
    """
    How the images lie in the spool files of a directory.

    Attributes
    ----------
    file : Path
        Where it is stated.
    shape : tuple of int
        (rows, columns) of the image.
    row_words : int
        16-bit words from row to row.
    image_bytes : int
        Bytes from image to image.
    images : int
        Images in a file.
    """

    file: Path
    shape: tuple[int, int]
    row_words: int
    image_bytes: int
    images: int

    @property
    def file_bytes(self) -> int:
        """Size of a spool file."""
        return self.image_bytes * self.images


def read_form(directory: Path) -> SpoolForm | None:
    """
    Read how the images lie in the spool files of a directory.

    Parameters
    ----------
    directory : Path
        Directory of the spool files.

    Returns
    -------
    SpoolForm or None
        None where no ``acquisitionmetadata.ini`` is beside them.

    Raises
    ------
    InputError
        If the file is damaged, or states an encoding that is not read.
    """
    path = directory / FILE
    if not path.exists():
        return None
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    text = read_text(path, _LARGEST, remedy=_REMEDY).lstrip("\ufeff")
    with reading(path, "damaged", remedy=_REMEDY):
        parser.read_string(text)
        data = parser["data"]
        rows, columns, stride = (int(data[name]) for name in ("AOIHeight", "AOIWidth", "AOIStride"))
        encoding = data["PixelEncoding"].strip()
        image_bytes = int(data.get("ImageSizeBytes", str(rows * stride)))
        images = parser.getint("multiimage", "ImagesPerFile", fallback=1)
    if encoding not in _READ:
        raise InputError(
            "pixels in an encoding that is not read",
            file=path,
            expected=" or ".join(_READ),
            found=encoding,
            remedy="Convert the files to 16 bits a pixel, or exclude them by the pattern",
        )
    if (
        not chip_size(rows, columns)
        or not WORD * columns <= stride <= 2**20
        or not rows * stride <= image_bytes <= 2**32
        or stride % WORD
        or image_bytes % WORD
        or not 0 < images <= _MOST_IMAGES
    ):
        raise InputError(
            "the numbers do not fit together",
            file=path,
            expected="rows of AOIStride bytes, AOIHeight of them within ImageSizeBytes",
            found=f"{rows} x {columns} pixels, {stride} bytes a row, {image_bytes} an image, {images} a file",
            remedy=_REMEDY,
        )
    return SpoolForm(path, (rows, columns), stride // WORD, image_bytes, images)


def spool_form(
    files: Sequence[Path],
    shape: tuple[int, int] | None = None,
    file_shape: tuple[int, int] | None = None,
) -> SpoolForm:
    """
    Find how the images lie in spool files.

    Parameters
    ----------
    files : sequence of Path
        Spool files.
    shape : tuple of int, optional
        (rows, columns) of the image.
    file_shape : tuple of int, optional
        (rows, columns) of the file.

    Returns
    -------
    SpoolForm
        As ``acquisitionmetadata.ini`` states; else as given; else as the overscan of the first file shows.

    Raises
    ------
    InputError
        If the sources contradict each other, or none tells.
    """
    stated = [form for place in sorted({file.parent for file in files}) if (form := read_form(place))]
    for form in stated:
        first = stated[0]
        if (form.shape, form.row_words, form.image_bytes, form.images) != (
            *(first.shape, first.row_words, first.image_bytes, first.images),
        ):
            raise InputError("the directories differ in read-out", file=form.file, expected=first, found=form)
    if stated:
        if shape not in (None, stated[0].shape):
            raise InputError(
                "the configuration states another size of the image",
                file=stated[0].file,
                expected=f"{stated[0].shape[0]} rows x {stated[0].shape[1]} columns, as here",
                found=f"camera.shape={list(shape or ())}",
                remedy="Set camera.shape of the channel to the read-out, or move a wrong file away",
            )
        return stated[0]
    if shape is None:
        shape, file_shape = _seen_shapes(files[0])
    whole = file_shape or (shape[0] + OVERSCAN[0], shape[1] + OVERSCAN[1])
    if whole[0] < shape[0] or whole[1] < shape[1]:
        raise InputError(
            "camera.file_shape is smaller than camera.shape", expected=f"at least {shape}", found=whole
        )
    return SpoolForm(files[0], shape, whole[1], frame_bytes(whole), 1)


def _seen_shapes(file: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """
    Image and file size of a spool file.

    A windowed read-out is told by its overscan: the one way to lay out the pixels in rows so that the
    last rows and columns, and no more, are zero.
    """
    size = file.stat().st_size
    full = (FULL_CHIP[0] + OVERSCAN[0], FULL_CHIP[1] + OVERSCAN[1])
    if size == frame_bytes(full):
        return FULL_CHIP, full
    found = []
    words = np.zeros(0, dtype=np.uint16)
    if 0 < size <= WORD * LARGEST_FRAME and size % WORD == 0:
        with open_regular(file) as opened:
            words = np.frombuffer(opened.read(size), dtype=np.uint16)
    for columns in range(OVERSCAN[1] + 8, words.size // (OVERSCAN[0] + 8) + 1):
        rows = words.size // columns
        if rows * columns != words.size:
            continue
        frame = words.reshape(rows, columns)
        image = frame[: -OVERSCAN[0], : -OVERSCAN[1]]
        empty = not frame[-OVERSCAN[0] :].any() and not frame[:, -OVERSCAN[1] :].any()
        if empty and image[-1].any() and image[:, -1].any():
            found.append(((rows - OVERSCAN[0], columns - OVERSCAN[1]), (rows, columns)))
    if len(found) != 1:
        raise InputError(
            "the size of the frames cannot be told",
            file=file,
            expected=f"{FILE} beside it, the full chip, or rows that end in overscan",
            found=f"{size} bytes",
            remedy="Set camera.shape and camera.file_shape of the channel to the read-out",
        )
    return found[0]
