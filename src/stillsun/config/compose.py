"""Hydra's composition of conf/ and the command line into checked plain objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stillsun.config import _hydra
from stillsun.config.build import at_home, checked_settings
from stillsun.config.checks import check_tree
from stillsun.config.keys import STAGE_SCHEMAS
from stillsun.config.overrides import (
    FROM_FILE,
    OBSERVATION_FILE,
    explain_defaults,
    explain_override,
    first_lines,
    quoted,
    tidy_overrides,
    unquoted,
)
from stillsun.config.schema import ObservationConfig, RunConfig
from stillsun.config.settings import Settings
from stillsun.errors import ConfigError

_CHANNEL = re.compile(r"(?:\+\+)?observation\.channels\.([^.=]+)\.")
_OF_CHANNEL = re.compile(rf"observation\.channels\.[^.=]+\.({'|'.join(STAGE_SCHEMAS)})[.=]")


def config_directory() -> Path:
    """
    Find conf/: beside the sources in a checkout, inside the package when installed.

    Returns
    -------
    Path
        Absolute path.
    """
    package = Path(__file__).resolve().parents[1]
    for place in (package / "conf", package.parents[1] / "conf"):
        if (place / "config.yaml").is_file():
            return place
    raise ConfigError(
        "the configuration directory conf/ is missing", file=package, remedy="Install stillsun again"
    )


def register_schema() -> None:
    """Make the typed schema known to Hydra, and ``${home:PATH}``, which expands a leading ``~``."""
    OmegaConf.register_new_resolver("home", at_home, replace=True)
    _hydra.ConfigStore.instance().store(name="run_schema", node=RunConfig, provider="stillsun")


def hydra_overrides(overrides: Sequence[str], *, multirun: bool = False) -> list[str]:
    """
    Turn the overrides of the command line into Hydra's.

    ``observation_file=PATH`` becomes a choice of the group `observation`. A stage's keys of one channel,
    ``observation.channels.NAME.STAGE.KEY=VALUE``, need no ``+`` where the observation does not give them.

    Parameters
    ----------
    overrides : sequence of str
        Overrides of the command line.
    multirun : bool
        Several values between commas are a sweep.

    Returns
    -------
    list of str
        Overrides for Hydra.

    Raises
    ------
    ConfigError
        If the file is missing or no YAML mapping, or a word is no override.
    """
    overrides = tidy_overrides(overrides, multirun=multirun)
    path = observation_path(overrides, None)
    overrides = [f"++{o}" if _OF_CHANNEL.match(o) else o for o in overrides]
    if path is None:
        return overrides
    name = f"{FROM_FILE}{re.sub('[^A-Za-z0-9_-]', '_', path.stem)}"
    _hydra.ConfigStore.instance().store(
        group="observation", name=name, node=_load_observation(path), provider=str(path)
    )
    return [f"observation={name}", *overrides]


def observation_path(overrides: Sequence[str], config_dir: str | None) -> Path | None:
    """
    The file that the observation comes from.

    Parameters
    ----------
    overrides : sequence of str
        Overrides of the command line.
    config_dir : str, optional
        Directory given with ``--config-dir``.

    Returns
    -------
    Path or None
        None where it is not given as a file.
    """
    given = dict(o.partition("=")[::2] for o in overrides)
    if OBSERVATION_FILE in given:
        return Path(unquoted(given[OBSERVATION_FILE])).expanduser().resolve()
    if "observation" in given and config_dir is not None:
        path = Path(config_dir) / "observation" / f"{given['observation']}.yaml"
        return path if path.is_file() else None
    return None


def load_settings(overrides: Sequence[str], config_dir: str | None = None) -> Settings:
    """
    Compose and check the configuration.

    Parameters
    ----------
    overrides : sequence of str
        Overrides as on the command line, without sweeps.
    config_dir : str, optional
        Further configuration directory.

    Returns
    -------
    Settings
        Checked plain objects.

    Raises
    ------
    ConfigError
        With all findings.
    """
    overrides = tidy_overrides(overrides)
    with _composing(overrides, config_dir) as (chosen, extra):
        findings = _unknown_channels(chosen, extra)
        if findings:
            raise ConfigError(findings=findings)
        try:
            return settings_from(_hydra.compose("config", overrides=[*chosen, *extra]))
        except (_hydra.HydraException, OmegaConfBaseException, TypeError) as error:
            # A TypeError is OmegaConf's for a key below a list.
            findings, good = _explain(overrides, config_dir, extra)
            if len(good) < len(overrides):
                others = _findings_without_faulty(good, extra)
                given = any(finding.startswith("observation=") for finding in findings)
                findings += [f for f in others if not (given and f.startswith("observation.channels: "))]
            raise ConfigError(findings=findings or [first_lines(error)]) from error


def hydra_settings(overrides: Sequence[str], config_dir: str | None = None) -> Any:
    """
    What Hydra itself is told.

    Parameters
    ----------
    overrides : sequence of str
        Overrides as on the command line, without sweeps.
    config_dir : str, optional
        Further configuration directory.

    Returns
    -------
    DictConfig
        The configuration below ``hydra``: ``sweeper.params`` of an experiment, ``sweep.dir`` and
        ``sweep.subdir`` of a job.

    Raises
    ------
    ConfigError
        If the configuration cannot be composed.
    """
    with _composing(overrides, config_dir) as (chosen, extra):
        try:
            return _hydra.compose("config", overrides=[*chosen, *extra], return_hydra_config=True).hydra
        except (_hydra.HydraException, OmegaConfBaseException) as error:
            raise ConfigError(first_lines(error)) from error


@contextmanager
def _composing(overrides: Sequence[str], config_dir: str | None) -> Iterator[tuple[list[str], list[str]]]:
    """Hydra initialised; yields the overrides for it, and those that name the further directory."""
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError("--config-dir: no such directory", file=config_dir)
    register_schema()
    chosen = hydra_overrides(overrides)
    place = f"file://{Path(config_dir).resolve()}" if config_dir is not None else ""
    extra = [f"hydra.searchpath=[{quoted(place)}]"] if place else []
    with _hydra.initialize_config_dir(str(config_directory()), version_base="1.3", job_name="stillsun"):
        yield chosen, extra


def settings_from(composed: DictConfig) -> Settings:
    """
    Check a composed configuration and turn it into plain objects.

    Parameters
    ----------
    composed : DictConfig
        What Hydra composed.

    Returns
    -------
    Settings
        Checked plain objects.

    Raises
    ------
    ConfigError
        With all findings.
    """
    try:
        plain: Any = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise ConfigError(findings=[first_lines(error)]) from error
    return checked_settings(plain)


def _explain(
    overrides: Sequence[str], config_dir: str | None, extra: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Find the faults of a configuration that cannot be composed, and the overrides without fault."""
    findings: list[str] = []
    good: list[str] = []
    path = observation_path(overrides, config_dir)
    if path is not None:
        tree = {k: v for k, v in _load_observation(path).items() if k != "defaults"}
        findings += [f"{path}: {f}" for f in check_tree(tree, ObservationConfig)]
        findings += [f"{path}: {f}" for f in explain_defaults(_load_observation(path).get("defaults"), extra)]
    for text in overrides:
        found = explain_override(text, extra)
        findings += found
        good += [] if found else [text]
    return findings, good


def _findings_without_faulty(good: Sequence[str], extra: Sequence[str]) -> list[str]:
    try:
        settings_from(_hydra.compose("config", overrides=[*hydra_overrides(good), *extra]))
    except ConfigError as error:
        return list(error.findings)
    except (_hydra.HydraException, OmegaConfBaseException):
        pass  # already explained
    return []


def _unknown_channels(chosen: Sequence[str], extra: Sequence[str]) -> list[str]:
    """Keys of channels that the observation does not have; a channel is added with ``+``."""
    keyed = {o: match[1] for o in chosen if (match := _CHANNEL.match(o))}
    if not keyed:
        return []
    try:
        rest = [o for o in chosen if o not in keyed]
        known = list(_hydra.compose("config", overrides=[*rest, *extra]).observation.channels)
    except (_hydra.HydraException, OmegaConfBaseException):
        return []
    return [
        f"{text}: no channel {name!r} in the observation; allowed: {', '.join(known) or 'none'}"
        for text, name in keyed.items()
        if name not in known
    ]


def _load_observation(path: Path) -> dict[str, Any]:
    if not path.is_file():
        what = "a directory, not a file" if path.is_dir() else "no such file"
        raise ConfigError(
            f"observation_file: {what}", file=path, remedy="Give the path of an observation file"
        )
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # YAML's errors have no public base class in OmegaConf
        raise ConfigError(f"not readable as YAML: {first_lines(error)}", file=path) from error
    if not isinstance(loaded, dict):
        raise ConfigError("an observation file is a mapping of keys", file=path, found=type(loaded).__name__)
    if not loaded.get("channels") and not loaded.get("defaults"):
        raise ConfigError(
            "an observation file without channels", file=path, remedy="stillsun sort drafts one"
        )
    return {str(k): v for k, v in loaded.items()}
