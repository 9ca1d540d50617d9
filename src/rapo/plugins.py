"""Code of the user's own, named in a config as ``package.module:Name``."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from rapo.errors import ConfigError


def load(dotted: str, key: str) -> Callable[..., Any]:
    """The class or function at ``package.module:Name``; modules in the current folder are found too.

    Args:
        dotted: where it is.
        key: the config key that names it, for errors.

    Raises:
        ConfigError: there is no such module or name, or the module cannot be imported.
    """
    module, _, name = dotted.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), name)
    except AttributeError:
        raise ConfigError(f"{key} names nothing", got=dotted, expected=f"a class or function in {module}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{key}={dotted} cannot be imported", got=reason, fix="start rapo where the module lies, or install it"
        ) from error
    if not callable(found):
        raise ConfigError(f"{key} names no class or function", got=dotted)
    return cast("Callable[..., Any]", found)


def reader(dotted: str | None, key: str) -> Callable[[Path], Iterable[Any]] | None:
    """The importer at ``dotted``, a function from a file to its rows; None for none. Raises as ``load``."""
    return None if dotted is None else load(dotted, key)


def make(dotted: str, options: Mapping[str, Any], key: str, *, methods: Sequence[str]) -> Any:
    """An instance of the class at ``dotted``, made with ``options`` as keyword arguments.

    Raises:
        ConfigError: it cannot be imported, does not take the options, or lacks one of ``methods``.
    """
    made = load(dotted, key)
    try:
        inspect.signature(made).bind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{dotted} does not take its options", got=str(error), expected=f"{key.partition('.')[0]}.options that fit"
        ) from None
    part = made(**options)
    if lacking := [name for name in methods if not callable(getattr(part, name, None))]:
        raise ConfigError(
            f"{dotted} cannot serve as {key}", got=f"no method {', '.join(lacking)}", expected=", ".join(methods)
        )
    return part
