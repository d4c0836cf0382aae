"""One geometry: where a feature is by the header of its frame, and on the axes of the movie."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS
from tests.qa._night import CADENCE, START, Night, context

from stillsun.config.schema import MovieConfig
from stillsun.products.placement import System, placement
from stillsun.qa.view import View, frame_raster

FEATURE = (70.0, 41.0)  # pixel (x, y), counted from 0
SPREAD = 4.0


class _Drifting(Night):
    """A channel whose science images drift against the reference channel, turned and on the Sun."""

    applied = 1

    def _registration(self):
        return super()._registration() | {
            "rotation_deg": (np.float64(2.0), "deg", False),
            "drift_applied": (np.uint8(self.applied), "", False),
            "drift_time": (np.float64(START + 3.0), "s", False),
            "drift_offset": (np.array([0.04, -0.07]), "arcsec", False),
            "drift_rate": (np.array([0.03, 0.05]) / CADENCE, "arcsec/s", False),
        }

    def _pointing(self):
        turned = self.angle + 0.02 * np.arange(len(self.times))
        return super()._pointing() | {"crota2": (turned, "deg", True)}


@pytest.mark.parametrize("angle", [0.0, 37.0])
@pytest.mark.parametrize("applied", [0, 1])
def test_movies_and_headers_put_a_feature_to_the_same_place(tmp_path, angle, applied):
    night = _Drifting()
    night.angle, night.applied, night.offset = angle, applied, np.array([3.3, -2.1])
    products = ("calibration", "bursts", "destretch", "registration", "pointing")
    channel = context(tmp_path, {"A": (night, products)}, MovieConfig()).channels["A"]
    shape = night.scene.shape
    y, x = np.indices(shape)
    spot = np.exp(-((x - FEATURE[0]) ** 2 + (y - FEATURE[1]) ** 2) / (2 * SPREAD**2)).astype(np.float32)
    place = placement(channel, shape)
    assert place.system is System.sun
    raster = frame_raster(place, shape, 4 * max(shape))
    view = View(place, raster, (0.0, 1.2))
    size = min(place.scale)
    seen = []
    for number in range(len(night.times)):
        picture = view.picture(spot, number).astype(float)
        picture[picture == 255] = 0.0  # beside the frame
        rows, columns = (np.arange(n) + 0.5 for n in picture.shape)
        total = picture.sum()
        left = raster.left + raster.step[0] * (picture.sum(axis=0) @ columns) / total
        up = raster.bottom + raster.step[1] * (picture.sum(axis=1) @ rows) / total
        # Solar rotation moves the coordinates of headers; the axes hold at one time.
        wcs: WCS = channel.wcs(number)
        header = np.array(wcs.all_pix2world(*FEATURE, 0)) * 3600
        header = (header + 648000) % 1296000 - 648000 - wcs.wcs.crval * 3600
        seen.append(np.array([left, up]) - place.origin - header)
    assert np.abs(seen).max() < 0.01 * size
    moved = np.ptp(channel.geometry_at(channel.times, shape).crpix, axis=0)
    assert (moved > 2).all() if applied else (moved == 0).all()
