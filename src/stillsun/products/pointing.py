"""Where on the Sun the centre of the reference channel's field is, for each frame of a channel."""

from __future__ import annotations

from typing import Any

from stillsun.products.base import Column, StoreProduct, Value
from stillsun.sky.pointing import Pointing, Solution

#: Parts: matches to full-disk images, and the position of each segment of the sequence.
MATCHES, SEGMENTS = "matches", "segments"
_EACH, _POINTS = ("matches",), ("matches", 2)


class SolarPointing(StoreProduct):
    """What the stage align makes."""

    name = "pointing"
    file = "registration.h5"
    group = "align"

    crval = Column("float64", "arcsec", "helioprojective (x, y) of the reference's centre", (2,))
    crota2 = Column("float64", "deg", "angle of the reference channel")
    uncertainty = Column("float64", "arcsec", "systematic error of crval")
    method = Value("str", "", "where the pointing comes from", length=160)
    aligned = Value("uint8", "", "1: matched to a full-disk image")
    matched_frame = Value("int64", "", "frame that was matched", _EACH, when=MATCHES)
    matched_crota2 = Value("float64", "deg", "angle found", _EACH, when=MATCHES)
    matched_point = Value("float64", "arcsec", "position found (x, y)", _POINTS, when=MATCHES)
    match_error = Value("float64", "arcsec", "standard error (x, y)", _POINTS, when=MATCHES)
    match_rotation_error_deg = Value(
        "float64", "deg", "standard error of the angle; NaN: the field does not fix it", _EACH, when=MATCHES
    )
    match_correlation = Value("float64", "", "correlation at the match", _EACH, when=MATCHES)
    match_significance = Value(
        "float64", "", "peak over wrong places nearby, in deviations", _EACH, when=MATCHES
    )
    match_peak_ratio = Value("float64", "", "peak over the next one", _EACH, when=MATCHES)
    match_null = Value("float64", "", "highest correlation elsewhere on the disk", _EACH, when=MATCHES)
    match_accepted = Value("uint8", "", "1: can be believed", _EACH, when=MATCHES)
    fulldisk = Value("str", "", "full-disk image", length=160, when=MATCHES)
    segment_start = Value("float64", "s", "begin of the segment, unix seconds", ("segments",), when=SEGMENTS)
    segment_time = Value(
        "float64", "s", "when the position is known, unix seconds", ("segments",), when=SEGMENTS
    )
    segment_point = Value(
        "float64", "arcsec", "helioprojective (x, y) at that time", ("segments", 2), when=SEGMENTS
    )
    segment_turn_deg = Value(
        "float64", "deg", "CROTA2 less what the guider says", ("segments",), when=SEGMENTS
    )
    segment_uncertainty = Value(
        "float64", "arcsec", "systematic error of the position", ("segments",), when=SEGMENTS
    )
    guider_sign = Value("int64", "", "sense of the guider angle", when=SEGMENTS)

    @property
    def is_known(self) -> bool:
        """It is more than a guess that the field is at disk centre."""
        return bool(self.rows) and self.method != "unknown"

    @property
    def values(self) -> Pointing:
        """Pointing of each frame."""
        return Pointing(self.crval, self.crota2, self.uncertainty, str(self.method))

    @property
    def solution(self) -> Solution | None:
        """What other channels take over; None if the telescope's log is all there is."""
        if self.segment_point is None:
            return None
        return Solution(
            start=self.segment_start,
            time=self.segment_time,
            point=self.segment_point,
            turn_deg=self.segment_turn_deg,
            uncertainty=self.segment_uncertainty,
            guider_sign=int(self.guider_sign),
            method=str(self.method),
        )


def solution_values(solution: Solution) -> dict[str, Any]:
    """A solution as it is stored."""
    names = ("start", "time", "point", "turn_deg", "uncertainty")
    return {f"segment_{name}": getattr(solution, name) for name in names} | {
        "guider_sign": solution.guider_sign
    }
