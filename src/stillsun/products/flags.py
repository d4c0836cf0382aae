"""The bits of the card ``QUALITY``: what is wrong with an image."""

from __future__ import annotations

from enum import IntFlag


class Flag(IntFlag):
    """One bit each; an image without any is as it should be."""

    unlike = 1
    poor = 2
    dim = 4
    few_exposures = 8
    many_missing = 16
    not_pointed = 32
    not_registered = 64
    no_log = 128
    unsteady = 256


#: What each bit says.
MEANINGS = {
    Flag.unlike: "unlike the reference of destretch: moved as the images before it, or not at all",
    Flag.poor: "of little detail: matched, but kept out of the reference of destretch",
    Flag.dim: "the telescope's light level was below 70 % of the sequence's median",
    Flag.few_exposures: "made of fewer than half of its burst's exposures",
    Flag.many_missing: "more than 10 % of the pixels came from nowhere",
    Flag.not_pointed: "the pointing is unknown: coordinates are as if the field were at disk centre",
    Flag.not_registered: "the channel is not registered to the reference channel",
    Flag.no_log: "the telescope log says nothing of this time",
    Flag.unsteady: "more than half a pixel of shift was left over after destretch",
}


def flag_names(value: int) -> list[str]:
    """The names of the bits that are set."""
    return [str(flag.name) for flag in Flag if value & flag]
