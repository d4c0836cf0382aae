"""Shifts of the reference channel, carried to the pixels of a channel that follows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillsun.core.affine import PixelMap, carry_displacement, pixel_map, shifts_of_field
from stillsun.core.bursts import nearest
from stillsun.errors import InputError, RegistrationError
from stillsun.products.channel import Channel
from stillsun.products.destretched import Destretched
from stillsun.stages._channelpair import match_targets, without_target
from stillsun.stages.base import StageContext

_MAX_ROTATION_DEG = 5.0  # of a channel that can follow
_IN_STEP = 0.1  # of a burst's length: difference of the middles of two that count as of one time
_REMEDY = "Measure this channel's own shifts: destretch.follow_reference=false"


class Following:
    """
    What the reference channel's destretch did, for the frames of another channel.

    A frame takes the shifts of the reference channel's frame of the same time: seeing moves the field by
    pixels within a burst, so that the middles must agree to a tenth of it.

    Parameters
    ----------
    ctx : StageContext
        Context of the stage destretch of a channel that follows.
    shape : tuple of int
        Rows and columns of the channel's oriented frames.
    kernels : sequence of int
        Checked kernels, by which the shifts are expressed.

    Attributes
    ----------
    rows : numpy.ndarray
        (n,) int64: for each frame of the channel the reference channel's, -1 for none.

    Raises
    ------
    InputError
        If the reference channel is not destretched, a target is missing, or most frames have no partner.
    RegistrationError
        If the targets do not match.
    """

    def __init__(self, ctx: StageContext, shape: tuple[int, int], kernels: Sequence[int]) -> None:
        self._backend = ctx.backend
        self._shape, self._kernels = shape, tuple(kernels)
        if ctx.reference is None or not ctx.reference.has(Destretched):
            raise InputError(
                "the reference channel, which destretch is to follow, is not destretched",
                remedy=f"Reduce it in the same run, or before. {_REMEDY}",
            )
        self._source = ctx.reference.destretched
        if self._source.attributes["reference"] == "none":
            raise InputError(
                "the reference channel was destretched by an earlier system, whose shifts are unknown",
                remedy=_REMEDY,
            )
        self._pixels = _place(ctx, ctx.reference, shape, self._source.shape)
        self.rows = _partners(ctx, ctx.reference)
        paired = int(np.count_nonzero(self.rows >= 0))
        if 2 * paired < len(self.rows):
            raise InputError(
                "destretch cannot follow the reference channel: too few bursts are in step with its",
                expected=f"{len(self.rows)} bursts, or most of them, in step to a tenth of their length",
                found=paired,
                remedy=_REMEDY,
            )

    def shifts(self, number: int) -> list[np.ndarray] | None:
        """
        Shifts of a frame.

        Parameters
        ----------
        number : int
            The channel's frame.

        Returns
        -------
        list of numpy.ndarray or None
            One array a kernel of the channel; None where the reference channel has nothing for its time.
        """
        row = int(self.rows[number])
        if row < 0 or not self._source.live(row):
            return None
        field = self._source.correction(row, self._backend)
        carried, _ = carry_displacement(field, self._pixels, self._shape, self._backend)
        return shifts_of_field(carried, self._kernels, self._backend)


def _place(
    ctx: StageContext, reference: Channel, shape: tuple[int, int], source_shape: tuple[int, int]
) -> PixelMap:
    """Where the channel's pixels lie in the reference channel, by the targets."""
    missing = without_target(ctx)
    if missing:
        raise InputError(f"destretch cannot follow the reference channel: {missing}", remedy=_REMEDY)
    match = match_targets(ctx, reference, _MAX_ROTATION_DEG).match
    if not match.accepted:
        raise RegistrationError(
            f"destretch cannot follow the reference channel: the match of the targets fails: "
            f"{'; '.join(match.faults)}",
            remedy=_REMEDY,
        )
    return pixel_map(shape, ctx.scale, source_shape, reference.scale, match.translation, match.rotation_deg)


def _partners(ctx: StageContext, reference: Channel) -> np.ndarray:
    """The reference channel's frame of the same time as each of the channel's, -1 for none."""
    ours, theirs = ctx.bursts, reference.bursts
    near = nearest(theirs.times, ours.times)
    away = np.abs(ours.times - theirs.times[near])
    length = np.maximum(ours.time_end - ours.time_beg, (theirs.time_end - theirs.time_beg)[near])
    return np.where(away <= _IN_STEP * length, near, -1)
