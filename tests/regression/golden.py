"""
What each stage makes of a tiny simulated night, in a few numbers a dataset.

Bytes differ from processor to processor in their last digits, so no digest of bytes can be kept. Each dataset
is told by its shape and type, what is not finite in it, mean and standard deviation, and three sums with
weights of changing sign: a change of a part e of its standard deviation in many values changes those sums by
about e. What is allowed is some five times what was measured between a processor with AVX-512 and code for
one without AVX: 1e-8 in calibrate, none in assemble and align, 9e-4 in speckle, 4e-3 in destretch. Where a
threshold decides about single values (`_LOOSE`) it was up to 0.16.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
from astropy.io import fits

from stillsun.stages.registry import STAGES
from stillsun.synth.observation import simulate
from stillsun.synth.settings import SimulationSettings

FILE = Path(__file__).with_name("golden.json")
TOLERANCE = {"speckle": 5e-3, "destretch": 2e-2, "register": 2e-2, "export": 1e-3}
_ELSEWHERE = 1e-4
_LOOSE = {"convergence": 0.5, "repaired": 0.5, "shifts_12": 0.3, "valid": 0.1, "held_rate": 0.1}
# Of the mean: values that are all but the same.
_ROUNDING = 1e-7
_STORES = {
    "calibrate": ("calibration.h5", "/"),
    "assemble": ("bursts.h5", "/"),
    "speckle": ("speckle.h5", "/"),
    "destretch": ("destretch.h5", "/"),
    "register": ("registration.h5", "register"),
    "align": ("registration.h5", "align"),
}
_DAY = 86400.0
# Sentences, which are read and not computed with.
_WORDS = {"notes"}
# Cards that tell of the machine or the moment.
_OF_THE_RUN = {"CHECKSUM", "DATASUM", "DATE", "HISTORY", "COMMENT"}


def simulate_night(out: Path) -> None:
    """The night that the numbers are of: without adaptive optics there is motion and blur to take out."""
    simulate(out, SimulationSettings.preset("tiny", bursts=5, frames_per_burst=12, seed=3, ao_modes=0))


def summary(out: Path, work: Path) -> dict[str, dict[str, list]]:
    """Stage (and ``raw``) to dataset to its numbers."""
    found: dict[str, dict[str, list]] = {"raw": {}}
    for path in sorted((out / "level0").rglob("*.fit")):
        with fits.open(path) as hdus:
            found["raw"][path.name] = _numbers(
                np.stack([hdu.data for hdu in hdus[1:] if hdu.data is not None])
            )
    for stage, (name, group) in _STORES.items():
        found[stage] = {}
        for path in sorted(work.glob(f"*/{name}")):
            with h5py.File(path) as file:
                for key, dataset in file[group].items():
                    if key not in _WORDS and isinstance(dataset, h5py.Dataset):
                        values = dataset[()]
                        if key.startswith("time"):
                            values = values - _DAY * np.floor(np.nanmin(values) / _DAY)
                        found[stage][f"{path.parent.name}/{key}"] = _numbers(np.asarray(values))
    found["export"] = {}
    for channel in sorted(p.parent for p in work.glob("*/splineDestretch")):
        files = sorted((channel / "splineDestretch").glob("*.fits"))
        with fits.open(files[0]) as hdus:
            keys = [card.keyword for card in hdus[0].header.cards if card.keyword not in _OF_THE_RUN]
            found["export"][f"{channel.name}/cards"] = [hashlib.md5(" ".join(keys).encode()).hexdigest()]
            data = np.asarray(hdus[0].data, np.float64)
            # Whether a pixel at the rim came from nowhere may differ from processor to processor.
            data[np.isnan(data)] = np.nanmean(data)
            found["export"][f"{channel.name}/data"] = _numbers(data)
        found["export"][f"{channel.name}/files"] = [len(files)]
    return found


def _numbers(values: np.ndarray) -> list:
    head = [list(values.shape), values.dtype.kind]
    if values.dtype.kind in "SO":
        return [*head, hashlib.md5(values.tobytes()).hexdigest()]
    flat = values.astype(np.float64).ravel()
    good = np.isfinite(flat)
    if not good.any():
        return [*head, int(good.sum())]
    mean, deviation = float(flat[good].mean()), float(flat[good].std())
    flat = np.where(good, flat - mean, 0.0)
    place = np.arange(len(flat))
    sums = [float(flat @ np.cos(place * w) / np.sqrt(len(flat))) for w in (2.0, 0.3, 0.017)]
    return [*head, int(good.sum()), mean, deviation, *sums]


def versions() -> dict[str, int]:
    """Version of each stage that is looked at."""
    return {stage: STAGES[stage].version for stage in (*_STORES, "export")}


def differing(stage: str, golden: dict, found: dict) -> list[str]:
    """Datasets of a stage that are not what they were."""
    before, now = golden["results"][stage], found[stage]
    same = [name for name in before.keys() & now.keys() if _same(stage, name, before[name], now[name])]
    return sorted((before.keys() | now.keys()) - set(same))


def _same(stage: str, name: str, before: list, now: list) -> bool:
    if len(before) < 5 or len(before) != len(now):
        return before == now
    mean, deviation = before[3:5]
    part = _LOOSE.get(name.rpartition("/")[2], TOLERANCE.get(stage, _ELSEWHERE))
    allowed = part * deviation + _ROUNDING * abs(mean)
    return before[:3] == now[:3] and bool(np.all(np.abs(np.subtract(before[3:], now[3:])) <= allowed))


def faults(golden: dict, found: dict[str, dict[str, list]]) -> list[str]:
    """What must be done about the first stage whose result changed; those after it are not judged."""
    if names := differing("raw", golden, found):
        return [f"the simulated night is another ({names[0]}): run scripts/golden"]
    for stage, version in versions().items():
        before = golden["versions"][stage]
        if version != before:
            return [f"{stage} has version {version}, the numbers are of {before}: run scripts/golden"]
        if changed := differing(stage, golden, found):
            said = f"{stage} makes something else of the same input ({', '.join(changed[:4])})"
            return [f"{said}: raise its version in stages/registry.py, then run scripts/golden"]
    return []


def write(found: dict[str, dict[str, list]]) -> None:
    """Keep the numbers, with the versions that made them."""
    lines = [f' "versions": {json.dumps(versions())},', ' "results": {']
    for stage, datasets in found.items():
        rows = [f"   {json.dumps(name)}: {json.dumps(_short(numbers))}" for name, numbers in datasets.items()]
        lines += [f'  "{stage}": {{', ",\n".join(rows), "  }," if stage != list(found)[-1] else "  }"]
    FILE.write_text("\n".join(["{", *lines, " }", "}"]) + "\n")


def _short(numbers: list) -> list:
    return [float(f"{value:.9g}") if isinstance(value, float) else value for value in numbers]
