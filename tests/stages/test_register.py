"""Registration: the stage's stored geometry against truth, its gate, and its notes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from tests._channels import channel, context

from stillsun.config.schema import ChannelConfig, ObservationConfig, RegisterConfig, Turn
from stillsun.core.orient import Orientation
from stillsun.io.store import Field, Layout, StoreReader, create_store
from stillsun.products.registration import Registration
from stillsun.stages.register import run
from stillsun.stages.registry import STAGES

SCALE = {"R": (0.33, 0.34), "S": (0.36, 0.35)}
SHAPE = {"R": (210, 230), "S": (190, 200)}
TURNS = {"R": [Turn.rot90], "S": [Turn.fliplr, Turn.rot90, Turn.rot90]}
TRANSLATION, ROTATION = np.array([3.2, -2.1]), 0.8


def scene(x, y):
    rng = np.random.default_rng(4)
    value = np.ones_like(x)
    for _ in range(60):
        cx, cy = rng.uniform(-35, 35, 2)
        w, h = rng.uniform(0.6, 4.0, 2)
        value *= 1 - 0.8 * (np.abs(x - cx) < w) * (np.abs(y - cy) < h)
    return value


def camera_target(name: str) -> np.ndarray:
    """Target as the camera sees it: the oriented picture, turned back."""
    orientation = Orientation.from_steps([t.value for t in TURNS[name]])
    shape, scale = orientation.shape(SHAPE[name]), orientation.plate_scale(SCALE[name])
    fine = 3
    y, x = np.indices((shape[0] * fine, shape[1] * fine)) / fine + (0.5 / fine - 0.5)
    qx, qy = (x - (shape[1] - 1) / 2) * scale[0], (y - (shape[0] - 1) / 2) * scale[1]
    if name == "S":
        a = np.radians(ROTATION)
        qx, qy = (
            TRANSLATION[0] + np.cos(a) * qx - np.sin(a) * qy,
            TRANSLATION[1] + np.sin(a) * qx + np.cos(a) * qy,
        )
    picture = scene(qx, qy).reshape(shape[0], fine, shape[1], fine).mean((1, 3))
    picture = ndimage.gaussian_filter(picture, 0.7)
    noise = np.random.default_rng(len(name)).normal(0, 0.01, shape)
    return orientation.inverse().apply(4000 * (picture + noise)).astype(np.float32)


def write_calibration(path, name, target):
    fields = {
        "bad_pixels": Field(SHAPE[name], "uint8", stack=False),
        "plate_scale": Field((2,), "float64", stack=False),
    }
    if target is not None:
        fields["target"] = Field(SHAPE[name], "float32", stack=False)
    with create_store(path / f"{name}.calibration.h5", Layout(0, fields), "x") as store:
        store.write("plate_scale", SCALE[name])
        if target is not None:
            store.write("target", target)


def register(path, name, reference=None, **options):
    """Run the stage on one channel; returns its stored values and notes."""
    product = path / f"{name}.registration.h5"

    other = None
    if reference is not None:
        stores = {kind: path / f"{reference}.{kind}.h5" for kind in ("calibration", "registration")}
        other = channel(reference, path, stores, settings=ChannelConfig(orientation=TURNS[reference]))
    ctx = context(
        name,
        path,
        {"calibration": path / f"{name}.calibration.h5"},
        config=RegisterConfig(**options),
        settings=ChannelConfig(orientation=TURNS[name]),
        observation=ObservationConfig(reference_channel="R"),
        reference=other,
        writes=product,
    )
    run(ctx)
    with StoreReader(product) as store:
        return {n: store.read(n) for n in store.names()}, ctx.notes


@pytest.fixture
def reference(tmp_path):
    write_calibration(tmp_path, "R", camera_target("R"))
    return register(tmp_path, "R")


def test_reference_channel_is_its_own_reference(reference):
    values, notes = reference
    assert values["orientation"] == "rot90"
    np.testing.assert_array_equal(values["shape"], (230, 210))
    np.testing.assert_allclose(values["plate_scale"], (0.34, 0.33))
    np.testing.assert_allclose(values["crpix"], (105.5, 115.5))
    assert (values["rotation_deg"], values["uncertainty"], values["accepted"]) == (0.0, 0.0, 1)
    assert notes == []


def test_channel_is_found_on_the_reference(tmp_path, reference):
    write_calibration(tmp_path, "S", camera_target("S"))
    values, notes = register(tmp_path, "S", "R")
    assert notes == []
    assert values["accepted"] == 1
    assert values["rotation_deg"] == pytest.approx(ROTATION, abs=0.02)
    a = np.radians(ROTATION)
    turned = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) @ TRANSLATION
    truth = np.array([100.5, 95.5]) - turned / SCALE["S"]
    np.testing.assert_allclose(values["crpix"], truth, atol=0.06)
    assert 0 < values["residual_px"] < 0.2
    assert values["uncertainty"] < 0.1
    again, _ = register(tmp_path, "S", "R")
    np.testing.assert_equal(again, values)


def test_failed_match_leaves_the_channel_unregistered(tmp_path, reference):
    noise = 100 + ndimage.gaussian_filter(np.random.default_rng(7).normal(size=SHAPE["S"]), 2)
    write_calibration(tmp_path, "S", noise.astype(np.float32))
    values, notes = register(tmp_path, "S", "R")
    assert values["accepted"] == 0
    assert len(notes) == 1
    assert "match of the targets fails" in notes[0]
    np.testing.assert_allclose(values["crpix"], (100.5, 95.5))
    assert values["rotation_deg"] == 0.0
    assert values["uncertainty"] >= 1.0


def test_missing_target_is_noted(tmp_path, reference):
    write_calibration(tmp_path, "S", None)
    values, notes = register(tmp_path, "S", "R")
    assert values["accepted"] == 0
    assert "this channel has no target" in notes[0]


def test_declaration():
    assert STAGES["register"].writes is Registration
    assert "orientation" in STAGES["register"].settings


def test_a_place_given_by_hand_is_taken_and_said(tmp_path, reference):
    write_calibration(tmp_path, "S", None)
    values, notes = register(tmp_path, "S", "R", offset=list(TRANSLATION), rotation=ROTATION)
    assert notes == [
        "the offset (3.2, -2.1) arcsec and the rotation 0.8 deg to the reference channel given by hand"
    ]
    assert (values["accepted"], values["rotation_deg"]) == (1, ROTATION)
    assert 0 < values["uncertainty"] < 5
    a = np.radians(ROTATION)
    turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    # The pixel that sees the reference's centre.
    centre = (np.array(values["shape"])[::-1] + 1) / 2
    np.testing.assert_allclose(
        values["crpix"], centre - turn @ TRANSLATION / values["plate_scale"], atol=1e-6
    )


def test_an_offset_by_hand_leaves_the_rotation_to_the_targets(tmp_path, reference):
    write_calibration(tmp_path, "S", camera_target("S"))
    values, notes = register(tmp_path, "S", "R", offset=[1.0, 2.0])
    np.testing.assert_array_equal(values["translation"], [1.0, 2.0])
    assert values["rotation_deg"] == pytest.approx(ROTATION, abs=0.02)
    assert any("given by hand" in note for note in notes)
    assert (tmp_path / "register.png").is_file()


def test_a_rotation_by_hand_registers_nothing_alone(tmp_path, reference):
    write_calibration(tmp_path, "S", None)
    values, notes = register(tmp_path, "S", "R", rotation=0.3)
    assert (values["accepted"], values["rotation_deg"]) == (0, 0.3)
    assert any(note.startswith("not registered") for note in notes)
