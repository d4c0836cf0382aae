"""The processing steps of a channel's frames, from the records of the products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillsun.products.base import StoreProduct
from stillsun.products.pointing import SolarPointing
from stillsun.products.reconstructed import Reconstructed
from stillsun.products.registration import Registration
from stillsun.sky.header import ProcessingStep
from stillsun.sky.pointing import MATCHED
from stillsun.stages._earlierfiles import DESTRETCHED, TURNED
from stillsun.stages.base import StageContext

# How KISIP's file is called.
_KISIP_FILE = "entry"
# Options of a stage that belong into PRPARAn.
_PARAMETERS = {
    "speckle": ("subfield_arcsec", "phase_limit", "deconvolve", "series"),
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
    calibration = ctx.calibration
    steps = [ProcessingStep(**step) for step in ctx.reconstructed.steps]
    before = {step.kind for step in steps}
    if not steps:
        frames = f"dark_frames={calibration.dark_frames}; flat_frames={calibration.flat_frames}"
        steps = [
            _step(calibration, "DARK-SUBTRACTION,FLATFIELDING", parameters=frames),
            _speckle_step(ctx.reconstructed),
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
        steps.append(_step(ctx.destretched, "DESTRETCHING"))
    registration = ctx.get(Registration)
    if registration is not None and not ctx.is_reference and registration.accepted:
        steps.append(
            _step(
                registration,
                "CHANNEL-REG",
                mode="given by hand" if registration.options.get("offset") else "",
                reference=ctx.observation.reference,
                vocabulary="SPATIAL-COORDINATE-CORRECTION",
            )
        )
    if is_aligned(ctx):
        steps.append(
            _step(
                ctx.pointing,
                "SOLAR-ALIGN",
                reference=str(ctx.pointing.method).removeprefix(MATCHED),
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
    return ctx.has(SolarPointing) and bool(ctx.pointing.aligned)


def _speckle_step(made: Reconstructed) -> ProcessingStep:
    if made.engine == "none":
        return _step(made, "SPATIAL-ALIGNMENT,SUMMING", mode="tile-aligned mean", parameters="")
    if made.engine == "kisip":
        return _step(made, "SPECKLE-DECONVOLUTION", **_external(made.options["kisip"]))
    return _step(made, "SPECKLE-DECONVOLUTION", mode="speckle masking")


def _external(options: Mapping[str, Any]) -> dict[str, str]:
    """Name and version that a person gave the program; else its file's name, and no version."""
    version, executable = options.get("version") or "", options.get("executable", _KISIP_FILE)
    known = "KISIP" if version and executable == _KISIP_FILE else executable
    return {"program": options.get("name") or known, "version": version}


def _step(
    product: StoreProduct,
    kind: str,
    *,
    program: str | None = None,
    version: str = "",
    mode: str = "",
    parameters: str | None = None,
    reference: str = "",
    vocabulary: str = "",
) -> ProcessingStep:
    about = product.attributes
    if parameters is None:
        options, names = product.options, _PARAMETERS.get(product.name, ())
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
