"""Hydra's composition of conf/ and the command line into checked plain objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stillsun.config.checks import check_key, check_run, check_tree
from stillsun.config.keys import STAGE_SCHEMAS
from stillsun.config.schema import ObservationConfig, RunConfig, StageName
from stillsun.config.settings import Settings
from stillsun.errors import ConfigError

_FROM_FILE = "from_file"
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
    """Make the typed schema known to Hydra."""
    ConfigStore.instance().store(name="run_schema", node=RunConfig, provider="stillsun")


def hydra_overrides(overrides: Sequence[str]) -> list[str]:
    """
    Turn the overrides of the command line into Hydra's.

    ``observation_file=PATH`` becomes a choice of the group `observation`. A stage's keys of one channel,
    ``observation.channels.NAME.STAGE.KEY=VALUE``, need no ``+`` where the observation does not give them.

    Parameters
    ----------
    overrides : sequence of str
        Overrides of the command line.

    Returns
    -------
    list of str
        Overrides for Hydra.

    Raises
    ------
    ConfigError
        If the file is missing or no YAML mapping.
    """
    given = [o.partition("=")[2] for o in overrides if o.startswith("observation_file=")]
    overrides = [f"++{o}" if _OF_CHANNEL.match(o) else o for o in overrides]
    if not given:
        return overrides
    path = Path(given[-1].strip("'\"")).expanduser().resolve()
    name = f"{_FROM_FILE}_{path.stem}"
    ConfigStore.instance().store(
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
        None where it is not given as a file that exists.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "observation_file":
            return Path(value.strip("'\"")).expanduser().resolve()
        if key == "observation" and config_dir is not None:
            path = Path(config_dir) / "observation" / f"{value}.yaml"
            if path.is_file():
                return path
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
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError("--config-dir: no such directory", file=config_dir)
    register_schema()
    chosen = hydra_overrides(overrides)
    extra = (
        [] if config_dir is None else [f"hydra.searchpath=[{_quote(f'file://{Path(config_dir).resolve()}')}]"]
    )
    with initialize_config_dir(str(config_directory()), version_base="1.3", job_name="stillsun"):
        try:
            return settings_from(compose("config", overrides=[*chosen, *extra]))
        except (HydraException, OmegaConfBaseException) as error:
            findings, good = _explain(overrides, config_dir, extra)
            if len(good) < len(overrides):
                findings += _findings_without_faulty(good, extra)
            raise ConfigError(findings=findings or [_first_lines(error)]) from error


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
        raise ConfigError(findings=[_first_lines(error)]) from error
    findings = list(check_tree(plain, RunConfig))
    if findings:
        raise ConfigError(findings=findings)
    run: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), composed))
    stages = {name: _channel_stages(run, channel) for name, channel in run.observation.channels.items()}
    findings = list(check_run(run, stages))
    if findings:
        raise ConfigError(findings=findings)
    return Settings(run, stages)


def settings_from_record(configuration: Mapping[str, Any], work: Path) -> Settings:
    """
    Settings of a run from its record, for all channels and stages.

    Parameters
    ----------
    configuration : mapping
        Plain values of the run's configuration.
    work : Path
        Work directory; it may have been moved.

    Returns
    -------
    Settings
        Checked plain objects.

    Raises
    ------
    ConfigError
        If this version does not understand the record.
    """
    everything = {"channels": [], "stages": list(StageName.__members__), "force": [], "plan": False}
    observation = {**configuration["observation"], "work_dir": str(work)}
    return settings_from(OmegaConf.create({**configuration, **everything, "observation": observation}))


def _channel_stages(run: RunConfig, channel: Any) -> dict[str, Any]:
    stages = {}
    for name in STAGE_SCHEMAS:
        base = OmegaConf.structured(getattr(run, name))
        stages[name] = OmegaConf.to_object(OmegaConf.merge(base, getattr(channel, name, None) or {}))
    return stages


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
    parser = OverridesParser.create()
    for text in overrides:
        try:
            found = _explain_override(text, parser.parse_override(text), extra)
        except HydraException as error:
            found = [f"{text}: {_first_lines(error)}"]
        findings += found
        good += [] if found else [text]
    return findings, good


def _explain_override(text: str, override: Override, extra: Sequence[str]) -> list[str]:
    key = override.key_or_group
    if key == "observation_file" or key.startswith("hydra"):
        return []
    loader = GlobalHydra.instance().config_loader()
    if key in loader.list_groups(""):
        options = loader.get_group_options(key, config_name="config", overrides=list(extra))
        choice = override.value()
        if choice is not None and choice not in options:
            return [f"{key}={choice}: no such choice; allowed: {', '.join(options) or 'none found'}"]
        return []
    if override.is_delete():
        return [f"{text}: keys cannot be removed"]
    plain: Any = OmegaConf.to_container(OmegaConf.create({"value": override.value()}))
    return list(check_key(key, plain["value"]))


def _findings_without_faulty(good: Sequence[str], extra: Sequence[str]) -> list[str]:
    try:
        settings_from(compose("config", overrides=[*hydra_overrides(good), *extra]))
    except ConfigError as error:
        return list(error.findings)
    except (HydraException, OmegaConfBaseException):
        pass  # already explained
    return []


def _load_observation(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(
            "observation_file: no such file", file=path, remedy="Give the path of an observation file"
        )
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # YAML's errors have no public base class in OmegaConf
        raise ConfigError(f"not readable as YAML: {_first_lines(error)}", file=path) from error
    if not isinstance(loaded, dict):
        raise ConfigError("an observation file is a mapping of keys", file=path, found=type(loaded).__name__)
    return {str(k): v for k, v in loaded.items()}


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3])


def _quote(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"
