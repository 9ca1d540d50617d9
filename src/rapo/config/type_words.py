"""The values a type annotation allows, in plain words for error messages and ``rapo config``."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union


def type_words(annotation: Any) -> str:
    """The values an annotation allows, in plain words."""
    bounds: dict[str, float] = {}
    if typing.get_origin(annotation) is Annotated:
        annotation, *extras = typing.get_args(annotation)
        if titles := [extra.title for extra in extras if extra.title]:
            return str(titles[0])
        for rule in (rule for extra in extras for rule in extra.metadata):
            bounds |= {
                name: getattr(rule, name) for name in ("ge", "gt", "le", "lt", "min_length") if hasattr(rule, name)
            }
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return f"one of: {', '.join(args)}"
    if origin is tuple:
        return f"a list{_range(bounds)}, each item {type_words(args[0])}"
    if origin is dict:
        return "a mapping"
    if origin in {Union, UnionType}:
        return " or ".join(type_words(arg) for arg in args)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return (names | {type(None): "null"})[annotation] + _range(bounds)


def _range(bounds: Mapping[str, float]) -> str:
    if bounds.keys() == {"ge", "le"}:
        return f" between {bounds['ge']} and {bounds['le']}"
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "of length >="}
    return " and".join(f" {signs[name]} {bound}" for name, bound in bounds.items())
