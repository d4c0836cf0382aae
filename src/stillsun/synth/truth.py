"""The truth beside a simulated observation, as one HDF5 file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stillsun.synth.camera import Detector
from stillsun.synth.channels import ChannelSetup


@dataclass
class ChannelTruth:
    """
    What is known of one channel.

    Attributes
    ----------
    setup : ChannelSetup
        The channel.
    detector : Detector
        Its chip.
    point_rows, point_columns : numpy.ndarray
        Field points, px of the camera image.
    image : list of numpy.ndarray
        Diffraction-limited image of each burst in camera orientation, brightness.
    flow : numpy.ndarray, shape (2, rows, columns)
        Solar flow (y, x) in camera pixels per second of the observation.
    time : list of float
        Middle of each frame's exposure, seconds since the trigger.
    r0 : list of float
        Fried parameter at the channel's wavelength for each frame, m.
    transparency : list of float
        Factor on the brightness of each frame.
    shifts : list of numpy.ndarray
        Motion (y, x) at the field points of each frame, px.
    """

    setup: ChannelSetup
    detector: Detector
    point_rows: np.ndarray
    point_columns: np.ndarray
    flow: np.ndarray
    image: list[np.ndarray] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    r0: list[float] = field(default_factory=list)
    transparency: list[float] = field(default_factory=list)
    shifts: list[np.ndarray] = field(default_factory=list)


def write_truth(path: Path, attributes: dict[str, Any], channels: list[ChannelTruth]) -> None:
    """
    Write `truth.h5`.

    Parameters
    ----------
    path : Path
        The file.
    attributes : dict
        Facts of the whole observation: numbers, text, or lists of them.
    channels : list of ChannelTruth
        The channels, each a group of its own.

    Notes
    -----
    In each group: ``image`` (bursts, rows, columns), ``dark``, ``gain``, ``dead``, ``hot``, ``flow``
    (2, rows, columns), ``time``, ``r0_m``, ``transparency`` (frames), ``shifts`` (frames, 2, point rows,
    point columns), ``point_rows``, ``point_columns``; the geometry in attributes. What a perfect
    telescope shows at p, frame k shows at p + shifts[k]. A camera pixel sees, in the telescope's frame,
    offset_arcsec + jacobian @ (column - middle, row - middle); the sky is that turned by crota2_deg.
    """
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs.update({key: _plain(value) for key, value in attributes.items()})
        for truth in channels:
            setup = truth.setup
            group = file.create_group(setup.name, track_order=True)
            group.attrs["plate_scale"] = setup.plate_scale
            group.attrs["orientation"] = json.dumps(setup.orientation)
            group.attrs["rotation_deg"] = setup.rotation_deg
            group.attrs["offset_arcsec"] = setup.offset_arcsec
            group.attrs["jacobian"] = setup.jacobian()
            group.attrs["wavelength_nm"] = setup.wavelength_nm
            group.attrs["electrons_per_dn"] = setup.electrons_per_dn
            group.attrs["level_dn"] = truth.detector.level
            for name in ("dark", "gain", "dead", "hot"):
                group[name] = getattr(truth.detector, name)
            group["flow"] = truth.flow
            group["image"] = np.stack(truth.image)
            group["time"] = np.array(truth.time)
            group["r0_m"] = np.array(truth.r0)
            group["transparency"] = np.array(truth.transparency)
            group["shifts"] = np.stack(truth.shifts)
            group["point_rows"] = truth.point_rows
            group["point_columns"] = truth.point_columns


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) or value is None else value
