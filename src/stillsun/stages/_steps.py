"""The processing steps of a channel's frames, from the records of the products."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stillsun.sky.header import ProcessingStep
from stillsun.sky.pointing import MATCHED
from stillsun.stages._earlier import earlier_steps
from stillsun.stages._earlierfiles import DESTRETCHED, TURNED
from stillsun.stages.base import StageContext

# How KISIP's file is called.
_KISIP_FILE = "entry"
# Options of a stage that belong into PRPARAn.
_PARAMETERS = {
    "speckle": ("subfield_arcsec", "phase_limit", "deconvolve"),
    "pointing": ("search_arcsec", "max_rotation_deg", "min_significance"),
    "destretch": (
        "kernels",
        "reference",
        "window",
        "repair_tolerance",
        "preserve_flows",
        "interpolation",
        "follow_reference",
    ),
}


def processing_steps(ctx: StageContext, level: str) -> list[ProcessingStep]:
    """
    What was done to the frames, in order, each step once.

    Parameters
    ----------
    ctx : StageContext
        Context of the export.
    level : str
        ``"1.5"`` for destretched frames.

    Returns
    -------
    list of ProcessingStep
        From the products' own records.
    """
    calibration = ctx.inputs["calibration"]
    steps = [ProcessingStep(**step) for step in earlier_steps(ctx.inputs["speckle"])]
    before = {step.kind for step in steps}
    if not steps:
        frames = "; ".join(f"{n}={calibration.read(n)}" for n in ("dark_frames", "flat_frames"))
        steps = [
            _step(ctx, "calibration", "DARK-SUBTRACTION,FLATFIELDING", parameters=frames),
            _speckle_step(ctx),
        ]
    if TURNED not in before:
        steps.append(
            ProcessingStep(
                TURNED,
                ctx.provenance["program"],
                ctx.provenance["version"],
                parameters=f"turns={ctx.orientation.text}",
                vocabulary="DEROTATION",
            )
        )
    if level == "1.5" and DESTRETCHED not in before:
        steps.append(_step(ctx, "destretch", "DESTRETCHING"))
    registration = ctx.inputs.get("registration")
    if registration is not None and not ctx.is_reference and registration.read("accepted"):
        steps.append(
            _step(
                ctx,
                "registration",
                "CHANNEL-REG",
                reference=ctx.observation.reference,
                vocabulary="SPATIAL-COORDINATE-CORRECTION",
            )
        )
    if is_aligned(ctx):
        method = str(ctx.inputs["pointing"].read("method"))
        steps.append(
            _step(
                ctx,
                "pointing",
                "SOLAR-ALIGN",
                reference=method.removeprefix(MATCHED),
                vocabulary="SPATIAL-COORDINATE-CORRECTION",
            )
        )
    return steps


def is_aligned(ctx: StageContext) -> bool:
    """
    Whether the pointing was matched to a full-disk image.

    Parameters
    ----------
    ctx : StageContext
        Context of the export.

    Returns
    -------
    bool
        True if the solar alignment was accepted.
    """
    store = ctx.inputs.get("pointing")
    return store is not None and bool(store.read("aligned"))


def _speckle_step(ctx: StageContext) -> ProcessingStep:
    about = ctx.inputs["speckle"].attributes
    engine = about["engine"]
    if engine == "none":
        return _step(ctx, "speckle", "SPATIAL-ALIGNMENT,SUMMING", mode="tile-aligned mean", parameters="")
    if engine == "kisip":
        return _step(
            ctx, "speckle", "SPECKLE-DECONVOLUTION", **_external(json.loads(about["config"])["kisip"])
        )
    return _step(ctx, "speckle", "SPECKLE-DECONVOLUTION", mode="speckle masking")


def _external(options: Mapping[str, Any]) -> dict[str, str]:
    """Name and version that a person gave the program; else its file's name, and no version."""
    version, executable = options.get("version") or "", options.get("executable", _KISIP_FILE)
    known = "KISIP" if version and executable == _KISIP_FILE else executable
    return {"program": options.get("name") or known, "version": version}


def _step(
    ctx: StageContext,
    product: str,
    kind: str,
    *,
    program: str | None = None,
    version: str = "",
    mode: str = "",
    parameters: str | None = None,
    reference: str = "",
    vocabulary: str = "",
) -> ProcessingStep:
    about = ctx.inputs[product].attributes
    if parameters is None:
        options = json.loads(about["config"])
        names = _PARAMETERS.get(product, ())
        parameters = "; ".join(f"{n}={_plain(options[n])}" for n in names if n in options)
    return ProcessingStep(
        kind,
        program or str(about["program"]),
        version if program else str(about["version"]),
        mode,
        parameters,
        reference,
        vocabulary,
    )


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
