"""Movies, decoded again: frames, times, marker, grey scale."""

from __future__ import annotations

import itertools
import sys

import h5py
import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
from tests.qa._night import START, Night, context

from stillsun.config.schema import MovieConfig
from stillsun.core.orient import Orientation
from stillsun.errors import InputError
from stillsun.products.placement import Placement, System
from stillsun.qa.film import Film
from stillsun.qa.plots import MARGINS
from stillsun.qa.series import Line, Panel
from stillsun.qa.video import write_video
from stillsun.qa.view import View, frame_raster
from stillsun.sky import xrays
from stillsun.stages import movie

PRODUCTS = ("bursts", "destretch")
PLACED = (*PRODUCTS, "registration", "pointing")


def _quiet(**keys) -> MovieConfig:
    """Options without a download."""
    return MovieConfig(goes_download=False, **keys)


@pytest.fixture
def decode():
    """Frames of a movie, (frames, height, width, 3) uint8, and its frame rate."""
    av = pytest.importorskip("av", reason="the extra 'movie' is not installed")

    def read(path):
        with av.open(str(path)) as container:
            rate = float(container.streams.video[0].average_rate)
            return np.array([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]), rate

    return read


def _film(night: Night, size: int = 128, limits=(700.0, 1300.0), curves: int = 3) -> Film:
    """As the movies of a night with a telescope log: brightness, light level, scintillation."""
    rows, columns = night.scene.shape
    place = Placement(((columns + 1) / 2, (rows + 1) / 2), (0.05, 0.06), (0.0, 0.0), 0.0, System.own)
    view = View(place, frame_raster(place, (rows, columns), size), limits)
    panels = [Panel("mean", [Line("", night.levels / night.levels.mean())])] * curves
    return Film([("A", view)], night.times, panels)


def _marker(picture: np.ndarray) -> float:
    """Column of the marker of the light curve."""
    red = np.array(matplotlib.colors.to_rgb("#d1351b")) * 255
    near = np.abs(picture[..., :3].astype(float) - red).sum(axis=2) < 90
    return float(np.flatnonzero(near.sum(axis=0) > 50).mean())


def test_movie_shows_every_frame_at_its_rate(tmp_path, decode):
    night = Night(9)
    ctx = context(tmp_path, {"A": (night, PRODUCTS)}, _quiet(frame_rate=12.5, size=128))
    files = movie.run(ctx)
    assert files == [tmp_path / "context_movies" / "A.mp4"]
    frames, rate = decode(files[0])
    assert (len(frames), rate) == (9, 12.5)
    place = _film(night).image_places[0]
    for shown, truth in zip(frames, night.after(), strict=True):
        seen = shown[place][..., 0][::-1].astype(float)
        assert np.corrcoef(seen.ravel(), truth.ravel())[0, 1] > 0.98
    assert not list(tmp_path.rglob("*.part"))


def test_marker_and_stamp_follow_time(tmp_path, decode):
    night = Night(6)
    night.times = START + np.array([0.0, 2.0, 4.0, 6.0, 8.0, 18.0])
    files = movie.run(context(tmp_path, {"A": (night, PRODUCTS)}, _quiet(size=128)))
    frames, _ = decode(files[0])
    columns = np.array([_marker(frame) for frame in frames])
    steps = np.diff(columns)
    assert steps[:4] == pytest.approx(np.full(4, steps[:4].mean()), abs=1.5)
    assert steps[4] == pytest.approx(5 * steps[:4].mean(), abs=3)
    top = _film(night).image_places[0][0].start
    stamps = frames[:, : top - 4].astype(float)
    for one, other in itertools.pairwise(stamps):
        assert np.abs(one - other).max() > 100


def test_one_grey_scale_for_the_series(tmp_path, decode):
    night = Night(7)
    night.seeing_blur[:] = 1.0
    night.levels[3] = 930.0
    files = movie.run(context(tmp_path, {"A": (night, PRODUCTS)}, _quiet(size=128)))
    frames, _ = decode(files[0])
    brightness = frames[(slice(None), *_film(night).image_places[0])][..., 0].mean(axis=(1, 2))
    assert np.ptp(np.delete(brightness, 3)) < 2
    assert brightness[3] < brightness[2] - 15


@pytest.mark.parametrize(("clip", "share"), [(0.3, 0.003), (20.0, 0.2)])
def test_clip(tmp_path, decode, clip, share):
    night = Night(3)
    night.seeing_blur[:] = 0.5
    files = movie.run(context(tmp_path, {"A": (night, PRODUCTS)}, _quiet(size=128, clip=clip)))
    frames, _ = decode(files[0])
    seen = frames[(slice(None), *_film(night).image_places[0])][..., 0]
    assert np.mean(seen > 250) == pytest.approx(share, abs=0.3 * share + 0.01)


def test_size_and_even_sides(tmp_path, decode):
    night = Night(2, (97, 131))
    heights = {}
    for size in (64, 131, 400):
        work = tmp_path / str(size)
        frames, _ = decode(movie.run(context(work, {"A": (night, PRODUCTS)}, _quiet(size=size)))[0])
        assert all(n % 2 == 0 for n in frames.shape[1:3])
        place = _film(night, size).image_places[0]
        heights[size] = place[0].stop - place[0].start
    assert heights == {64: 32, 131: 97, 400: 3 * 97}


def test_frames_that_are_not_finite_are_black():
    night = Night(3)
    film = _film(night)
    picture = film.frame([np.full(night.scene.shape, np.nan, np.float32)], 0)
    assert picture[film.image_places[0]][..., :3].max() == 0


def test_composed_frame_is_exact():
    night = Night(3)
    film = _film(night)
    image = night.after()[1]
    seen = film.frame([image], 1)[film.image_places[0]][..., 0][::-1]
    truth = np.clip((image - 700.0) / 600.0 * 255, 0, 255)
    assert np.abs(seen - truth).max() <= 1.01
    again = film.frame([night.after()[2]], 2).copy()
    film.frame([image], 1)
    np.testing.assert_array_equal(film.frame([night.after()[2]], 2), again)


def test_overrides_of_a_channel_count(tmp_path, decode):
    ctx = context(tmp_path, {"A": (Night(2), PRODUCTS), "B": (Night(2), PRODUCTS)}, _quiet(together=False))
    ctx.channels["B"].options["movie"] = _quiet(frame_rate=5.0)
    assert [decode(f)[1] for f in movie.run(ctx)] == [15.0, 5.0]


def test_before_destretch_too(tmp_path, decode):
    night = Night(3)
    config = _quiet(reconstructed=True, size=128)
    files = movie.run(context(tmp_path, {"A": (night, (*PRODUCTS, "speckle"))}, config))
    assert [f.name for f in files] == ["A.mp4", "A_reconstructed.mp4"]
    frames, _ = decode(files[1])
    truth = Orientation.from_steps([turn.name for turn in night.orientation]).apply(night.before())
    seen = frames[(slice(None), *_film(night).image_places[0])][:, ::-1, :, 0].astype(float)
    for one, other in zip(seen, truth, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98


def test_all_channels_on_the_same_coordinates(tmp_path, decode):
    """One scene through two cameras: the second lies elsewhere on it, and is half as fast."""
    nights = {"A": (Night(6), PLACED), "B": (Night(3), PLACED)}
    a, b = (night for night, _ in nights.values())
    b.offset[:] = (8, -12)
    b.scene = np.roll(a.scene, (-12, 8), axis=(0, 1))
    b.times = a.times[::2] + 0.2
    for night in (a, b):
        night.seeing_blur[:] = 1.0
    files = movie.run(context(tmp_path, nights, _quiet(size=256)))
    assert [f.name for f in files] == ["A.mp4", "B.mp4", "all_channels.mp4"]
    frames, _ = decode(files[-1])
    assert len(frames) == 6
    left, right = np.split(frames[..., 0].astype(float), 2, axis=2)
    inner = np.s_[:, 60:140, 200:300]
    assert np.corrcoef(left[inner].ravel(), right[inner].ravel())[0, 1] > 0.97


def test_channels_that_cannot_be_placed_have_no_common_movie(tmp_path, decode):
    ctx = context(tmp_path, {"A": (Night(2), PLACED), "B": (Night(2), PRODUCTS)}, _quiet(size=128))
    assert [f.name for f in movie.run(ctx)] == ["A.mp4", "B.mp4"]
    assert "no movie of all channels: it is not known how B lie on the others" in ctx.notes


def test_x_ray_flux(tmp_path, decode):
    _goes_file(tmp_path / "goes.nc", START)
    heights = {}
    for name, start in (("with", START), ("later", START + 1e6)):
        night = Night(3)
        night.times = start + np.arange(3.0)
        config = _quiet(size=128, goes_file=str(tmp_path / "goes.nc"))
        ctx = context(tmp_path / name, {"A": (night, PRODUCTS)}, config)
        heights[name] = decode(movie.run(ctx)[0])[0].shape[1]
        assert any("no X-ray flux" in note for note in ctx.notes) is (name == "later")
    assert heights["with"] > heights["later"] + 50


def _goes_file(path, start):
    with h5py.File(path, "w") as file:
        file["time"] = start - 946728000.0 + np.arange(-5.0, 30.0)
        file["time"].attrs["units"] = "seconds since 2000-01-01 12:00:00"
        file["xrsa_flux"] = np.full(35, 1e-8)
        file["xrsb_flux"] = np.geomspace(1e-6, 1e-4, 35)
    return path


def test_x_ray_flux_of_the_archive(tmp_path, monkeypatch):
    pytest.importorskip("av", reason="the extra 'movie' is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    def fetch(day, cache):
        asked.append(day)
        cache.mkdir(parents=True)
        return _goes_file(cache / "sci_xrsf-l2-avg1m_g18_d20240830_v2-2-0.nc", START)

    monkeypatch.setattr(xrays, "_fetch", fetch)
    for name in "ab":
        ctx = context(tmp_path / name, {"A": (Night(3), PRODUCTS)}, MovieConfig(size=128))
        movie.run(ctx)
        assert ctx.notes == []
    assert asked == ["2024-08-30"]


def test_an_archive_out_of_reach_is_said_once(tmp_path, monkeypatch):
    pytest.importorskip("av", reason="the extra 'movie' is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def fetch(day, cache):
        raise InputError("no X-rays here", remedy="Look up")

    monkeypatch.setattr(xrays, "_fetch", fetch)
    ctx = context(tmp_path, {"A": (Night(2), PRODUCTS)}, MovieConfig(size=128))
    assert [f.name for f in movie.run(ctx)] == ["A.mp4"]
    assert ctx.notes == ["no X-ray flux in the movies: no X-rays here. Look up"]


def test_a_picture_of_every_frame(tmp_path, decode):
    night = Night(3)
    old = tmp_path / "context_movies" / "A" / "00007.png"
    old.parent.mkdir(parents=True)
    old.touch()
    files = movie.run(context(tmp_path, {"A": (night, PRODUCTS)}, _quiet(size=128, frame_pictures=True)))
    names = [f"A/{k:05d}.png" for k in range(3)]
    assert [str(f.relative_to(tmp_path / "context_movies")) for f in files] == ["A.mp4", *names]
    assert not old.exists()
    place = _film(night).image_places[0]
    for file, truth in zip(files[1:], night.after(), strict=True):
        seen = 255 * matplotlib.image.imread(file)[place][..., 0][::-1]
        assert np.corrcoef(seen.ravel(), truth.ravel())[0, 1] > 0.99
    movie.run(context(tmp_path, {"A": (night, PRODUCTS)}, _quiet(size=128)))
    assert not list(tmp_path.rglob("*.png"))


def test_a_contact_sheet_shows_the_whole_sequence(tmp_path):
    night = Night(9, (90, 120))
    night.seeing_blur[:] = 1.0
    night.levels[:] = 1000.0 + 40 * np.arange(9)
    files = movie.run(context(tmp_path, {"A": (night, PRODUCTS)}, _quiet(size=128, contact_sheet=4)))
    assert files[-1] == tmp_path / "context_movies" / "A_sheet.png"
    drawn = matplotlib.image.imread(files[-1])[..., 0]
    left, right, bottom, top = MARGINS
    # Enlarged to thrice: 360 x 270 and their margins, two by two; frames 0, 3, 5 and 8.
    step = (270 + bottom + top, 360 + left + right)
    assert drawn.shape == (2 * step[0], 2 * step[1])
    seen = [
        drawn[j * step[0] + top + 5 : j * step[0] + top + 265, i * step[1] + left + 5 :][:, :350].mean()
        for j, i in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    assert np.diff(seen) / np.diff([0, 3, 5, 8]) == pytest.approx(np.full(3, np.diff(seen)[0] / 3), rel=0.2)


def test_pictures_need_no_encoder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    config = _quiet(size=128, frame_pictures=True, contact_sheet=2)
    assert movie.run(context(tmp_path, {"A": (Night(2), PRODUCTS)}, config)) is None
    found = sorted(str(p.relative_to(tmp_path / "context_movies")) for p in tmp_path.rglob("*.png"))
    assert found == ["A/00000.png", "A/00001.png", "A_sheet.png"]


def test_channel_without_frames_is_named(tmp_path):
    pytest.importorskip("av", reason="the extra 'movie' is not installed")
    nights = {"A": (Night(2), PRODUCTS), "B": (Night(2), ("bursts", "speckle"))}
    stale = tmp_path / "context_movies" / "B.mp4"
    stale.parent.mkdir()
    stale.touch()
    seen = []
    ctx = context(tmp_path, nights, _quiet(), progress=lambda done, total: seen.append((done, total)))
    assert [f.name for f in movie.run(ctx)] == ["A.mp4"]
    assert ctx.notes == [
        "no movie of B: there are no destretched frames, or their times are not known",
        "no X-ray flux in the movies: movie.goes_file is not given, nor a download wanted",
    ]
    assert not stale.exists()
    assert seen == sorted(seen)
    assert seen[-1] == (100, 100)


def test_without_encoder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    ctx = context(tmp_path, {"A": (Night(2), PRODUCTS)}, _quiet())
    assert movie.run(ctx) is None
    assert not (tmp_path / "context_movies").exists()
    assert "pip install 'stillsun[movie]'" in ctx.notes[0]


def test_same_frames_give_the_same_bytes(tmp_path):
    pytest.importorskip("av", reason="the extra 'movie' is not installed")
    nights = {"A": (Night(5), PRODUCTS)}
    movies = [movie.run(context(tmp_path / name, nights, _quiet()))[0].read_bytes() for name in "ab"]
    assert movies[0] == movies[1]


def test_interrupted_movie_has_no_name(tmp_path):
    pytest.importorskip("av", reason="the extra 'movie' is not installed")

    def pictures():
        yield np.zeros((64, 64, 4), np.uint8)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_video(tmp_path / "a.mp4", pictures(), 10.0)
    assert not (tmp_path / "a.mp4").exists()
