"""
Parameter files of the external speckle program, from typed values and back.

The program reads three text files in the directory in which it is started, one value a line and
nothing else: ``init_file.dat``, ``init_method.dat`` and ``init_props.dat`` (SSOSoft manual,
2025-10-14, sections 7.3 and 7.4). Their meaning lies in the order of the lines alone.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from stillsun.errors import InputError

FILE = "init_file.dat"
METHOD = "init_method.dat"
PROPS = "init_props.dat"
#: Methods of phase reconstruction by their number in ``init_method.dat``.
METHODS = ("knox_thompson", "triple_correlation")
# A dozen lines, three of them paths.
_LARGEST = 65536


@dataclass(frozen=True)
class FileParameters:
    """
    ``init_file.dat``: which bursts of one batch, from where to where.

    Attributes
    ----------
    burst_base : Path
        Absolute path of the burst files without their last ``.NNN``.
    first, last : int
        First and last burst in the batch, 0 to 999, both included.
    output_base : Path
        Absolute path of the output files without ``.NNN`` and suffix.
    noise : Path
        Absolute path of the noise file.
    """

    burst_base: Path
    first: int
    last: int
    output_base: Path
    noise: Path


@dataclass(frozen=True)
class MethodParameters:
    """
    ``init_method.dat``: how to reconstruct.

    Attributes
    ----------
    method : int
        0: Knox-Thompson, 1: triple correlation.
    subfield_arcsec : float
        Size of the subfields.
    phase_limit : float
        Limit of the phase reconstruction, per cent of the diffraction limit.
    u_limit : float
        Limit of the x component of the first bispectrum vector, per cent of the diffraction limit.
    v_limit : float
        Limit of the lengths of both vectors and their sum, per cent of the diffraction limit.
    max_iterations : int
        Iterations of the phase fit.
    snr_keep : float
        Share of the bispectrum that is used, the best per cent of it.
    weight_exponent : float
        Exponent of the signal-to-noise ratio in the weights.
    apodisation : float
        Apodised share of a subfield, per cent, both sides together.
    noise_filter : bool
        Damp frequencies where noise prevails.
    """

    method: int
    subfield_arcsec: float
    phase_limit: float
    u_limit: float
    v_limit: float
    max_iterations: int
    snr_keep: float
    weight_exponent: float
    apodisation: float
    noise_filter: bool

    @classmethod
    def of(cls, options: Any) -> MethodParameters:
        """
        Take them from the options of the reconstruction.

        Parameters
        ----------
        options : object
            Has attributes of the same names; its method is one of `METHODS`.

        Returns
        -------
        MethodParameters
            The values.
        """
        values = {item.name: getattr(options, item.name) for item in fields(cls)}
        return cls(**{**values, "method": METHODS.index(options.method.value)})

    def options(self) -> dict[str, Any]:
        """
        Give them as options of the reconstruction.

        Returns
        -------
        dict
            Arguments of `stillsun.reconstruct`.
        """
        return {**asdict(self), "method": METHODS[self.method]}


@dataclass(frozen=True)
class PropsParameters:
    """
    ``init_props.dat``: what the data are.

    Attributes
    ----------
    columns, rows : int
        Size of a frame.
    frames : int
        Frames of a burst.
    header_offset : int
        Bytes before the first pixel of a burst file.
    arcsec_per_pixel_x, arcsec_per_pixel_y : float
        Plate scale.
    telescope_mm : float
        Diameter of the telescope.
    wavelength_nm : float
        Wavelength.
    ao_lock_x, ao_lock_y : int
        Pixel of the adaptive optics' lock point; -1: the program finds it.
    ao_used : int
        1: adaptive optics, 0: tip-tilt only.
    """

    columns: int
    rows: int
    frames: int
    header_offset: int
    arcsec_per_pixel_x: float
    arcsec_per_pixel_y: float
    telescope_mm: float
    wavelength_nm: float
    ao_lock_x: int
    ao_lock_y: int
    ao_used: int


_Parameters = TypeVar("_Parameters", FileParameters, MethodParameters, PropsParameters)


def format_parameters(parameters: FileParameters | MethodParameters | PropsParameters) -> str:
    """
    Text of a parameter file.

    Parameters
    ----------
    parameters : FileParameters, MethodParameters or PropsParameters
        Values.

    Returns
    -------
    str
        One value a line. Whole numbers have no decimal point (the program may read them as
        integers), others as many digits as they need; indices have three digits.
    """
    if isinstance(parameters, FileParameters):
        p = parameters
        values = [str(p.burst_base), f"{p.first:03d}", f"{p.last:03d}", str(p.output_base), str(p.noise)]
    else:
        values = [_number(value) for value in astuple(parameters)]
    return "".join(f"{value}\n" for value in values)


def parse_parameters(text: str, kind: type[_Parameters], file: Path | None = None) -> _Parameters:
    """
    Values of a parameter file.

    Parameters
    ----------
    text : str
        Contents of the file.
    kind : type
        `FileParameters`, `MethodParameters` or `PropsParameters`.
    file : Path, optional
        Where the text is from, for errors.

    Returns
    -------
    FileParameters, MethodParameters or PropsParameters
        An instance of `kind`.

    Raises
    ------
    InputError
        If a line is missing, too many or no number.
    """
    lines = [line.strip() for line in text.splitlines()]
    names = [item.name for item in fields(kind)]
    if len(lines) != len(names):
        raise InputError(
            "wrong number of lines in a parameter file", file=file, expected=len(names), found=len(lines)
        )
    convert: dict[str, Any] = {"int": int, "float": float, "Path": Path, "bool": lambda line: bool(int(line))}
    values = {}
    for number, (item, line) in enumerate(zip(fields(kind), lines, strict=True), start=1):
        try:
            values[item.name] = convert[str(item.type)](line)
        except ValueError as error:
            raise InputError(
                f"line {number} of a parameter file cannot be read",
                file=file,
                expected=f"{item.name}: {item.type}",
                found=repr(line),
            ) from error
    return kind(**values)


def write_parameters(
    directory: Path, file: FileParameters, method: MethodParameters, props: PropsParameters
) -> None:
    """
    Write the three parameter files.

    Parameters
    ----------
    directory : Path
        Working directory of the program.
    file : FileParameters
        Which bursts.
    method : MethodParameters
        How.
    props : PropsParameters
        What they are.
    """
    for name, parameters in ((FILE, file), (METHOD, method), (PROPS, props)):
        (directory / name).write_text(format_parameters(parameters), encoding="utf-8", newline="\n")


def read_parameters(directory: Path) -> tuple[FileParameters, MethodParameters, PropsParameters]:
    """
    Read the three parameter files.

    Parameters
    ----------
    directory : Path
        Working directory of the program.

    Returns
    -------
    tuple
        Values of ``init_file.dat``, ``init_method.dat`` and ``init_props.dat``.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    return (
        _read(directory / FILE, FileParameters),
        _read(directory / METHOD, MethodParameters),
        _read(directory / PROPS, PropsParameters),
    )


def _read(path: Path, kind: type[_Parameters]) -> _Parameters:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_LARGEST)
    except OSError as error:
        raise InputError("parameter file not found", file=path, found=error.strerror) from error
    return parse_parameters(text, kind, path)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
