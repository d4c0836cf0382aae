"""The calibration of a camera: dark, flat, gain, bad pixels, noise, target, plate scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillsun.core.badpixels import DEAD, HOT, UNSTABLE
from stillsun.products.base import StoreProduct, Value

if TYPE_CHECKING:
    from stillsun.core.backend import Backend
    from stillsun.core.calibrate import Correction
    from stillsun.core.calibrate_in_time import DriftingCorrection

#: Parts that not every calibration has: those of darks and flats, of target and grid, of sequences in time.
MEANS, TARGET, GRID, SEQUENCES = "means", "target", "linegrid", "sequences"
_FRAME = ("rows", "columns")
#: What `Calibration.correction` reads, and what geometry: the shape is that of the bad pixels.
CORRECTION = (
    "dark",
    "gain",
    "bad_pixels",
    "dark_sequences",
    "dark_times",
    "flat_responses",
    "flat_times",
)
GEOMETRY = ("bad_pixels", "plate_scale")


class Calibration(StoreProduct):
    """Camera orientation throughout."""

    name = "calibration"

    dark = Value("float32", "DN", "mean dark", _FRAME, when=MEANS)
    flat = Value("float32", "DN", "mean flat, dark not subtracted", _FRAME, when=MEANS)
    gain = Value("float32", "", "median(flat - dark) / (flat - dark)", _FRAME, when=MEANS)
    dark_variance = Value("float32", "DN^2", "variance of the dark frames", _FRAME, when=MEANS)
    flat_variance = Value("float32", "DN^2", "variance of the flat frames", _FRAME, when=MEANS)
    target = Value(
        "float32",
        "DN",
        "calibrated mean of the target frames, camera orientation",
        ("target_rows", "target_columns"),
        when=TARGET,
    )
    linegrid = Value(
        "float32", "DN", "calibrated mean of the line-grid frames, camera orientation", _FRAME, when=GRID
    )
    bad_pixels = Value(
        "uint8", "", f"sum of {DEAD}: dead, {HOT}: hot and {UNSTABLE}: unstable; 0: good", _FRAME
    )
    noise = Value("float32", "DN", "calibrated flat frames", ("noise", *_FRAME), when=MEANS)
    plate_scale = Value("float64", "arcsec/px", "x and y, camera orientation", (2,))
    plate_scale_scatter = Value(
        "float64",
        "arcsec/px",
        "standard deviation over single distances of lines; NaN where not measured",
        (2,),
    )
    plate_scale_source = Value("str", "", "where the plate scale comes from: line grid or configured")
    dark_frames = Value("int64", "", "frames in the mean dark", when=MEANS)
    flat_frames = Value("int64", "", "frames in the mean flat", when=MEANS)
    dark_rejected = Value("int64", "", "dark frames left out: saturated or off", when=MEANS)
    flat_rejected = Value("int64", "", "flat frames left out: saturated or off", when=MEANS)
    dark_sequences = Value(
        "float32",
        "DN",
        "mean dark of each sequence, where they are interpolated",
        ("darks", *_FRAME),
        when=SEQUENCES,
    )
    dark_times = Value(
        "float64", "s", "Unix time, UTC: middle of each sequence of darks", ("darks",), when=SEQUENCES
    )
    flat_responses = Value(
        "float32",
        "",
        "flat less dark over its median, of each sequence of flats",
        ("flats", *_FRAME),
        when=SEQUENCES,
    )
    flat_times = Value(
        "float64", "s", "Unix time, UTC: middle of each sequence of flats", ("flats",), when=SEQUENCES
    )

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns of the camera's frames."""
        return self.store.shape("bad_pixels")

    def correction(self, backend: Backend | str | None = None) -> Correction | DriftingCorrection:
        """What calibrates frames; interpolated in time where there are sequences."""
        from stillsun.core.calibrate import make_correction
        from stillsun.core.calibrate_in_time import make_drifting

        if self.dark_times is None:
            return make_correction(self.dark, self.gain, self.bad_pixels, backend=backend)
        return make_drifting(
            self.dark_sequences,
            self.dark_times,
            self.flat_responses,
            self.flat_times,
            self.bad_pixels,
            backend=backend,
        )
