"""The quality checklist: each condition fails when, and only when, its product is bad."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from tests._channels import channel

from stillsun.config.schema import (
    AssembleConfig,
    ChannelConfig,
    DestretchConfig,
    ObservationConfig,
    QualityConfig,
    SpeckleConfig,
    SpeckleEngine,
)
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.qa.checklist import checklist

GOOD = {
    "calibration": {
        "bad_pixels": np.zeros((20, 30), np.uint8),
        "dark": np.full((20, 30), 100.0),
        "flat": np.full((20, 30), 4100.0),
        # Noise of the mean flat: sqrt(6400 / 64 + 0) = 10 of a signal of 4000.
        "dark_variance": np.zeros((20, 30)),
        "flat_variance": np.full((20, 30), 6400.0),
        "dark_frames": 16,
        "flat_frames": 64,
    },
    "bursts": {"contrast": np.full(4, 0.05)},
    "speckle": {
        "contrast": np.full(4, 0.10),
        "r0": np.full(4, 0.08),
        "convergence": np.full((4, 2, 2), 0.1),
    },
    "destretch": {
        "residual_px": np.full(4, 0.1),
        "repaired": np.full((4, 2), 0.01),
        "sharpness_before": np.full(4, 1.0),
        "sharpness_after": np.full(4, 1.0),
    },
    "registration": {"uncertainty": np.array(0.2)},
    "pointing": {"uncertainty": np.full(4, 20.0)},
}
STACKS = ("bursts", "speckle", "destretch", "pointing")


def _check(tmp_path, *, changed=None, files=4, reference=False, engine=SpeckleEngine.masking, left_out=()):
    """Checks of a good channel with some datasets changed, ``product.dataset`` to value."""
    with ExitStack() as stack:
        inputs = {}
        for product, values in GOOD.items():
            if product in left_out:
                continue
            now = {n: (changed or {}).get(f"{product}.{n}", v) for n, v in values.items()}
            stacked = product in STACKS
            fields = {
                n: Field(np.shape(v)[1:] if stacked else np.shape(v), "float64", stack=stacked)
                for n, v in now.items()
            }
            about = {"frames_dropped": (changed or {}).get("dropped", 0), "frames_per_burst": 16}
            path = tmp_path / f"{product}.h5"
            with create_store(path, Layout(4, fields, about), "d") as store:
                for name, value in now.items():
                    store.write(name, value)
            inputs[product] = stack.enter_context(StoreReader(path))
        settings = ChannelConfig(wavelength_nm=430.0, plate_scale=[0.1, 0.1], exposure_ms=10.0)
        options = {
            "assemble": AssembleConfig(),
            "speckle": SpeckleConfig(engine=engine),
            "destretch": DestretchConfig(),
        }
        products = channel(
            "A",
            tmp_path,
            inputs,
            settings=settings,
            options=options,
            observation=ObservationConfig(reference_channel="A" if reference else "R"),
        )
        return checklist(products, QualityConfig(), files=files)


def test_all_conditions_of_a_good_channel_hold(tmp_path):
    checks = _check(tmp_path)
    assert [c.words() for c in checks if not c.holds] == []
    assert [c.stage for c in checks] == [
        *["calibrate"] * 2,
        "assemble",
        *["speckle"] * 3,
        *["destretch"] * 3,
        "register",
        "align",
        "export",
    ]
    noise = next(c for c in checks if "noise of the gain" in c.condition)
    assert noise.found == "0.25 %"


@pytest.mark.parametrize(
    ("name", "value", "condition"),
    [
        ("calibration.bad_pixels", np.pad(np.ones((1, 30)), ((0, 19), (0, 0))), "bad pixels"),
        ("calibration.flat_variance", np.full((20, 30), 6400.0 * 25), "noise of the gain"),
        ("dropped", 20, "frames in no burst"),
        ("speckle.r0", np.full(4, 0.04), "Fried parameter"),
        ("speckle.convergence", np.full((4, 2, 2), 0.5), "change of the phases"),
        ("speckle.contrast", np.full(4, 0.03), "contrast over"),
        ("destretch.residual_px", np.full(4, 0.7), "left over"),
        ("destretch.repaired", np.tile([0.0, 0.4], (4, 1)), "repaired tiles"),
        ("destretch.sharpness_after", np.full(4, 0.8), "sharpness kept"),
        ("registration.uncertainty", np.array(5.0), "error of the offset"),
        ("pointing.uncertainty", np.full(4, 1000.0), "error of the pointing"),
    ],
)
def test_each_condition_fails_alone(tmp_path, name, value, condition):
    failed = [c for c in _check(tmp_path, changed={name: value}) if c.holds is False]
    assert len(failed) == 1
    assert condition in failed[0].condition


def test_what_is_not_known_is_not_judged(tmp_path):
    unknown = [c for c in _check(tmp_path, changed={"speckle.r0": np.full(4, np.nan)}) if c.holds is None]
    assert [c.found for c in unknown] == ["not known"]
    assert "Fried parameter" in unknown[0].condition


def test_a_lost_file_is_noticed(tmp_path):
    assert [c.found for c in _check(tmp_path, files=3) if c.holds is False] == ["3 for 4 frames"]


def test_conditions_that_do_not_apply_are_left_out(tmp_path):
    stages = [
        c.stage
        for c in _check(
            tmp_path, reference=True, engine=SpeckleEngine.none, files=None, left_out=("pointing",)
        )
    ]
    assert set(stages) == {"calibrate", "assemble", "destretch"}
