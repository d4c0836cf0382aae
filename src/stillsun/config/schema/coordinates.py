"""Options of the stages register and align: channels on each other, and on the Sun."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stillsun.config.schema.option import opt


@dataclass
class RegisterConfig:
    """Channels onto the reference channel."""

    max_rotation_deg: float = opt(2.0, "largest rotation looked for", unit="deg", gt=0)
    offset: list[float] | None = opt(
        None,
        "where the channel's centre lies on the reference channel, (x, y) from its centre, given by hand "
        "instead of found by the targets; of one channel: observation.channels.NAME.register.offset",
        unit="arcsec",
        length=2,
    )
    rotation: float | None = opt(
        None,
        "the channel's +y points so far counter-clockwise of the reference channel's, by hand; 0 if only the "
        "offset is given and the targets do not match",
        unit="deg",
        ge=-180,
        le=180,
    )
    track_drift: bool = opt(
        False, "let the coordinates follow the drift against the reference channel that science images show"
    )


class AlignEngine(Enum):
    """Where the pointing comes from."""

    hmi = "hmi"
    none = "none"


@dataclass
class AlignConfig:
    """Frames onto the Sun."""

    engine: AlignEngine = opt(
        AlignEngine.hmi,
        "hmi: match to a full-disk image, where there is one that fits; none: telescope log only",
    )
    file: str | None = opt(None, "full-disk image instead of a download", holds="path")
    cache: str | None = opt(
        None,
        "directory of downloaded full-disk images; stillsun in the user's cache by default",
        holds="path",
    )
    pointing: list[float] | None = opt(
        None,
        "helioprojective (x, y) of the reference channel's centre at its first frame, instead of the log's; "
        "with align=hmi the place where the search begins",
        unit="arcsec",
        length=2,
    )
    offset: list[float] | None = opt(
        None,
        "added by hand to the pointing, (x, y), wherever it comes from; where that is unknown, give "
        "align.pointing",
        unit="arcsec",
        length=2,
    )
    frame: int | None = opt(None, "frame that is matched; the clearest by default", unit="index", ge=0)
    search_arcsec: float = opt(
        60.0, "how far from the supposed pointing is searched, in x and in y", unit="arcsec", ge=5, le=600
    )
    max_rotation_deg: float = opt(2.0, "how far from the guider's angle is searched", unit="deg", ge=0, le=20)
    min_significance: float = opt(
        8.0,
        "least height of the correlation peak over wrong places, in their robust deviations",
        unit="sigma",
        gt=0,
    )
    jump_arcsec: float = opt(
        0.3, "least lasting step of the whole field that splits the sequence", unit="arcsec", gt=0
    )
    verify: bool = opt(False, "show the match and ask before it is applied")
