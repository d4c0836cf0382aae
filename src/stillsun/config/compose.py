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
from stillsun.config.keys import STAGE_SCHEMAS
from stillsun.config.observationfile import read_observation
from stillsun.config.overrides import (
    FROM_FILE,
    OBSERVATION_FILE,
    explain_override,
    first_lines,
    quoted,
    tidy_overrides,
    typed_keys,
    unquoted,
    user_path,
)
from stillsun.config.schema import RunConfig
from stillsun.config.settings import Settings
from stillsun.errors import ConfigError

_CHANNEL = re.compile(r"(?:\+\+)?observation\.channels\.([^.=]+)\.")
_OF_CHANNEL = re.compile(rf"observation\.channels\.[^.=]+\.({'|'.join(STAGE_SCHEMAS)})[.=]")


def config_directory() -> Path:
    """Find conf/: beside the sources in a checkout, inside the package when installed."""
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


def hydra_overrides(
    overrides: Sequence[str],
    config_dir: str | None = None,
    *,
    multirun: bool = False,
    swept: Sequence[str] = (),
) -> list[str]:
    """
    Turn the overrides of the command line into Hydra's.

    An observation file, given as a path or by its name in `config_dir`, is read here and handed to Hydra as
    plain values, without the stages' keys that the command line sets. A stage's keys of one channel,
    ``observation.channels.NAME.STAGE.KEY=VALUE``, need no ``+`` where the observation does not give them.
    """
    chosen, findings = _with_observation(overrides, config_dir, multirun, swept)
    if findings:
        raise ConfigError(findings=findings)
    return chosen


def _with_observation(
    overrides: Sequence[str], config_dir: str | None, multirun: bool = False, swept: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Overrides for Hydra, to which the observation is made known, and the faults of its file."""
    overrides = tidy_overrides(overrides, multirun=multirun)
    places = [config_directory(), *([] if config_dir is None else [Path(config_dir)])]
    typed = typed_keys([*(f"{key}=null" for key in swept), *overrides], places)
    chosen: list[str] = []
    findings: list[str] = []

    def register(path: Path) -> str:
        tree, found = read_observation(path, places, typed)
        findings.extend(found)
        name = f"{FROM_FILE}{re.sub('[^A-Za-z0-9_-]', '_', path.stem)}"
        if not found:
            try:
                _hydra.ConfigStore.instance().store(
                    group="observation", name=name, node=tree, provider=str(path)
                )
            except OmegaConfBaseException as error:
                findings.append(f"{path}: {first_lines(error)}")
        return name

    for text in overrides:
        key, _, value = text.partition("=")
        if key == OBSERVATION_FILE:
            chosen.insert(0, f"observation={register(user_path(unquoted(value), key))}")
        if key == "observation" and config_dir is not None:
            files = {n: Path(config_dir, key, f"{n.removesuffix('.yaml')}.yaml") for n in value.split(",")}
            names = [register(path) if path.is_file() else name for name, path in files.items()]
            text = f"observation={','.join(names)}"
        chosen.append(f"++{text}" if _OF_CHANNEL.match(text) else text)
    return chosen, findings


def load_settings(overrides: Sequence[str], config_dir: str | None = None) -> Settings:
    """Compose and check the configuration; ConfigError with all findings."""
    overrides = tidy_overrides(overrides)
    with _composing(overrides, config_dir) as (chosen, extra, findings):
        if findings:
            raise ConfigError(
                findings=[*findings, *(f for o in overrides for f in explain_override(o, extra))]
            )
        if findings := _unknown_channels(chosen, extra):
            raise ConfigError(findings=findings)
        try:
            return settings_from(_hydra.compose("config", overrides=[*chosen, *extra]))
        except (_hydra.HydraException, OmegaConfBaseException, TypeError) as error:
            # A TypeError is OmegaConf's for a key below a list.
            explained = {text: explain_override(text, extra) for text in overrides}
            findings = [finding for found in explained.values() for finding in found]
            if findings:
                good = [text for text, found in explained.items() if not found]
                others = _findings_without_faulty(good, config_dir, extra)
                given = any(finding.startswith("observation=") for finding in findings)
                findings += [f for f in others if not (given and f.startswith("observation.channels: "))]
            raise ConfigError(findings=findings or [first_lines(error)]) from error


def hydra_settings(overrides: Sequence[str], config_dir: str | None = None) -> Any:
    """The configuration below ``hydra``: the sweeper of an experiment, the directories of a job."""
    with _composing(overrides, config_dir) as (chosen, extra, findings):
        if findings:
            raise ConfigError(findings=findings)
        try:
            return _hydra.compose("config", overrides=[*chosen, *extra], return_hydra_config=True).hydra
        except (_hydra.HydraException, OmegaConfBaseException) as error:
            raise ConfigError(first_lines(error)) from error


@contextmanager
def _composing(
    overrides: Sequence[str], config_dir: str | None
) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Hydra initialised; its overrides, those that name the further directory, faults of the observation."""
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError("--config-dir: no such directory", file=config_dir)
    register_schema()
    chosen, findings = _with_observation(overrides, config_dir)
    place = f"file://{Path(config_dir).resolve()}" if config_dir is not None else ""
    extra = [f"hydra.searchpath=[{quoted(place)}]"] if place else []
    with _hydra.initialize_config_dir(str(config_directory()), version_base="1.3", job_name="stillsun"):
        yield chosen, extra, findings


def settings_from(composed: DictConfig) -> Settings:
    """Check a composed configuration and turn it into plain objects."""
    try:
        plain: Any = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise ConfigError(findings=[first_lines(error)]) from error
    return checked_settings(plain)


def _findings_without_faulty(good: Sequence[str], config_dir: str | None, extra: Sequence[str]) -> list[str]:
    try:
        settings_from(_hydra.compose("config", overrides=[*hydra_overrides(good, config_dir), *extra]))
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
