"""The table of header keywords: every card of a final file, with type, unit, source and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Keyword:
    """
    One keyword of a final file.

    Attributes
    ----------
    name : str
        Keyword.
    kind : {"text", "int", "float", "bool", "time"}
        Type of its value.
    unit : str
        Physical unit, empty for none; written first in the comment.
    meaning : str
        The comment.
    source : str
        Where the value comes from: ``array``, ``fixed``, ``config``, ``frames`` (raw files and bursts),
        ``log`` (telescope), ``speckle``, ``sun`` (ephemeris), ``wcs``, ``writer``.
    form : str
        Format to which a float is rounded.
    required : bool
        Every frame has it; others are left out where they have no source.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    source: str
    form: str = ".12g"
    required: bool = False


def _rows(text: str) -> list[Keyword]:
    rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    kinds = {"T": "text", "I": "int", "F": "float", "B": "bool", "D": "time"}
    return [
        Keyword(name, kinds[kind], unit, meaning, source, form or ".12g", required == "*")
        for name, kind, unit, required, form, source, meaning in rows
    ]


# name | kind: Text Int Float Bool Date | unit | * required | format | source | meaning
KEYWORDS: tuple[Keyword, ...] = tuple(
    _rows(
        """
SIMPLE   | B |          | * |       | array  | conforms to FITS standard
BITPIX   | I |          | * |       | array  | array data type
NAXIS    | I |          | * |       | array  | number of array dimensions
NAXIS1   | I |          | * |       | array  | columns
NAXIS2   | I |          | * |       | array  | rows
EXTNAME  | T |          | * |       | config | Name of the HDU: channel
FILENAME | T |          | * |       | writer | Name of the file
DATE     | D |          | * |       | writer | [UTC] Date of file creation
ORIGIN   | T |          | * |       | config | Institution
AUTHOR   | T |          | * |       | config | Who made the data
TELESCOP | T |          | * |       | config | Telescope
OBSRVTRY | T |          | * |       | config | Observatory
INSTRUME | T |          | * |       | config | Instrument
DETECTOR | T |          | * |       | config | Channel
CAMERA   | T |          |   |       | config | Camera
FILTER   | T |          |   |       | config | Filter
OBJECT   | T |          |   |       | config | Target of the observation
OBSERVER | T |          |   |       | config | Observer
LEVEL    | T |          | * |       | writer | 0.5 dark, flat; 1 speckle; 1.5 destretched
VERSION  | I |          | * |       | fixed  | Version of the file
POINT_ID | T |          | * |       | writer | Observing sequence
SOLARNET | F |          | * |       | fixed  | SOLARNET compliance: 0.5 partial
OBS_HDU  | I |          | * |       | fixed  | This HDU holds observations
SOLNETEX | T |          | * |       | fixed  | Keywords used otherwise than in SOLARNET
TIMESYS  | T |          | * |       | fixed  | Time system
DATE-OBS | D |          | * |       | frames | [UTC] Start of the first exposure
DATE-BEG | D |          | * |       | frames | [UTC] Start of the first exposure
STARTOBS | D |          | * |       | frames | [UTC] Start of the first exposure
DATE-AVG | D |          | * |       | frames | [UTC] Mean of the exposures
DATE-END | D |          | * |       | frames | [UTC] End of the last exposure
ENDOBS   | D |          | * |       | frames | [UTC] End of the last exposure
MJD-OBS  | F | d        | * | .11f  | frames | DATE-OBS as Modified Julian Date
MJD-BEG  | F | d        | * | .11f  | frames | DATE-BEG as Modified Julian Date
MJD-AVG  | F | d        | * | .11f  | frames | DATE-AVG as Modified Julian Date
MJD-END  | F | d        | * | .11f  | frames | DATE-END as Modified Julian Date
DATEREF  | D |          |   |       | frames | [UTC] Reference time
MJDREF   | F | d        |   | .11f  | frames | DATEREF as Modified Julian Date
XPOSURE  | F | s        | * | .6f   | frames | Total exposure of the frames used
TEXPOSUR | F | s        | * | .6f   | frames | Total accumulation time
EXPFRAME | F | s        | * | .9g   | config | Exposure of one frame
NSUMEXP  | I |          | * |       | frames | Frames used
NEXPLOST | I |          |   |       | frames | Frames of the burst that were left out
CADENCE  | F | s        |   | .4f   | frames | Median time between images
CADAVG   | F | s        |   | .4f   | frames | Mean time between images
CADMIN   | F | s        |   | .4f   | frames | Shortest time between images
CADMAX   | F | s        |   | .4f   | frames | Longest time between images
CADVAR   | F | s^2      |   | .6g   | frames | Variance of the time between images
IMG_NUM  | I |          |   |       | frames | Number of the image in its sequence, from 0
RAW_BEG  | T |          |   |       | frames | Raw file of the burst's first frame
RAW_END  | T |          |   |       | frames | Raw file of the burst's last frame
RAW_NUM  | I |          |   |       | frames | First raw frame, counted over all files
BTYPE    | T |          | * |       | fixed  | Type of data
BUNIT    | T |          |   |       | fixed  | Unit of data
WAVE     | F | nm       | * |       | config | Wavelength
WAVELNTH | F | nm       | * |       | config | Wavelength
WAVEUNIT | T |          | * |       | fixed  | Unit of wavelengths
WAVEMIN  | F | nm       |   | .9g   | config | Short edge of the filter
WAVEMAX  | F | nm       |   | .9g   | config | Long edge of the filter
WAVEREF  | T |          |   |       | fixed  | Wavelengths in air
WAVEBAND | T |          |   |       | config | Filter
WCSAXES  | I |          | * |       | fixed  | Number of coordinate axes
WCSNAME  | T |          | * |       | fixed  | Coordinate system
CTYPE1   | T |          | * |       | fixed  | Helioprojective longitude, gnomonic
CTYPE2   | T |          | * |       | fixed  | Helioprojective latitude, gnomonic
CUNIT1   | T |          | * |       | fixed  | Unit of axis 1
CUNIT2   | T |          | * |       | fixed  | Unit of axis 2
CNAME1   | T |          |   |       | fixed  | Axis 1, positive to solar west
CNAME2   | T |          |   |       | fixed  | Axis 2, positive to solar north
CRVAL1   | F | arcsec   | * | .4f   | wcs    | Solar X of the reference pixel
CRVAL2   | F | arcsec   | * | .4f   | wcs    | Solar Y of the reference pixel
CDELT1   | F | arcsec   | * | .10g  | wcs    | Plate scale along axis 1
CDELT2   | F | arcsec   | * | .10g  | wcs    | Plate scale along axis 2
CRPIX1   | F | pix      | * | .5f   | wcs    | Reference pixel, first pixel is 1
CRPIX2   | F | pix      | * | .5f   | wcs    | Reference pixel, first pixel is 1
CROTA2   | F | deg      | * | .5f   | wcs    | Solar north is clockwise of axis 2
CRDER1   | F | arcsec   |   | .3g   | wcs    | Random error of axis 1
CRDER2   | F | arcsec   |   | .3g   | wcs    | Random error of axis 2
CSYER1   | F | arcsec   |   | .3g   | wcs    | Systematic error of axis 1
CSYER2   | F | arcsec   |   | .3g   | wcs    | Systematic error of axis 2
POINTSRC | T |          | * |       | wcs    | Source of the pointing
RSUN_REF | F | m        | * |       | fixed  | Solar radius, as for HMI
DSUN_OBS | F | m        | * | .1f   | sun    | Distance from Sun to telescope
HGLN_OBS | F | deg      | * | .8f   | sun    | Stonyhurst longitude of the telescope
HGLT_OBS | F | deg      | * | .8f   | sun    | Stonyhurst latitude of the telescope
RSUN_OBS | F | arcsec   |   | .3f   | sun    | Apparent solar radius
RSUN_ARC | F | arcsec   |   | .3f   | log    | Solar radius in the telescope log
OBSGEO-X | F | m        | * | .4f   | config | Telescope, ITRS
OBSGEO-Y | F | m        | * | .4f   | config | Telescope, ITRS
OBSGEO-Z | F | m        | * | .4f   | config | Telescope, ITRS
OBSGEO-L | F | deg      |   | .9f   | config | Longitude, IAU 1976 ellipsoid
OBSGEO-B | F | deg      |   | .9f   | config | Latitude, IAU 1976 ellipsoid
OBSGEO-H | F | m        |   | .4f   | config | Height, IAU 1976 ellipsoid
OBS_VR   | F | m/s      |   | .1f   | sun    | Velocity away from the Sun
SPECSYS  | T |          |   |       | fixed  | Frame of spectral coordinates
VELOSYS  | F | m/s      |   | .1f   | fixed  | Velocity of that frame
ELEV_ANG | F | deg      |   | .3f   | sun    | Height of the Sun over the horizon
SCINT    | F | arcsec   |   | .6g   | log    | Seeing by the Seykora monitor
LLVL     | F | V        |   | .6g   | log    | Light level
SPKLALPH | F |          |   | .8g   | speckle| Fried parameter over telescope diameter
ATMOS_R0 | F | cm       |   | .5g   | speckle| Fried parameter
SPKLFLIK | F |          |   | .4g   | speckle| change by the filter against flicker, rms over contrast
AO_LOCK  | I |          |   |       | log    | Adaptive optics locked
QUALITY  | I |          |   |       | frames | Sum of flags, see documentation; 0: good
MFGS     | F |          |   | .5f   | array  | Median filter-gradient similarity, centre
CONTRAST | F |          |   | .5g   | array  | Rms contrast, centre of the field
DSRESID  | F | pix      |   | .4g   | frames | Shift left over after destretch, rms
DSREPAIR | F | %        |   | .4g   | frames | Share of tiles repaired in destretch
NTOTPIX  | I |          |   |       | array  | Pixels of the image
NMASKPIX | I |          |   |       | array  | Pixels that came from nowhere
PCT_MASK | F | %        |   | .5g   | array  | Share of these
DATAMIN  | F |          | * | .9g   | array  | Minimum
DATAMAX  | F |          | * | .9g   | array  | Maximum
DATAMEAN | F |          | * | .9g   | array  | Mean
DATAMEDN | F |          | * | .9g   | array  | Median
DATARMS  | F |          | * | .9g   | array  | Standard deviation
CREATOR  | T |          | * |       | fixed  | Program that wrote the file
VERS_SW  | T |          | * |       | fixed  | Its version
HASH_SW  | T |          | * |       | fixed  | SHA-256 of its sources
DIGEST   | T |          |   |       | writer | Of settings and inputs
"""
    )
)

TABLE: Mapping[str, Keyword] = {k.name: k for k in KEYWORDS}

FIXED: Mapping[str, Any] = {
    "SIMPLE": True,
    "VERSION": 1,
    "SOLARNET": 0.5,
    "OBS_HDU": 1,
    "SOLNETEX": "TEXPOSUR,WAVEUNIT",
    "TIMESYS": "UTC",
    "BTYPE": "Intensity",
    "BUNIT": "DN",
    "WAVEUNIT": "nm",
    "WAVEREF": "air",
    "WCSAXES": 2,
    "WCSNAME": "Helioprojective-cartesian",
    "CTYPE1": "HPLN-TAN",
    "CTYPE2": "HPLT-TAN",
    "CUNIT1": "arcsec",
    "CUNIT2": "arcsec",
    "CNAME1": "Solar X",
    "CNAME2": "Solar Y",
    "RSUN_REF": 696_000_000.0,
    "SPECSYS": "TOPOCENT",
    "VELOSYS": 0.0,
}


def card_comment(row: Keyword) -> str:
    """
    Comment of a card, unit first.

    Parameters
    ----------
    row : Keyword
        The keyword.

    Returns
    -------
    str
        ``[unit] meaning``.
    """
    return f"[{row.unit}] {row.meaning}" if row.unit else row.meaning
