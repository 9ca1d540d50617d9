"""Reading a config: YAML and overrides in, a validated RunConfig or a one-line error out."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from rapo import yaml_text
from rapo.config.run_config import RunConfig
from rapo.config.sections import ModelSpec, Section
from rapo.config.type_words import type_words
from rapo.errors import ConfigError


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """The config in the YAML file ``path`` (None: all defaults), changed by ``section.key=value`` overrides in order.

    Raises ConfigError: one line that names the key, what it held and what was expected.
    """
    data = {} if path is None else yaml_text.read(path)
    # An empty section in YAML is null: it sets nothing.
    data = {key: {} if value is None else value for key, value in data.items()}
    for override in overrides:
        key, value = _override(override)
        _put(data, key.split("."), value)
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise _explain(dict(error.errors()[0])) from None


def _put(data: dict[Any, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        known = data.get(name, {})
        # Anything else in a section's place is the file's error, which validation reports.
        if not isinstance(known, dict):
            return
        data[name] = data = dict(known)
    data[path[-1]] = value


def _override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or key in RunConfig.model_fields:
        raise ConfigError("override is not valid", got=override, expected="section.key=value, such as update.lr=1e-3")
    if _pattern(key) not in _fields():
        raise _unknown(key)
    try:
        return key, yaml_text.parse(text)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"value of {key} is not YAML", got=text, fix="put text in quotes") from None


def _pattern(key: str) -> str:
    """The key as ``_fields`` lists it: ``models.player.url`` is ``models.NAME.url``."""
    parts = key.split(".")
    return ".".join([parts[0], "NAME", *parts[2:]]) if parts[0] == "models" and len(parts) > 2 else key


def _explain(error: Mapping[str, Any]) -> ConfigError:
    location = [str(part) for part in error["loc"]]
    key = ".".join(location[: 3 if location[0] == "models" else 2])
    if error["type"] in {"extra_forbidden", "invalid_key"}:
        return _unknown(".".join(location))
    known = _fields().get(_pattern(key))
    expected = type_words(known[0]) if known else "a mapping of its keys"
    # What stands where the name of a variable should may be the key itself.
    got = None if location[-1] == "key_env" else yaml_text.show(error["input"])
    return ConfigError(f"{key} is not valid", got=got, expected=expected)


def _unknown(key: str) -> ConfigError:
    section, _, name = key.rpartition(".")
    if section.startswith("models.") and section.count(".") > 1:
        return ConfigError(f"unknown key {key}", expected="models.NAME.KEY, without a dot in NAME")
    fields = _fields()
    scores = {known: _alike(key, known) for known in RunConfig.model_fields if not section}
    for known in fields:
        known_section, _, known_name = known.rpartition(".")
        # The section only decides between keys whose names are as near.
        if (score := _alike(name, known_name)) > 0:
            scores[known] = score + _alike(_pattern(key).rpartition(".")[0], known_section)
    if (best := max(scores.values(), default=0.0)) > 0:
        nearest = [known for known, score in scores.items() if score == best]
        return ConfigError(f"unknown key {key}", fix=f"did you mean {' or '.join(nearest)}?")
    names = [known for known in fields if known.startswith(f"{_pattern(key).rpartition('.')[0]}.")]
    return ConfigError(f"unknown key {key}", expected=f"one of: {', '.join(names or RunConfig.model_fields)}")


def _alike(a: str, b: str) -> float:
    """Likeness of two names up to 1, and 0 below what a slip of the fingers leaves."""
    ratio = difflib.SequenceMatcher(None, a, b).ratio()
    return ratio if ratio >= 0.6 else 0.0


class ConfigRow(NamedTuple):
    """One key as docs and ``--help`` show it: the dotted key, its type and range in words, its default as YAML."""

    key: str
    type: str
    default: str
    description: str


def describe_config() -> list[ConfigRow]:
    """Every key of the config, in the order of the sections."""
    return [
        ConfigRow(key, type_words(annotation), yaml_text.show(info.get_default()), info.description or "")
        for key, (annotation, info) in _fields().items()
    ]


def _fields() -> dict[str, tuple[Any, FieldInfo]]:
    """Annotation (with its bounds) and field of every ``section.key``, and of every ``models.NAME.key``."""
    found = {}
    for section, outer in RunConfig.model_fields.items():
        named = section == "models"
        kind = ModelSpec if named else typing.cast("type[Section]", outer.annotation)
        prefix = f"{section}.NAME" if named else section
        hints = typing.get_type_hints(kind, include_extras=True)
        found.update({f"{prefix}.{name}": (hints[name], info) for name, info in kind.model_fields.items()})
    return found
