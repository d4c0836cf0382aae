"""Names and pixels of burst files, and the output files, against bytes written independently."""

from __future__ import annotations

import numpy as np
import pytest

from stillsun.errors import ConfigError, InputError
from stillsun.speckle.kisip import burstfile, outputs
from stillsun.speckle.kisip.burstfile import FileForm

FORM = "20211022_151846_gband_kisip.speckle.batch.{:02d}.{:03d}"


@pytest.mark.parametrize(
    ("burst", "tail"), [(0, "00.000"), (7, "00.007"), (999, "00.999"), (1000, "01.000"), (12345, "12.345")]
)
def test_names_count_batches_of_a_thousand(burst, tail):
    form = FileForm(FORM)
    assert form.name(burst) == f"20211022_151846_gband_kisip.speckle.batch.{tail}"
    assert form.base(burst // 1000) == f"20211022_151846_gband_kisip.speckle.batch.{tail[:2]}"


def test_names_are_those_of_the_real_frames(real_frame_path):
    assert FileForm(FORM).name(1) + ".final.fits" == real_frame_path("gband", 1).name


def test_form_with_date_and_time_and_forms_that_cannot_be():
    form = FileForm("{:s}_{:s}_cak_kisip.raw.batch.{:02d}.{:03d}", "20250903", "142152")
    assert form.name(1002) == "20250903_142152_cak_kisip.raw.batch.01.002"
    for wrong in (
        "a.{:02d}",
        "a.{:03d}.{:02d}",
        "a{:02d}.{:03d}.fits",
        "a{:02d}{:03d}",
        "x/{:02d}.{:03d}",
        "{",
    ):
        with pytest.raises(ConfigError):
            FileForm(wrong)
    with pytest.raises(ValueError):
        form.name(100_000)


def test_burst_is_plain_float32_after_the_offset(tmp_path):
    frames = np.random.default_rng(1).normal(size=(4, 6, 9))
    burstfile.write_burst(tmp_path / "plain", frames)
    assert (tmp_path / "plain").read_bytes() == frames.astype("=f4").tobytes()
    burstfile.write_burst(tmp_path / "offset", frames, offset=2880)
    content = (tmp_path / "offset").read_bytes()
    assert len(content) == 2880 + 4 * 4 * 6 * 9 == burstfile.burst_bytes(frames.shape, 2880)
    assert content[2880:] == frames.astype("=f4").tobytes()
    back = burstfile.read_burst(tmp_path / "offset", frames.shape, offset=2880)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, frames.astype(np.float32))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["offset", "plain"]


@pytest.mark.parametrize("size", [0, 4 * 4 * 6 * 9 - 1, 4 * 4 * 6 * 9 + 4])
def test_burst_of_another_size_is_refused(tmp_path, size):
    (tmp_path / "burst").write_bytes(bytes(size))
    with pytest.raises(InputError, match=rf"burst: .*wrong size.*\(4, 6, 9\).*{size} bytes"):
        burstfile.read_burst(tmp_path / "burst", (4, 6, 9))
    with pytest.raises(InputError, match="not found"):
        burstfile.read_burst(tmp_path / "none", (4, 6, 9))


def test_outputs_have_the_shapes_of_the_manual(tmp_path):
    rng = np.random.default_rng(2)
    shapes = {
        "final": (20, 30),
        "subalpha": (2, 3, 2),
        "ct": (5, 2, 3, 2),
        "subrec": (3, 2, 8, 8),
        "subrsr": (3, 2, 7),
    }
    truth = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, array in truth.items():
        (tmp_path / f"b.000.{name}").write_bytes(array.tobytes())
    base = tmp_path / "b.000"
    alpha = outputs.read_subalpha(base.with_name("b.000.subalpha"), 20, 30)
    grid = alpha.shape[1:]
    found = {
        "final": outputs.read_final(base.with_name("b.000.final"), 20, 30),
        "subalpha": alpha,
        "ct": outputs.read_shifts(base.with_name("b.000.ct"), 5, grid),
        "subrec": outputs.read_subfields(base.with_name("b.000.subrec"), grid),
        "subrsr": outputs.read_ratios(base.with_name("b.000.subrsr"), grid),
    }
    for name, array in truth.items():
        np.testing.assert_array_equal(found[name], array)
    assert outputs.output_fault(base, 20, 30) is None
    outputs.remove_outputs(base)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("count", "rows", "columns", "grid"),
    [
        (225, 1002, 1004, (15, 15)),
        (961, 2048, 2048, (31, 31)),
        (6, 20, 30, (3, 2)),
        (6, 30, 20, (2, 3)),
        (7, 9, 9, (1, 7)),
    ],
)
def test_grid_of_subfields_follows_the_frame(count, rows, columns, grid):
    assert sorted(outputs.subfield_grid(count, rows, columns)) == sorted(grid)
    if rows != columns and count == 6:
        assert outputs.subfield_grid(count, rows, columns) == grid


def test_damaged_outputs_are_named(tmp_path):
    base = tmp_path / "b.000"
    assert "b.000.final" in outputs.output_fault(base, 20, 30)
    (tmp_path / "b.000.final").write_bytes(bytes(4 * 20 * 30 - 4))
    (tmp_path / "b.000.subalpha").write_bytes(bytes(48))
    assert "wrong size" in outputs.output_fault(base, 20, 30)
    (tmp_path / "b.000.final").write_bytes(bytes(4 * 20 * 30))
    assert outputs.output_fault(base, 20, 30) is None
    for size in (0, 4, 50):
        (tmp_path / "b.000.subalpha").write_bytes(bytes(size))
        assert "b.000.subalpha" in outputs.output_fault(base, 20, 30)
    (tmp_path / "b.000.subrec").write_bytes(bytes(4 * 6 * 65))
    with pytest.raises(InputError, match="pixels, pixels"):
        outputs.read_subfields(tmp_path / "b.000.subrec", (3, 2))
    (tmp_path / "b.000.ct").write_bytes(bytes(4))
    with pytest.raises(InputError, match=r"\(5, 2, 3, 2\)"):
        outputs.read_shifts(tmp_path / "b.000.ct", 5, (3, 2))
    (tmp_path / "b.000.subrsr").write_bytes(bytes(4 * 13))
    with pytest.raises(InputError, match="radii"):
        outputs.read_ratios(tmp_path / "b.000.subrsr", (3, 2))


@pytest.mark.parametrize("count", [2 * 7919, 2 * 400_000_007, 2 * 1_002 * 1_004 + 2])
def test_a_file_that_no_grid_of_subfields_fills_is_refused_without_reading_it(tmp_path, count):
    path = tmp_path / "b.000.subalpha"
    with path.open("wb") as file:
        file.truncate(4 * count)
    with pytest.raises(InputError, match=r"b\.000\.subalpha: .*wrong size.*subfields_x, subfields_y"):
        outputs.read_subalpha(path, 1002, 1004)
