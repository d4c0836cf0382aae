"""Stage export: one FITS file a frame, their table, the calibration images, the measured plate scale."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stillsun.config.schema import Missing
from stillsun.io.atomic import PART, write_whole
from stillsun.io.fitsfile import is_product, read_cards, write_product
from stillsun.products.base import find
from stillsun.products.calibration import Calibration
from stillsun.products.destretched import Destretched
from stillsun.products.sequence import CARDS, FILE, sequence_table, table_text
from stillsun.sky.header import HeaderTemplate, build_header
from stillsun.sky.validate import check_header
from stillsun.stages._cards import FrameCards, common_cards
from stillsun.stages._quality import image_cards, pixel_cards
from stillsun.stages._steps import processing_steps
from stillsun.stages.base import StageContext

_LOG = logging.getLogger(__name__)
# Frames between reading and writing at any time.
_IN_FLIGHT = 3
_CALIBRATION = (
    Calibration.dark,
    Calibration.flat,
    Calibration.gain,
    Calibration.target,
    Calibration.linegrid,
)
# The target, turned: the spectrograph's software looks for it.
_ORIENTED = "orientation_target"
_SCALE = "plate_scale.txt"
_Read = Callable[[int], tuple[np.ndarray, np.ndarray | None]]


def run(ctx: StageContext) -> list[Path]:
    """
    Write the channel's FITS files.

    Files of this digest that are whole, and newer than the products they are made of, stay untouched, so
    that an interrupted export goes on where it was. Files of the channel that an earlier run made of other
    things are removed, and said; those of these products stay, also if this run does not ask for them.

    Parameters
    ----------
    ctx : StageContext
        Reads ``bursts``, ``calibration``, ``speckle``, ``destretch``, and ``registration`` and
        ``pointing`` where they are.

    Returns
    -------
    list of Path
        Every file of the channel.
    """
    cards = FrameCards.read(ctx)
    sets: list[tuple[Path, str, _Read]] = [
        (ctx.paths.destretched, "1.5", partial(_destretched, ctx.destretched))
    ]
    if ctx.config.reconstructed:
        sets.append((ctx.paths.post_speckle, "1", lambda row: (ctx.image(row), None)))
    total = len(sets) * cards.frames
    files: list[Path] = []
    is_current = _currency(ctx)
    blank = ctx.config.missing is Missing.nan
    with _Writer(is_current, ctx.progress, total, blank) as writer:
        for directory, level, read in sets:
            template = HeaderTemplate(
                common_cards(ctx, cards, level), processing_steps(ctx, level), cards.comments
            )
            for row in range(cards.frames):
                path = directory / cards.file_name(row)
                files.append(path)
                writer.submit(
                    path, partial(read, row), template, cards.values(row, level) | {"FILENAME": path.name}
                )
    for directory in (ctx.paths.destretched, ctx.paths.post_speckle):
        _remove_stale(ctx, directory, cards.name_pattern, files)
    calibration = list(_calibration_files(ctx, is_current)) if ctx.config.calibration else []
    names = "|".join((_ORIENTED, *(d.name for d in _CALIBRATION)))
    stale = rf"{re.escape(ctx.name)}_({names})\.fits"
    _remove_stale(ctx, ctx.paths.directory, rf"{stale}|{re.escape(_SCALE)}", calibration)
    table = _table_file(ctx.paths.directory / FILE, files[: cards.frames])
    return [*files, *calibration, table]


def _destretched(images: Destretched, row: int) -> tuple[np.ndarray, np.ndarray | None]:
    """
    An image and its valid pixels; None: all of them.

    A frame that destretch could not move is as the camera saw it, and `valid` nowhere.
    """
    image = images.image(row)
    valid = images.valid(row).astype(bool) if Destretched.valid in images else None
    return image, valid if valid is not None and valid.any() and not valid.all() else None


class _Writer:
    """Writes files in a thread of its own while the next frames are read."""

    def __init__(
        self,
        is_current: Callable[[Path], bool],
        progress: Callable[[int, int], None],
        total: int,
        blank: bool,
    ) -> None:
        self._is_current, self._progress, self._total, self._blank = is_current, progress, total, blank
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stillsun-export")
        self._pending: list[Future[None]] = []
        self._done = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            while self._pending:
                self._finish_one()
        self._pool.shutdown(cancel_futures=True)

    def submit(
        self,
        path: Path,
        read: Callable[[], tuple[np.ndarray, np.ndarray | None]],
        template: HeaderTemplate,
        values: Mapping[str, Any],
    ) -> None:
        """Queue one file, unless it is there already."""
        if self._is_current(path):
            self._step()
            return
        while len(self._pending) >= _IN_FLIGHT:
            self._finish_one()
        self._pending.append(self._pool.submit(_write_frame, path, *read(), template, values, self._blank))

    def _finish_one(self) -> None:
        self._pending.pop(0).result()
        self._step()

    def _step(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)


def _currency(ctx: StageContext) -> Callable[[Path], bool]:
    """
    Tells whether a file needs no writing.

    A stage that is done again may end otherwise with the same digest: a person refuses the match to the
    Sun, a download succeeds now. So a file must not be older than the products either.
    """
    made = _made(ctx)
    return lambda path: is_product(path, ctx.digest) and path.stat().st_mtime_ns >= made


def _made(ctx: StageContext) -> int:
    """When the last of the products was made."""
    return max(store.path.stat().st_mtime_ns for store in ctx.products.values())


def _write_frame(
    path: Path,
    image: np.ndarray,
    valid: np.ndarray | None,
    template: HeaderTemplate,
    values: Mapping[str, Any],
    blank: bool,
) -> None:
    cards = pixel_cards(image, path, valid) | image_cards(image, valid, int(values["QUALITY"]))
    header = template.fill({**values, **cards, "DATE": _now()})
    if blank and valid is not None:
        image = np.where(valid, image, np.float32(np.nan))
    write_product(path, image, header, check_header, missing=blank)


def _calibration_files(ctx: StageContext, is_current: Callable[[Path], bool]) -> Iterator[Path]:
    calibration = ctx.calibration
    wanted = [(dataset.name, dataset) for dataset in _CALIBRATION]
    for name, dataset in (*wanted, (_ORIENTED, Calibration.target)):
        if dataset not in calibration:
            continue
        path = ctx.paths.directory / f"{ctx.name}_{name}.fits"
        if not is_current(path):
            image, said = dataset.read(calibration.store), "In camera orientation; the frames are turned by"
            if name == _ORIENTED:
                image, said = (
                    np.ascontiguousarray(ctx.orientation.apply(image)),
                    "Turned as the frames are, by",
                )
            shared = common_cards(ctx, None, "0.5")
            header = build_header(
                {
                    **shared,
                    "NAXIS1": image.shape[1],
                    "NAXIS2": image.shape[0],
                    "FILENAME": path.name,
                    "DATE": _now(),
                    "BTYPE": dataset.name.capitalize(),
                    "BUNIT": None if name == "gain" else "DN",
                    **pixel_cards(image, path),
                },
                comments=[f"{said}: {ctx.orientation.text}"],
            )
            write_product(path, image, header, partial(check_header, frame=False))
        yield path
    if find(calibration, Calibration.plate_scale_source) == "line grid":
        yield _scale_file(ctx.paths.directory / _SCALE, calibration.plate_scale)


def _scale_file(path: Path, scale: np.ndarray) -> Path:
    """The measured plate scale as text for ``numpy.loadtxt``: x, y, arcsec per pixel."""
    text = "".join(f"{value:.8f}\n" for value in scale)
    if not path.is_file() or path.read_text() != text:
        write_whole(path, text)
    return path


def _table_file(path: Path, files: Sequence[Path]) -> Path:
    """The table of the images, from the headers of their files."""
    text = table_text(
        sequence_table(
            (read_cards(file, CARDS) for file in files),
            (f.relative_to(path.parent).as_posix() for f in files),
        )
    )
    if not path.is_file() or path.read_text() != text:
        write_whole(path, text)
    return path


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _remove_stale(ctx: StageContext, directory: Path, pattern: str, keep: Sequence[Path]) -> None:
    """Remove this channel's files that are older than its products, and what a kill left."""
    if not directory.is_dir():
        return
    wanted, made = {p.name for p in keep if p.parent == directory}, _made(ctx)
    names = re.compile(rf"({pattern})({re.escape(PART)})?")
    found = [p for p in sorted(directory.iterdir()) if p.name not in wanted and names.fullmatch(p.name)]
    old = [p for p in found if p.suffix == PART or p.stat().st_mtime_ns < made]
    for path in old:
        path.unlink()
    if old:
        said = "%s: removed %d files of an earlier reduction, from %s on, in %s"
        _LOG.warning(said, ctx.name, len(old), old[0].name, directory)
    if not any(directory.iterdir()):
        directory.rmdir()
