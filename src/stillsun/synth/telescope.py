"""What the telescope knows of itself: pointing, seeing and light level in time, and its log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from stillsun.synth.ephemeris import carried, sun_view, to_helioprojective, to_stonyhurst
from stillsun.synth.settings import SimulationSettings

# Guider angle at which solar north is up.
GUIDER_ZERO_DEG = 13.3
_LOG_MARGIN_SECONDS = 60
# Share of its time that a cloud takes to come, and to go.
_CLOUD_EDGE = 0.1


@dataclass(frozen=True)
class MountState:
    """
    True pointing in time, and the slow drifts of seeing and light.

    Attributes
    ----------
    settings : SimulationSettings
        What is simulated.
    """

    settings: SimulationSettings

    def pointing(self, time: datetime) -> tuple[float, float]:
        """
        True position of the centre of the field: it follows the rotating Sun.

        Parameters
        ----------
        time : datetime
            UTC.

        Returns
        -------
        x, y : float
            Helioprojective coordinates, arcsec.
        """
        s = self.settings
        longitude = carried(s.latitude_deg, s.longitude_deg, s.start, time)
        return to_helioprojective(s.latitude_deg, longitude, time)

    def fried_parameter(self, seconds: float) -> float:
        """
        Fried parameter at 500 nm.

        Parameters
        ----------
        seconds : float
            Time since the trigger.

        Returns
        -------
        float
            Metres.
        """
        s = self.settings
        p1, p2 = np.random.default_rng([s.seed, 4]).uniform(0, 2 * np.pi, 2)
        wave = 0.8 * np.sin(2 * np.pi * seconds / 17.0 + p1) + 0.6 * np.sin(2 * np.pi * seconds / 6.1 + p2)
        return float(s.r0_m * np.exp(s.r0_variation * wave))

    def light_level(self, seconds: float) -> float:
        """
        Light level of the guider, which the brightness of the frames follows.

        Parameters
        ----------
        seconds : float
            Time since the trigger.

        Returns
        -------
        float
            Volts; 4 at brightness 1.
        """
        drift = 4.0 * (1 + 0.01 * np.sin(2 * np.pi * seconds / 240.0))
        return float(drift * self._transmission(seconds))

    def _transmission(self, seconds: float) -> float:
        s = self.settings
        if s.cloud is None:
            return 1.0
        come, go = s.cloud
        edge = _CLOUD_EDGE * (go - come)
        cover = np.interp(seconds, [come, come + edge, go - edge, go], [0.0, 1.0, 1.0, 0.0])
        return float(1.0 - cover * (1.0 - s.cloud_transmission))

    def write_log(self, path: Path, seconds: float) -> None:
        """
        Write the telescope's log (DCSS), a record a second, with the errors of its pointing.

        Parameters
        ----------
        path : Path
            Text file.
        seconds : float
            Length of the observation.
        """
        records = range(-_LOG_MARGIN_SECONDS, int(np.ceil(seconds)) + _LOG_MARGIN_SECONDS + 1)
        lines = [line for offset in records for line in self._record(offset + 0.2)]
        path.write_text("\n".join(lines) + "\n", encoding="ascii")

    def _record(self, offset: float) -> Iterator[str]:
        s = self.settings
        time = s.start + timedelta(seconds=offset)
        x, y = self.pointing(time)
        latitude, longitude = to_stonyhurst(
            x + s.pointing_error_arcsec[0], y + s.pointing_error_arcsec[1], time
        )
        view = sun_view(time)
        stamp = time.isoformat(timespec="milliseconds")
        yield _line("DST_TIME", f"'{stamp}'", "DCSS time (UTC)")
        yield _line("DST_TBL", f"{121.0 + 0.0042 * offset:.3f}", "table angle (deg)")
        guider = GUIDER_ZERO_DEG + s.crota2_deg + s.guider_error_deg
        yield _line("DST_GDRN", f"{guider:.3f}", "guider angle (deg)")
        yield _line("DST_SLAT", f"{latitude:.5f}", "Stonyhurst latitude (deg)")
        yield _line("DST_SLNG", f"{longitude:.5f}", "Stonyhurst longitude (deg)")
        yield _line("DST_BEE0", f"{view.latitude:.3f}", "B0 (deg)")
        yield _line("DST_ELL0", f"{view.carrington:.3f}", "L0 (deg)")
        yield _line("DST_SDIM", f"{2 * view.radius:.2f}", "solar diameter (arcsec)")
        yield _line("DST_LLVL", f"{self.light_level(offset):.3f}", "light level (V)")
        yield _line("DST_SEE", f"{0.048 / self.fried_parameter(offset):.3f}", "scintillation (arcsec)")
        yield _line("PT4_TIME", f"'{stamp}'", "port 4 time (UTC)")


def _line(key: str, value: str, comment: str) -> str:
    return f"{key:<8}= {value:>24} / {comment}"
