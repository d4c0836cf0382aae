"""Jobs of a sweep side by side; what the score rewards."""

from __future__ import annotations

import csv
import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.ndimage as ndimage

from stillsun.core.backend import get_backend
from stillsun.core.destretch import Destretcher
from stillsun.core.quality import frame_change, frame_quality
from stillsun.core.reference import RunningReference
from stillsun.pipeline.sweep import Figures, compare_jobs, record_job, score

CPU = get_backend("numpy", threads=2)
GOOD = Figures(residual_px=0.06, change_px=0.16, sharpness=1.0, kernel=12)
SHAPE = (200, 200)


@pytest.fixture(scope="module")
def noisy():
    """Frames of one scene of low contrast in seeing, and their pushes."""
    rng = np.random.default_rng(6)
    grid = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    scene = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2.5, mode="wrap")
    scene = 1000 + 50 * scene / scene.std()
    frames, pushes = [], []
    for _ in range(9):
        push = np.zeros((2, *SHAPE))
        for width in (24, 8):
            part = np.stack(
                [ndimage.gaussian_filter(rng.standard_normal(SHAPE), width, mode="wrap") for _ in range(2)]
            )
            push += 0.7 * part / part.std()
        push += rng.uniform(-2, 2, 2)[:, None, None]
        frame = ndimage.map_coordinates(scene, grid + push, order=3, mode="wrap")
        # Noise of reconstructed frames has the width of the resolution.
        noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 0.8, mode="wrap")
        frames.append((frame + 12 * noise / noise.std()).astype(np.float32))
        pushes.append(push)
    return frames, pushes


def judge(noisy, kernels, interpolation="lanczos4"):
    """True error in pixels, and the figures that are known without the truth."""
    stream = Destretcher(RunningReference(5, CPU), kernels, interpolation=interpolation, backend=CPU)
    grid, inner = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float), np.s_[30:-30, 30:-30]
    shown, images, residual, kept = [], [], [], []
    for frame, push in zip(*noisy, strict=True):
        result = stream.push(frame)
        at = grid - result.displacement
        place = [ndimage.map_coordinates(p, at, order=1, mode="nearest") for p in push]
        shown.append((np.stack(place) - result.displacement)[:, 30:-30, 30:-30])
        images.append(result.image[inner])
        residual.append(result.residual)
        before, after = (
            frame_quality(np.ascontiguousarray(i[inner])[None], backend="numpy")[1][0]
            for i in (frame, result.image)
        )
        kept.append(after / before)
    change = [frame_change(a, b) for a, b in pairwise(images)]
    truth = np.diff(shown, axis=0)[1:].std() / np.sqrt(2)
    finest = min((k for k in kernels if k), default=0)
    return truth, Figures(np.nanmean(residual), np.mean(change), np.mean(kept), finest)


def test_score_follows_the_true_error(noisy):
    tried = [(0,), (0, 128), (0, 64), (0, 64, 32), (0, 64, 32, 16), (0, 64, 32, 16, 8), (0, 64, 32, 16, 8, 4)]
    found = [judge(noisy, kernels) for kernels in tried]
    truth, scores = np.array([t for t, _ in found]), np.array([f.score for _, f in found])
    # Neither doing nothing wins nor following the noise, which makes frames most alike.
    assert 0 < np.argmin(truth) < len(tried) - 1
    assert truth[np.argmin(scores)] < 1.15 * truth.min()
    assert scores[0] == scores.max()
    assert scores[-1] > 1.5 * scores.min()
    assert np.argmin([f.change_px for _, f in found]) == len(tried) - 1
    assert np.corrcoef(np.log(truth), np.log(scores))[0, 1] > 0.9


def test_blur_does_not_pay(noisy):
    kernels = (0, 64, 32, 16)
    _, sharp = judge(noisy, kernels)
    _, blurred = judge(noisy, kernels, "bilinear")
    assert blurred.change_px < sharp.change_px
    assert blurred.score > sharp.score


def test_score_of_a_run_is_the_mean_of_its_channels():
    other = dataclasses.replace(GOOD, residual_px=0.5)
    assert score({"A": GOOD, "B": other}) == pytest.approx((GOOD.score + other.score) / 2)
    assert math.isnan(score({}))


def test_jobs_are_compared_in_one_table_and_one_plot(tmp_path):
    jobs = [tmp_path / name for name in ("one", "two", "bad", "failed")]
    for job in jobs:
        job.mkdir()
    poor = dataclasses.replace(GOOD, residual_px=0.9)
    unknown = dataclasses.replace(GOOD, residual_px=float("nan"))
    record_job(jobs[0], ["destretch.kernels=[0]"], {"A": poor, "B": GOOD})
    record_job(jobs[1], ["destretch.kernels=[0,64]"], {"A": GOOD, "B": GOOD})
    record_job(jobs[2], ["destretch.kernels=[0,32]"], {"A": unknown})
    text = compare_jobs(tmp_path, jobs)
    lines = text.splitlines()
    assert lines[1].endswith("destretch.kernels=[0,64]")
    assert len(lines) == 7
    with (tmp_path / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["job"][-6:], r["channel"]) for r in rows] == [
        ("[0,64]", "A"),
        ("[0,64]", "B"),
        ("ls=[0]", "A"),
        ("ls=[0]", "B"),
        ("[0,32]", "A"),
    ]
    assert float(rows[0]["job_score"]) == pytest.approx(GOOD.score, rel=1e-3)
    assert float(rows[2]["residual_px"]) == 0.9
    assert rows[4]["score"] == "nan"
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part"))
    assert compare_jobs(tmp_path, [jobs[3]]) == ""
