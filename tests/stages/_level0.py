"""A channel with small raw files of known truth, and a context in which a stage can be run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from tests import _channels
from tests.io import _rawfiles

from stillsun.config.schema import CameraConfig, ChannelConfig, FileSet, ObservationConfig, ReaderName
from stillsun.io.store import StoreReader

SHAPE = (48, 56)
FRAMES = 40


@dataclass
class Truth:
    """What the camera saw."""

    scene: np.ndarray
    target: np.ndarray
    dark: np.ndarray
    response: np.ndarray
    dead: tuple[int, int]
    hot: tuple[int, int]


def truth(seed=0):
    rng = np.random.default_rng(seed)
    granules = gaussian_filter(rng.normal(size=(FRAMES, *SHAPE)), (0, 2, 2), mode="wrap")
    response = 1 + 0.1 * gaussian_filter(rng.normal(size=SHAPE), 1) + 0.05 * np.linspace(-1, 1, SHAPE[1])
    dark = 300 + 3 * rng.normal(size=SHAPE)
    dead, hot = (10, 12), (30, 41)
    dark[hot] += 900
    response[dead] = 0
    target = 4000 + 2000 * (np.indices(SHAPE).sum(axis=0) // 6 % 2)
    return Truth(6000 * (1 + granules), target, dark, response, dead, hot)


def _digitise(light, dark, rng):
    """Photon noise, 2 electrons read noise, gain 10 electrons per DN: little noise, as it can be counted."""
    electrons = rng.normal(10 * light, np.sqrt(10 * light + 4))
    return np.clip(np.rint(electrons / 10 + dark), 0, 65535).astype(np.uint16)


def make_channel(directory, *, reader="rosa", flats=24, flats_per_file=6, seed=0, data=None):
    """Write the raw files of one channel; returns (observation, truth, times of the data)."""
    known = truth(seed)
    rng = np.random.default_rng(seed + 100)
    sky = 8000 * known.response
    stacks = {
        "dark": _digitise(np.zeros((20, *SHAPE)), known.dark, rng),
        "flat": _digitise(np.broadcast_to(sky, (flats, *SHAPE)), known.dark, rng),
        "target": _digitise(np.broadcast_to(known.target * known.response, (8, *SHAPE)), known.dark, rng),
        "data": _digitise(known.scene * known.response, known.dark, rng) if data is None else data,
    }
    sets = {}
    for role, frames in stacks.items():
        place = directory / role
        place.mkdir(parents=True)
        if reader == "rosa":
            kind = f"{role}_" if role in ("dark", "flat") else ""
            _, times = _rawfiles.write_rosa(
                place,
                frames,
                per_file=flats_per_file if role == "flat" else 16,
                name=f"das1_rosa_{kind}2025-09-03_14.21.52_{{:04d}}.fit",
            )
            sets[role] = FileSet(directory=role, pattern="das1_*.fit")
        else:
            _rawfiles.write_hardcam(place, frames)
            times = _rawfiles.START + np.arange(len(frames)) * np.timedelta64(10_000, "us")
            sets[role] = FileSet(directory=role, pattern="*spool.dat")
    channel = ChannelConfig(
        camera=CameraConfig(reader=ReaderName[reader], shape=list(SHAPE)),
        wavelength_nm=430.5,
        plate_scale=[0.06, 0.0605],
        exposure_ms=10.0,
        start=None if reader == "rosa" else str(_rawfiles.START),
        **sets,
    )
    observation = ObservationConfig(raw_dir=str(directory), channels={"C": channel})
    return observation, known, times


def context(observation, directory, stage, config, *, inputs=None, digest="d", **more):
    """A context that writes its store into `directory`."""
    return _channels.context(
        "C",
        directory,
        inputs or {},
        config=config,
        settings=observation.channels["C"],
        observation=observation,
        writes=directory / stage.writes.file,
        digest=digest,
        **more,
    )


def open_bursts(observation, calibration, bursts):
    """Reader of the calibrated bursts, from the stores of both stages."""
    stores = {"calibration": calibration, "bursts": bursts}
    settings = observation.channels["C"]
    channel = _channels.channel("C", ".", stores, settings=settings, observation=observation)
    return channel.open_bursts("numpy")


def run_stage(observation, directory, stage, config, **options):
    """Run a stage; returns its finished store and its notes."""
    ctx = context(observation, directory, stage, config, **options)
    stage.run(ctx)
    return StoreReader(directory / stage.writes.file), ctx.notes
