"""
Damage at random: small right files of every kind, mutations of them, and the reader of each kind.

``scripts/fuzz`` runs this for as long as wanted, in processes with bounds; ``tests/io/test_fuzz.py`` runs a
few hundred cases and all those that were kept under ``tests/data/fuzz``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np
from astropy.io import fits
from tests.io import _rawfiles

from stillsun.config.compose import load_settings
from stillsun.config.importini import import_ini
from stillsun.io._storestate import part_progress, stored_digest
from stillsun.io.goes import read_goes
from stillsun.io.hardcam import open_hardcam
from stillsun.io.legacy_fits import read_facts, read_image
from stillsun.io.observationfile import observation_text
from stillsun.io.rosa import open_rosa
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.io.telemetry import read_telescope_log
from stillsun.stages._earlierfiles import places

ROSA = "das1_rosa_2025-09-03_14.21.52_0000.fit"
SHAPE = (24, 40)


@dataclass(frozen=True)
class Target:
    """A kind of file: its name, how a right one is made and read, whether it carries sums, or takes long."""

    file: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    summed: bool = False
    slow: bool = False


def _frames(count: int = 3) -> np.ndarray:
    rows = np.arange(SHAPE[0])[:, None]
    noise = np.random.default_rng(1).integers(0, 200, (count, *SHAPE))
    return (3000 + 40 * rows + noise).astype(np.uint16)


def _rosa(path: Path, *, checksum: bool = False) -> None:
    times = _rawfiles.START + np.arange(3) * np.timedelta64(33, "ms")
    units = [_rawfiles.rosa_hdu(f, t, k) for k, (f, t) in enumerate(zip(_frames(), times, strict=True))]
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(path, checksum=checksum)


def _packed(path: Path, coding: str = "RICE_1", *, checksum: bool = False) -> None:
    units: list[object] = [fits.PrimaryHDU()]
    for frame in _frames():
        tile = SHAPE if coding == "HCOMPRESS_1" else (1, SHAPE[1])
        units.append(fits.CompImageHDU(frame, compression_type=coding, tile_shape=tile))
        units[-1].header["DATE"] = "2025-09-03T14:21:52.456"
    fits.HDUList(units).writeto(path, checksum=checksum)


def _read_rosa(path: Path) -> np.ndarray:
    source = open_rosa([path])
    return source.read(0, source.shape[0])


def _spool(path: Path) -> None:
    _rawfiles.write_hardcam(path.parent, _frames(1))


def _ini(path: Path) -> None:
    _spool(path)
    path.write_text(
        "\ufeff[data]\r\nAOIHeight = 24\r\nAOIWidth = 40\r\nAOIStride = 104\r\nPixelEncoding = Mono16\r\n"
        "ImageSizeBytes = 2704\r\n\r\n[multiimage]\r\nImagesPerFile = 1\r\n"
    )


def _read_spool(path: Path) -> np.ndarray:
    source = open_hardcam(sorted(path.parent.glob("*spool.dat")), start=_rawfiles.START, interval_s=0.03)
    return source.read(0, source.shape[0])


def _log(path: Path) -> None:
    lines = []
    for k in range(8):
        time = _rawfiles.START + np.timedelta64(10 * k, "s")
        lines += [f"DST_TIME= '{time}' / UTC", f"DST_SLAT= {1.5 * k} / deg", f"DST_GDRN= {k} / deg"]
        lines += [f"TIME {str(time)[11:21]}", "DATE 09/03/25", f"VTT SLNG {k}", f"VTT SDIM {1900 + k}"]
    path.write_text("\n".join(lines))


def _goes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["time"] = 60.0 * np.arange(1, 30)
        file["time"].attrs["units"] = "seconds since 2000-01-01 12:00:00"
        for name in ("xrsa", "xrsb"):
            file[f"{name}_flux"] = np.full(29, 1e-7, np.float32)
            file[f"{name}_flux"].attrs["units"] = "W/m2"
            file[f"{name}_flags"] = np.zeros(29, np.uint16)


def _legacy(path: Path) -> None:
    hdu = fits.PrimaryHDU(np.linspace(900, 1100, 24 * 40, dtype=np.float32).reshape(SHAPE))
    for card in (
        ("DATE-BEG", "2025-09-03T14:21:52.456"),
        ("CTYPE1", "HPLN-TAN"),
        ("CRVAL1", 3.5),
        ("NSUMEXP", 64),
    ):
        hdu.header[card[0]] = card[1]
    hdu.writeto(path)


def _read_legacy(path: Path) -> np.ndarray:
    read_facts(path)
    return read_image(path)


def _placed(path: Path) -> None:
    """Coordinates in other units, with a matrix and a reference pixel beside the image."""
    _legacy(path)
    cards = {
        "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "deg", "CUNIT2": "deg", "CRVAL1": 0.08,
        "CRVAL2": -0.03, "CRPIX1": -30.5, "CRPIX2": 9.0, "CDELT1": 2e-5, "CDELT2": 2e-5, "PC1_1": 0.8,
        "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8, "CROTA2": 12.0, "LONPOLE": 180.0, "DSUN_OBS": 1.5e11,
        "HGLN_OBS": 0.0, "HGLT_OBS": 7.2, "RSUN_REF": 6.957e8,
    }  # fmt: skip
    with fits.open(path, mode="update") as units:
        for key, value in cards.items():
            units[0].header[key] = value


def _read_placed(path: Path) -> object:
    (place,) = places([read_facts(path)])
    # A place is known, or it is not.
    assert np.isfinite(place).all() or np.isnan(place).all(), place
    return place


def _observation(path: Path) -> None:
    path.write_text(
        "# A night.\nname: night\nraw_dir: /data/raw\nwork_dir: work\ntelescope_log: null\n"
        "reference_channel: ROSA_GBAND\ndefaults:\n  - /channel@channels.ROSA_GBAND: rosa_gband\n  - _self_\n"
        "telescope: {guider_sign: -1, height_m: 2804.0}\nchannels:\n  ROSA_GBAND:\n"
        "    plate_scale: [0.06, 0.06]\n    exposure_ms: 6.0\n    orientation: [rot90, fliplr]\n"
        '    data: {directory: das1, pattern: "das1_*.fit"}\n    destretch:\n      kernels: [0, 64]\n'
        "  OTHER: &other\n    camera: {shape: [100, 120], saturation: 60000}\n    wavelength_nm: 656.3\n"
        "    plate_scale: ${..ROSA_GBAND.plate_scale}\n    exposure_ms: 29.4\n"
        "    start: 2025-09-03T14:21:52\n    data: {pattern: '*spool.dat'}\n"
    )


def _compose(path: Path) -> object:
    return load_settings([f"observation_file={path}"])


def _night_ini(path: Path) -> None:
    path.write_text(
        "[SHARED]\nDCSSLog=/data/LOG\nreferenceChannel=ROSA_GBAND\nsolarAlign=True\n\n[ROSA_GBAND]\n"
        "DataBase=/data/rosa\nworkBase=/data/%(obsDate)s/gband\nburstNumber=64\nobsDate=20250903\n"
        "obsTime=142152\nexpTimems=10\ndataFilePattern=das1_rosa_2025-09-03_14.21.52_*.fit\n"
        "darkFilePattern=das1_rosa_dark_*.fit\nflatFilePattern=das1_rosa_flat_*.fit\nwavelengthnm=430.5\n"
        "kisipArcsecPerPixX=0.0601\nkisipArcsecPerPixY=0.06\nchannelTranslation=rot90,fliplr\n"
        "dstrKernel=0,128,64,32,12\ndstrMethod=running\ndstrWindow=10\nflowWindow=None\n\n[ZYLA]\n"
        "dataBase=/data/zyla\nworkBase=/data/20250903/halpha\ndataFilePattern=*spool.dat\nobsDate=20250903\n"
        "obsTime=142152\n\n[KISIP_METHOD]\nkisipMethodMethod=1\nkisipMethodSubfieldArcsec=5\n"
    )


def _import(path: Path) -> object:
    """The import, and what it writes: that is read again."""
    found = import_ini(path)
    written = path.with_name("imported.yaml")
    written.write_text(observation_text(found.observation))
    return load_settings([f"observation_file={written}"])


def _store(path: Path) -> None:
    layout = Layout(3, {"image": Field(SHAPE, "float32"), "x": Field(), "name": Field((), "str", length=8)})
    with create_store(path, layout, "d") as store:
        for row in range(3):
            store.write("image", _frames()[row], row)
            store.write("x", row, row)
            store.write("name", "é", row)
            store.mark(row)
        store.write_notes(["a note"])


def _read_store(path: Path) -> object:
    """As status and a run do: what is not sound is not made."""
    part_progress(path)
    if stored_digest(path) is None:
        return None
    with StoreReader(path) as store:
        return [store.attributes, store.notes, store.done(), *(store.read(name) for name in store.names())]


TARGETS = {
    "rosa": Target(ROSA, _rosa, _read_rosa),
    "rosa-sums": Target(ROSA, lambda p: _rosa(p, checksum=True), _read_rosa, summed=True),
    "packed": Target(ROSA + ".fz", _packed, _read_rosa),
    "packed-sums": Target(ROSA + ".fz", lambda p: _packed(p, checksum=True), _read_rosa, summed=True),
    "gzip": Target(ROSA + ".fz", lambda p: _packed(p, "GZIP_2"), _read_rosa),
    "hcompress": Target(ROSA + ".fz", lambda p: _packed(p, "HCOMPRESS_1"), _read_rosa),
    "spool": Target("0000000000spool.dat", _spool, _read_spool),
    "spool-ini": Target("acquisitionmetadata.ini", _ini, _read_spool),
    "log": Target("log.txt", _log, read_telescope_log),
    "goes": Target("goes.nc", _goes, read_goes),
    "legacy": Target("a.fits", _legacy, _read_legacy),
    "legacy-wcs": Target("a.fits", _placed, _read_placed),
    "observation": Target("a.yaml", _observation, _compose, slow=True),
    "ini": Target("night.ini", _night_ini, _import, slow=True),
    "store": Target("a.h5", _store, _read_store),
}
_WORDS = (
    *(b"1E400", b"-1", b"99999999999999999999", b"0", b"NaN", b"\xff", b"'", b"END", b"\0" * 64, b" " * 80),
    *(b"-32768", b"2147483647", b"SIMPLE", b"XTENSION", b"\n", b"/", b"T"),
)


@cache
def seed_file(name: str) -> bytes:
    """A right file of a kind."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as place:
        target.make(Path(place) / target.file)
        return (Path(place) / target.file).read_bytes()


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a file at one to six places: bits, bytes, words, parts left out or repeated, its end."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 7)) if rng.random() < 0.5 else 1):
        at = int(rng.integers(0, max(1, len(data))))
        kind = int(rng.integers(0, 10))
        length = int(2 ** rng.uniform(0, 12))
        if kind <= 2 and data:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 3 and data:
            data[at] = int(rng.integers(0, 256))
        elif kind == 4:
            word = _WORDS[int(rng.integers(0, len(_WORDS)))]
            data[at : at + len(word)] = word
        elif kind == 5:
            del data[at : at + length]
        elif kind == 6:
            data[at:at] = data[at : at + length]
        elif kind == 7:
            data[at : at + length] = bytes(min(length, len(data) - at))
        elif kind == 8 and rng.random() < 0.3:
            del data[at:]
        elif kind == 9:
            # The value of a card, with its length kept.
            at -= at % 80
            value = _WORDS[int(rng.integers(0, len(_WORDS)))].strip(b"\0 \n").rjust(20)
            data[at + 10 : at + 30] = value
    return bytes(data)


def run_case(name: str, number: int, place: Path, content: bytes | None = None) -> str:
    """
    Read one mutation.

    Returns
    -------
    str
        "right" (read as the right file is), "read", "refused", or what is wrong with the reader.
    """
    from stillsun.errors import StillsunError

    target = TARGETS[name]
    rng = np.random.default_rng([number, *name.encode()])
    content = mutate(seed_file(name), rng) if content is None else content
    path = place / target.file
    if name.startswith("spool"):
        target.make(path)
    path.write_bytes(content)
    try:
        found = target.read(path)
    except StillsunError as error:
        # What is wrong must be found with the file's name, or by its key.
        named = error.file is not None or getattr(error, "findings", None)
        return "refused" if named else f"no file named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        for file in place.iterdir():
            file.unlink()
    if target.summed and content != seed_file(name):
        path.write_bytes(seed_file(name))
        right = target.read(path)
        path.unlink()
        # A file that ends with a unit may have had no more; zeros behind the last one carry no sum.
        same = len(found) > 0 and np.array_equal(found, right[: len(found)])
        return "right" if same else "damage was accepted although the file carries sums"
    return "read"
