"""Scenario files: one scenario per JSON line, the format in which a team brings its own situations and personas.

The schema, with every default, is in ``docs/scenarios.md``::

    {"situation": "...", "opening": "...", "profile": {"persona": "...", "need": "...", "facts": ["..."]}}

``situation``, ``opening`` and ``brief`` may reach the policy, ``profile`` never does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, cast, get_args

from rapo.data.conversation import Domain, Opened, RowError, as_number, as_text, kind
from rapo.errors import DataError
from rapo.types import Message, Role, Scale, Scenario

FIELDS = ("id", "situation", "opening", "start", "scale", "profile", "brief", "domain")
SCALES: Mapping[Domain, Scale] = {
    "support": Scale(0.0, 10.0, "ease"),
    "negotiation": Scale(0.0, 10.0, "goal progress"),
}
# Where a user starts on the scale, 0 at its low end and 1 at its high end. Support: someone troubled who can still fall
# (SAGE starts its users at 40 of 100 too). Negotiation: nothing is achieved yet.
STARTS: Mapping[Domain, float] = {"support": 0.4, "negotiation": 0.0}
GREETING = "Hello."
_BOUND = 1e9
_DEEPEST = 32


def recognise(row: Any) -> str | None:
    """``"scenarios"`` for a row with a situation (conversations have one too: ask their formats first), else None."""
    return "scenarios" if isinstance(row, Mapping) and "situation" in row else None


def scenario_from_row(row: Mapping[str, Any], ident: str, source: str) -> Scenario:
    """The scenario of one row of a scenario file or of a table with the same columns.

    Args:
        row: the fields of ``docs/scenarios.md``; None counts as absent, other columns are ignored.
        ident: the id where the row has none.
        source: names the row in an error, such as ``"scenarios.jsonl:3"``.

    Raises:
        DataError: a field is missing, of the wrong type or out of its range; the message names it.
    """
    try:
        return parse(row, ident, source).scenario
    except RowError as error:
        raise DataError(
            f"{source} is no scenario", got=str(error), expected="the fields of docs/scenarios.md", fix="repair the row"
        ) from None


def parse(row: Any, ident: str, _source: str) -> Opened:
    """The scenario of one row and its domain.

    Raises:
        RowError: as ``scenario_from_row``.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"the row is {kind(row)}, expected an object")
    _refuse_misspelt(row)
    domain = _domain(row.get("domain"))
    situation = as_text(row.get("situation"), "situation")
    if not situation:
        raise RowError("situation is empty, expected what anyone may know")
    scale = _scale(row.get("scale"), SCALES[domain])
    start = as_number(row.get("start"), "start", scale.low, scale.high)
    if start is None:
        start = scale.low + STARTS[domain] * (scale.high - scale.low)
    told = as_text(_or(row.get("brief"), ""), "brief")
    said = _opening(_or(row.get("opening"), situation if domain == "support" else GREETING))
    opening = (*((Message("system", told),) if told else ()), *said)
    scenario = Scenario(as_ident(row.get("id"), ident), situation, opening, start, scale, _profile(row.get("profile")))
    return Opened(scenario, domain)


def as_ident(value: Any, otherwise: str) -> str:
    """An id from text or a whole number; ``otherwise`` where it is absent.

    Raises:
        RowError: it is neither.
    """
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    return as_text(str(value) if whole else _or(value, ""), "id") or otherwise


def _refuse_misspelt(row: Mapping[str, Any]) -> None:
    """A field that is nearly one of ours was meant to be it; any other is somebody's own column."""
    for name in row:
        other = isinstance(name, str) and name not in FIELDS and len(name) > 4
        near = get_close_matches(name[:40], FIELDS, n=1, cutoff=0.8) if other else []
        if near and near[0] not in row:
            raise RowError(f"{name!r:.40} is no field, did you mean {near[0]}")


def _domain(value: Any) -> Domain:
    if value is not None and value not in get_args(Domain):
        raise RowError(f"domain is {value!r:.40}, expected {' or '.join(get_args(Domain))}")
    return cast(Domain, _or(value, "support"))


def _scale(value: Any, otherwise: Scale) -> Scale:
    if value is None:
        return otherwise
    if not isinstance(value, Mapping):
        raise RowError(f'scale is {kind(value)}, expected {{"low": ..., "high": ..., "name": ...}}')
    low, high = (as_number(value.get(end), f"scale.{end}", -_BOUND, _BOUND) for end in ("low", "high"))
    if low is None or high is None or low >= high:
        raise RowError("scale is empty, expected scale.low below scale.high")
    return Scale(low, high, as_text(_or(value.get("name"), ""), "scale.name") or otherwise.name)


def _opening(value: Any) -> tuple[Message, ...]:
    """What was said so far, in turns, the last message being the user's."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise RowError(f"opening is {'empty' if value == [] else kind(value)}, expected text or a list of messages")
    said = tuple(_message(one, f"opening[{place}]") for place, one in enumerate(value))
    for place, (one, two) in enumerate(pairwise(said), start=1):
        if one.role == two.role:
            raise RowError(f"opening[{place}].role is {two.role} again, expected the two sides to take turns")
    if said[-1].role != "user":
        raise RowError("opening ends with the assistant, expected the user to speak last")
    return said


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, Mapping):
        raise RowError(f"{name} is {kind(value)}, expected an object")
    role = value.get("role")
    if role not in ("user", "assistant"):
        raise RowError(f"{name}.role is {role!r:.40}, expected user or assistant (brief tells the policy its part)")
    text = as_text(value.get("content"), f"{name}.content")
    if not text:
        raise RowError(f"{name}.content is empty")
    return Message(cast(Role, role), text)


def _profile(value: Any) -> Mapping[str, Any]:
    """The profile: an object, its JSON text (for tables that hold no objects), or a persona in plain words."""
    if value is None:
        return {}
    if isinstance(value, str):
        value = _from_text(value)
    if not isinstance(value, Mapping):
        raise RowError(f"profile is {kind(value)}, expected an object or text")
    return cast(Mapping[str, Any], _jsonable(value, "profile", _DEEPEST))


def _from_text(text: str) -> Any:
    if not text.lstrip().startswith("{"):
        return {"persona": text} if text.strip() else {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RowError("profile is text that opens like JSON and is none") from None


def _jsonable(value: Any, name: str, deep: int) -> Any:
    """``value`` as plain objects, lists, texts and numbers, unchanged otherwise."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        as_text(value, name)
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if deep and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_jsonable(key, name, 1): _jsonable(one, f"{name}.{key:.40}", deep - 1) for key, one in value.items()}
    if deep and isinstance(value, list | tuple):
        return [_jsonable(one, f"{name}[{place}]", deep - 1) for place, one in enumerate(value)]
    what = "an object or list (nested too deep, or without text as keys)"
    if not isinstance(value, Mapping | list | tuple):
        what = f"{value}" if isinstance(value, float) else f"of type {type(value).__name__}"
    raise RowError(f"{name:.120} is {what}, expected what JSON can hold")


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
