"""A sequence of bursts as the external speckle program sees it: files, names and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillsun.speckle.kisip.burstfile import BATCH, FileForm
from stillsun.speckle.kisip.initfiles import (
    FileParameters,
    MethodParameters,
    PropsParameters,
    write_parameters,
)
from stillsun.speckle.kisip.outputs import output_fault


@dataclass(frozen=True)
class Job:
    """
    A sequence of bursts for the program.

    Attributes
    ----------
    directory : Path
        Working directory: parameter files are written and the program is started here.
    bursts, outputs : Path
        Directories of the burst files and of the program's output.
    burst_form, output_form : FileForm
        File names in them.
    noise : Path
        Noise file.
    method : MethodParameters
        How to reconstruct.
    props : PropsParameters
        What the data are.
    """

    directory: Path
    bursts: Path
    outputs: Path
    burst_form: FileForm
    output_form: FileForm
    noise: Path
    method: MethodParameters
    props: PropsParameters

    def burst_path(self, burst: int) -> Path:
        """
        Burst file.

        Parameters
        ----------
        burst : int
            Number of the burst in the sequence.

        Returns
        -------
        Path
            Its file.
        """
        return self.bursts / self.burst_form.name(burst)

    def output_base(self, burst: int) -> Path:
        """
        Output files of a burst, without suffix.

        Parameters
        ----------
        burst : int
            Number of the burst in the sequence.

        Returns
        -------
        Path
            Path to which the suffixes are added.
        """
        return self.outputs / self.output_form.name(burst)

    def fault(self, burst: int) -> str | None:
        """
        Say why a burst is not done.

        Parameters
        ----------
        burst : int
            Number of the burst in the sequence.

        Returns
        -------
        str or None
            None if its outputs are complete.
        """
        return output_fault(self.output_base(burst), self.props.rows, self.props.columns)

    def write_parameters(self, bursts: range) -> None:
        """
        Write the three parameter files.

        Parameters
        ----------
        bursts : range
            Bursts to make, all of one batch.
        """
        batch = bursts[0] // BATCH
        file = FileParameters(
            self.bursts.resolve() / self.burst_form.base(batch),
            bursts[0] % BATCH,
            bursts[-1] % BATCH,
            self.outputs.resolve() / self.output_form.base(batch),
            self.noise.resolve(),
        )
        write_parameters(self.directory, file, self.method, self.props)
