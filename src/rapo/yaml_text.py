"""YAML as people mean it: ``1e-4`` is a number, ``2026-01-01`` a name, and a key given twice a mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from rapo.errors import ConfigError


def read(path: Path) -> dict[Any, Any]:
    """The mapping in a YAML file, empty for an empty file; raises ConfigError naming the file and the line."""
    try:
        data = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read", got=error.strerror) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {path} is not UTF-8 text", got=f"a bad byte at {error.start}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1} of {path}" if mark else str(path)
        raise ConfigError(f"{place} is not valid YAML", got=getattr(error, "problem", None) or str(error)) from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML", got=str(error)) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"config file {path} is no mapping", got=show(data), expected="sections such as `update:`")
    return data


def parse(text: str) -> Any:
    """The value of one YAML document of plain data; raises yaml.YAMLError, or ValueError for a wrong tag."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def dump(data: Any) -> str:
    """Plain data as YAML that ``parse`` reads back as it was."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def show(value: Any) -> str:
    """A value as YAML writes it, on one line, for messages and tables."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(show, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _without_dates_with_exponents() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    # YAML 1.1 reads 1e-4 as text and 2026-01-01 as a date; people mean a number and the name of a folder.
    exponent = re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
    rules = {
        first: [rule for rule in known if rule[0] != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "+-.0123456789":
        rules.setdefault(first, []).append(("tag:yaml.org,2002:float", exponent))
    return rules


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _without_dates_with_exponents()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    # The same rules as the loader, so that text which would be read back as a number is quoted.
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML folds rare line breaks such as U+0085 in every style but this one, which escapes them.
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)
