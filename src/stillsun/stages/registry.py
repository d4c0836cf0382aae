"""
The stages in the order of the data's walk: what each reads, writes and depends on.

To plan a run, or to look at one, these declarations are enough; what a stage computes with is loaded when it
first runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from stillsun.config.schema import (
    AssembleConfig,
    CalibrateConfig,
    DestretchConfig,
    SpeckleConfig,
    SpeckleEngine,
    StageName,
)
from stillsun.products.base import StoreProduct
from stillsun.products.bursts import Bursts
from stillsun.products.calibration import CORRECTION, GEOMETRY, TARGET, Calibration
from stillsun.products.channel import PRODUCTS
from stillsun.products.destretched import Destretched
from stillsun.products.pointing import SolarPointing
from stillsun.products.reconstructed import Reconstructed
from stillsun.products.registration import Registration
from stillsun.stages.base import Stage


@dataclass(frozen=True)
class Later:
    """A function that is loaded when it is first called; it can be sent to another process."""

    module: str
    function: str = "run"

    def __call__(self, *arguments: Any) -> Any:
        """Load the function and call it."""
        return getattr(importlib.import_module(f"stillsun.stages.{self.module}"), self.function)(*arguments)


def follows(config: DestretchConfig, is_reference: bool) -> bool:
    """Whether a channel takes the shifts of the reference channel, which measures its own."""
    return config.follow_reference and not is_reference


def _check_program(config: SpeckleConfig) -> None:
    if config.engine is SpeckleEngine.kisip:
        from stillsun.stages._external import program_of

        program_of(config).check()


def _by_name(*stages: Stage) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages}


STAGES = _by_name(
    Stage(
        name="calibrate",
        version=3,
        run=Later("calibrate"),
        writes=Calibration,
        raw=("dark", "flat", "target", "linegrid"),
        settings=("camera", "exposure_ms", "plate_scale", "clock_offset_h"),
    ),
    Stage(
        name="assemble",
        version=3,
        run=Later("assemble"),
        writes=Bursts,
        reads=(Calibration,),
        parts={Calibration: CORRECTION},
        raw=("data",),
        settings=(
            "camera",
            "exposure_ms",
            "frame_interval_ms",
            "start",
            "clock_offset_h",
            "group_frames",
            "group_interval_s",
        ),
        files=("telescope_log",),
        frame_independent_files=("telescope_log",),
    ),
    Stage(
        name="speckle",
        version=11,
        run=Later("speckle"),
        reads=(Calibration, Bursts),
        parts={Calibration: (*CORRECTION, "noise", "plate_scale")},
        writes=Reconstructed,
        settings=("wavelength_nm", "exposure_ms", "camera", "data"),
        uses_frames_only=(Bursts,),
        observation=(
            "telescope.diameter_mm",
            *(f"telescope.ao_{key}" for key in ("field_arcsec", "order", "lag_ms")),
        ),
        ignores=(
            "processes",
            "timeout",
            "keep_bursts",
            *(f"kisip.{key}" for key in ("bin", "lib", "mpirun", "executable", "retries")),
        ),
        check=_check_program,
    ),
    Stage(
        name="destretch",
        version=5,
        run=Later("destretch"),
        writes=Destretched,
        reads=(Bursts, Reconstructed),
        uses_frames_only=(Bursts,),
        settings=("orientation",),
        ignores=("follow_reference",),  # told by what is read
    ),
    Stage(
        name="register",
        version=4,
        run=Later("register"),
        writes=Registration,
        reads=(Calibration,),
        optional=(Bursts, Destretched),
        reads_reference=(Calibration, Registration, Bursts, Destretched),
        parts={Calibration: (*GEOMETRY, TARGET)},
        uses_frames_only=(Bursts,),
        settings=("orientation",),
    ),
    Stage(
        name="align",
        version=2,
        run=Later("align"),
        writes=SolarPointing,
        reads=(Bursts,),
        optional=(Calibration, Reconstructed, Destretched),
        parts={Calibration: GEOMETRY},
        reads_reference=(SolarPointing,),
        settings=("orientation",),
        observation=("telescope",),
        files=("file",),
        ignores=("verify", "cache"),
    ),
    Stage(
        name="export",
        version=5,
        run=Later("export"),
        reads=(Bursts, Calibration, Reconstructed, Destretched),
        optional=(Registration, SolarPointing),
        settings=("camera", "wavelength_nm", "wavelength_width_nm", "filter", "exposure_ms", "orientation"),
        observation=("name", "telescope", "origin", "author", "observer", "object", "reference_channel"),
    ),
    Stage(
        name="movie",
        version=5,
        run=Later("movie"),
        optional=PRODUCTS,
        observation=("channels",),
        files=("goes_file",),
        per_observation=True,
    ),
    Stage(
        name="report",
        version=6,
        run=Later("report"),
        optional=PRODUCTS,
        observation=("name", "telescope", "channels"),
        per_observation=True,
        reports_on_run=True,
    ),
)

#: Destretch of a channel that follows the reference channel.
FOLLOWING = replace(
    STAGES["destretch"],
    reads=(Bursts, Reconstructed, Calibration),
    reads_reference=(Bursts, Calibration, Destretched),
    parts={Calibration: (*GEOMETRY, TARGET)},
)


def _without(schema: type, *kept: str) -> tuple[str, ...]:
    return tuple(f.name for f in fields(schema) if f.name not in kept)


#: The stages up to speckle of a channel that begins with frames of an earlier system.
EARLIER = _by_name(
    Stage(
        name="calibrate",
        version=1,
        run=Later("_earlier", "calibrate"),
        writes=Calibration,
        raw=("reconstructed", "target"),
        settings=("camera", "plate_scale", "orientation", "reconstructed"),
        ignores=_without(CalibrateConfig),
        implicit=True,
    ),
    Stage(
        name="assemble",
        version=2,
        run=Later("_earlier", "assemble"),
        writes=Bursts,
        reads=(Calibration,),
        parts={Calibration: GEOMETRY},
        raw=("reconstructed",),
        settings=("exposure_ms", "frame_interval_ms", "start", "clock_offset_h"),
        observation=("telescope",),
        files=("telescope_log",),
        ignores=_without(AssembleConfig, "frames_per_burst"),
        implicit=True,
    ),
    Stage(
        name="speckle",
        version=2,
        run=Later("_earlier", "take_over"),
        writes=Reconstructed,
        reads=(Calibration, Bursts),
        parts={Calibration: GEOMETRY},
        raw=("reconstructed",),
        settings=("camera", "orientation", "reconstructed"),
        observation=("telescope",),
        ignores=_without(SpeckleConfig, "engine"),
        implicit=True,
    ),
)


def all_stages() -> dict[str, Stage]:
    """
    Every stage.

    Returns
    -------
    dict
        Name to declaration, in order.

    Raises
    ------
    RuntimeError
        If a stage reads what no stage before it writes.
    """
    stages = {name: STAGES[name] for name in StageName.__members__}
    check_wiring(stages.values())
    return stages


def stage_of_channel(stage: Stage, options: Mapping[str, Any], is_reference: bool) -> Stage:
    """
    The stage as it is for a channel.

    One that begins with frames of an earlier system takes those over; one whose destretch follows the
    reference channel reads that channel's shifts.

    Parameters
    ----------
    stage : Stage
        A stage of `all_stages`.
    options : mapping of str to object
        The options of every stage for the channel.
    is_reference : bool
        It is the reference channel.

    Returns
    -------
    Stage
        The stage, or what stands for it.
    """
    if stage.name == FOLLOWING.name and follows(options[stage.name], is_reference):
        return FOLLOWING
    if options["speckle"].engine is not SpeckleEngine.fits:
        return stage
    return EARLIER.get(stage.name, stage)


def check_wiring(stages: Iterable[Stage]) -> None:
    """
    Check that every product is written before it is read, and by one stage only.

    Parameters
    ----------
    stages : iterable of Stage
        Stages in their order.

    Raises
    ------
    RuntimeError
        If that is not so.
    """
    written: set[type[StoreProduct]] = set()
    for stage in stages:
        # The reference channel is done first, so that its result of the same stage can be read.
        own = {stage.writes} if stage.writes else set()
        missing = ({*stage.reads, *stage.optional} | ({*stage.reads_reference} - own)) - written
        if missing:
            names = sorted(kind.name for kind in missing)
            raise RuntimeError(f"stage {stage.name} reads {names}, which no stage before it writes")
        if stage.writes in written:
            raise RuntimeError(
                f"stage {stage.name} writes {stage.product_name}, which another stage writes already"
            )
        if stage.writes:
            written.add(stage.writes)
