"""
Overrides of the command line in Hydra's grammar: what can be made readable, what is wrong with the others.

The grammar wants quotes of its own, within the shell's, around a text with spaces, commas or letters beyond
ASCII. Nobody guesses that of a path or a name, so keys that hold text are given them here.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from stillsun.config import _hydra
from stillsun.config.checks import check_key
from stillsun.config.keys import STAGE_SCHEMAS, find_key, strip_optional
from stillsun.config.plainyaml import read_mapping
from stillsun.errors import ConfigError

OBSERVATION_FILE = "observation_file"
# How the names of observations begin that come from a path.
FROM_FILE = "from_file_"
# Groups that stand in observation files, and an override that would do the same.
_WITHIN_OBSERVATION = {
    "channel": "+channel@observation.channels.NAME={}",
    "camera": "+camera@observation.channels.NAME.camera={}",
}


def tidy_overrides(words: Sequence[str], *, multirun: bool = False) -> list[str]:
    """Quote texts where the grammar needs it; ConfigError with all words that are no overrides."""
    if "=" in words:
        raise ConfigError("'=' stands alone", remedy="Write KEY=VALUE without spaces around =")
    overrides, findings = [], []
    parser = _hydra.OverridesParser.create()
    for word in words:
        key, equals, value = word.partition("=")
        hint = _type_of(key)
        if hint is list and value == "none":
            word = f"{key}=[]"
        fault, sweep = "", False
        try:
            sweep = parser.parse_override(word).is_sweep_override() and not multirun
        except _hydra.HydraException as error:
            fault = first_lines(error)
        if hint is str and value and not _is_quoted(value) and (fault or sweep):
            overrides.append(f"{key}={quoted(value)}")
        elif word == f"{OBSERVATION_FILE}=":
            findings.append(f"{word}: a path is needed: {OBSERVATION_FILE}=PATH, without spaces around =")
        elif not equals and not word.startswith("~"):
            findings.append(_no_assignment(word))
        elif fault:
            findings.append(f"{word}: {fault}; a text is quoted twice: {key}='\"…\"'")
        elif sweep:
            said = "several values between commas are a sweep, which needs -m"
            findings.append(f"{word}: {said}" + f"; a list is written '{key}=[{value}]'" * (hint is list))
        else:
            overrides.append(word)
    if findings:
        raise ConfigError(findings=findings)
    return overrides


def typed_keys(overrides: Sequence[str], places: Sequence[Path]) -> set[str]:
    """
    Keys that a command line sets.

    A choice such as ``speckle=kisip`` sets the engine, and of an option of the user's own directory all keys.
    `places` are what comes with the program, then the user's own directories.
    """
    found: set[str] = set()
    for override in _hydra.OverridesParser.create().parse_overrides(list(overrides)):
        group, value = override.get_key_element().lstrip("+"), override.value()
        if group not in STAGE_SCHEMAS or isinstance(value, dict):
            found |= _leaves(group, value)
            continue
        found |= {f"{group}.engine"}
        for place in places[1:]:
            if (path := place / group / f"{value}.yaml").is_file():
                found |= _leaves(group, read_mapping(path, group))
    return found


def _leaves(key: str, value: Any) -> set[str]:
    if not isinstance(value, dict):
        return {key}
    return {leaf for name, below in value.items() for leaf in _leaves(f"{key}.{name}", below)}


def user_path(text: str, key: str) -> Path:
    """Path of a person's word, with ``~``."""
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"{key}: {text!r} is no path: {error}", remedy="Write it in full") from error


def split_jobs(overrides: Sequence[str], params: Sequence[str] = ()) -> list[list[str]]:
    """Split a sweep as Hydra does; the command line wins over the `params` of the sweeper."""
    parser = _hydra.OverridesParser.create()
    try:
        plain = [o for o in parser.parse_overrides([*params, *overrides]) if not o.is_hydra_override()]
        batches: list[list[list[str]]] = _hydra.BasicSweeper.split_arguments(plain, None)
    except _hydra.HydraException as error:
        raise ConfigError(first_lines(error)) from error
    return batches[0]


def explain_override(text: str, extra: Sequence[str]) -> list[str]:
    """What is wrong with an override that Hydra, which is initialised, can read but does not take."""
    override = _hydra.OverridesParser.create().parse_override(text)
    key = override.key_or_group
    if key == OBSERVATION_FILE or key.startswith("hydra"):
        return []
    if override.is_delete():
        return [f"{text}: keys cannot be removed"]
    plain: Any = OmegaConf.to_container(OmegaConf.create({"value": override.value()}))
    value = plain["value"]
    loader = _hydra.GlobalHydra.instance().config_loader()
    # The empty group is no directory of the wheel.
    if key != "observation" and key not in loader.list_groups(""):
        return list(check_key(key, value))
    found = loader.get_group_options(key, config_name="config", overrides=list(extra))
    options = [name for name in found if not name.startswith(FROM_FILE)]
    if value is None or not isinstance(value, str) or override.package is not None:
        return []
    if key in _WITHIN_OBSERVATION:
        return [
            f"{text}: {key}s stand in the observation file; here {_WITHIN_OBSERVATION[key].format(value)}"
        ]
    if value.removesuffix(".yaml") in options:
        return []
    if key == "observation":
        return [_no_observation(value, options)]
    return [f"{key}={value}: no such choice; allowed: {', '.join(options) or 'none found'}"]


def quoted(text: str) -> str:
    """Put a text into Hydra's quotes."""
    return "'" + text.replace("'", "\\'") + "'"


def unquoted(text: str) -> str:
    """Take a text out of Hydra's quotes."""
    return text[1:-1].replace(f"\\{text[0]}", text[0]) if _is_quoted(text) else text


def first_lines(error: BaseException) -> str:
    """Shorten an error of Hydra."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3])


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def _type_of(key: str) -> Any:
    """Type of a key's values: `list` for all lists; None where there is no such key."""
    try:
        hint = strip_optional(find_key(key.lstrip("+"))[0])[0]
    except KeyError:
        return None
    return typing.get_origin(hint) or hint


def _no_assignment(word: str) -> str:
    if user_path(word, "path").is_file():
        return f"{word}: not KEY=VALUE; an observation file is given as {OBSERVATION_FILE}={word}"
    return f"{word}: not KEY=VALUE; a value with spaces needs quotes around the word"


def _no_observation(choice: str, options: Sequence[str]) -> str:
    if user_path(choice, "observation").is_file():
        return f"observation={choice}: a path is given as {OBSERVATION_FILE}={choice}"
    said = f"allowed: {', '.join(options)}" if options else "give DIR with --config-dir DIR"
    missing = f"observation={choice}: no DIR/observation/{choice}.yaml"
    return f"{missing}; {said}, or a path with {OBSERVATION_FILE}=PATH"
