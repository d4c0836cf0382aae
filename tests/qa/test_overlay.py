"""Pictures of one image laid on another."""

from __future__ import annotations

import numpy as np

from stillsun.qa.overlay import Overlay, write_overlays


def test_contours_lie_where_the_extents_say(tmp_path):
    from matplotlib.image import imread

    # A dark square in grey, and contours of the same square from pixels twice as large.
    fine = np.ones((80, 80))
    fine[20:60, 20:60] = 0.0
    coarse = fine[::2, ::2]
    extent = (-10.0, 10.0, -10.0, 10.0)
    shifted = (-5.0, 15.0, -10.0, 10.0)
    panels = [
        Overlay(title, fine, coarse, extent, where, levels=(0.5,))
        for title, where in (("on", extent), ("off", shifted))
    ]
    path = write_overlays(tmp_path / "new" / "a.png", panels, heading="two")
    picture = imread(path)[..., :3]
    red = (picture[..., 0] > 0.8) & (picture[..., 2] < 0.5)
    half = picture.shape[1] // 2
    left, right = (np.flatnonzero(part.any(axis=0)) for part in (red[:, :half], red[:, half:]))
    # The square is 10 arcsec wide; the second contour lies 5 arcsec farther to the right.
    width = np.ptp(left)
    assert abs(np.ptp(right) - width) <= 2
    assert abs((right.mean() - left.mean()) - width / 2) < 0.1 * width
    again = write_overlays(tmp_path / "b.png", panels, heading="two")
    assert again.read_bytes() == path.read_bytes()


def test_an_even_image_has_no_contours(tmp_path):
    extent = (0.0, 1.0, 0.0, 1.0)
    flat = Overlay("flat", np.ones((8, 8)), np.zeros((8, 8)), extent, extent)
    assert write_overlays(tmp_path / "a.png", [flat], heading="").exists()
