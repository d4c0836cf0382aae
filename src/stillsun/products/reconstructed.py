"""The images before destretch, one a burst, in camera orientation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stillsun.products.base import UNIX, Column, Stack, StoreProduct, Value

#: Part that frames of an earlier system do not have.
SUBFIELDS = "subfields"
#: Part of sequences that are held to their running power.
SERIES = "series"


class Reconstructed(StoreProduct):
    """What the stage speckle makes."""

    name = "speckle"

    image = Stack("float32", "DN", "reconstructed image, camera orientation", ("rows", "columns"))
    exposures = Column("int64", "", "exposures that the image is made of", when=SUBFIELDS)
    time_beg = Column("float64", "s", UNIX + "start of the first of them", when=SUBFIELDS)
    time_end = Column("float64", "s", UNIX + "end of the last of them", when=SUBFIELDS)
    time_avg = Column("float64", "s", UNIX + "mean of their middles", when=SUBFIELDS)
    r0 = Column("float64", "m", "Fried parameter of the frame at its wavelength; NaN: unknown")
    alpha = Column("float64", "", "Fried parameter over telescope diameter")
    r0_map = Stack("float32", "m", "Fried parameter of each subfield (y, x)", ("y", "x"), when=SUBFIELDS)
    shifts = Stack(
        "float32",
        "px",
        "tracking of each subfield of each frame (y, x)",
        ("frames", 2, "y", "x"),
        when=SUBFIELDS,
    )
    convergence = Stack(
        "float32", "rad", "rms change of the phases in the last iteration", ("y", "x"), when=SUBFIELDS
    )
    contrast = Column("float64", "", "rms contrast, centre of the field")
    sharpness = Column("float64", "1/px", "rms gradient over mean, centre of the field")
    centres_y = Value("float64", "px", "rows of the subfields' centres", ("y",), when=SUBFIELDS)
    centres_x = Value("float64", "px", "columns of the subfields' centres", ("x",), when=SUBFIELDS)

    ring_power = Stack(
        "float32",
        "",
        "logarithm of the power of the contrast in tiles and rings of frequency, before the filter",
        ("tiles", "rings"),
        when=SERIES,
    )
    steadying = Stack(
        "float32",
        "",
        "filter against flicker: logarithm of the factor on amplitudes, terms over the field by rings",
        ("terms", "rings"),
        when=SERIES,
    )
    steadied = Column(
        "float64", "", "rms of what the filter against flicker changed, over the contrast", when=SERIES
    )
    filter_state = Column("int64", "", "filter against flicker: 0 to come, 1 begun, 2 done", when=SERIES)
    ring_q = Value(
        "float64", "", "frequencies of the rings, of the diffraction limit", ("rings",), when=SERIES
    )

    @property
    def engine(self) -> str:
        """Name of the engine that made them."""
        return str(self.attributes["engine"])

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """Processing steps that frames of an earlier system went through."""
        return list(json.loads(self.attributes.get("steps", "[]")))

    @property
    def is_destretched(self) -> bool:
        """An earlier system has destretched them."""
        return bool(self.attributes.get("destretched"))
