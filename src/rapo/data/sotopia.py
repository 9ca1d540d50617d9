"""SOTOPIA: social scenarios in which two characters each have a goal that the other does not know; its files.

The project spreads a scenario over files of JSON lines: ``environment_profiles`` (what happens, a goal for each side,
how the two are related), ``agent_profiles`` (characters), ``env_agent_combo_storages`` (which characters play which
environment), and, to check them, ``relationship_profiles``; ``env_id_lists.json`` names subsets, the hard one among
them. Each row is a piece; :mod:`rapo.data.sotopia_cast` joins them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rapo.data.conversation import Piece, RowError, as_number, as_text, kind

RELATIONS = ("strangers", "known to each other by name", "acquaintances", "friends", "a couple", "family")
_GENDERS = {"man": "male", "woman": "female"}
_TAG = re.compile(r"<(/?)(root|p|extra_info|clarification_hint|strategy_hint)\b([^<>]{0,200})>")
_RANGE = re.compile(r"\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)")


@dataclass(frozen=True, slots=True)
class Environment(Piece):
    """What happens: a public text, the goals of the first and the second side, their relationship (0-5), their ages."""

    id: str
    name: str
    scenario: str
    goals: tuple[str, str]
    relation: int
    ages: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Character(Piece):
    """Somebody to play; ``about`` is public among acquaintances, ``nature`` among friends, ``secret`` for nobody."""

    id: str
    first: str
    name: str
    age: float
    about: str
    nature: str
    secret: str


@dataclass(frozen=True, slots=True)
class Relationship(Piece):
    """How two characters are related (0-5)."""

    pair: frozenset[str]
    relation: int


@dataclass(frozen=True, slots=True)
class Combination(Piece):
    """An environment with the two characters who play it."""

    id: str
    environment: str
    characters: tuple[str, str]


@dataclass(frozen=True, slots=True)
class IdLists(Piece):
    """Named subsets of the environments."""

    lists: tuple[tuple[str, frozenset[str]], ...]


COMBINATIONS = "sotopia combinations"
_KEYS = {
    "sotopia environments": {"env_id", "scenario", "agent_goals"},
    "sotopia characters": {"agent_id", "first_name", "last_name"},
    "sotopia relationships": {"relationship_id", "agent1_id", "agent2_id"},
    COMBINATIONS: {"combo_id", "env_id", "agent_ids"},
    "sotopia id lists": {"sotopia_hard"},
}


def recognise(row: Any) -> str | None:
    """Which of the five files a row belongs to, None for any other row."""
    if not isinstance(row, dict):
        return None
    return next((name for name, keys in _KEYS.items() if keys <= set(row)), None)


def parse(row: Any, ident: str, source: str) -> Piece:
    """The piece of a scenario that one row holds.

    Raises:
        RowError: a key is missing, or has the wrong type or range.
    """
    name = recognise(row)
    if name is None:
        raise RowError(f"the row is {kind(row)} of no SOTOPIA file, expected the keys of one")
    return _PARSERS[name](row, source)


def _environment(row: dict[str, Any], source: str) -> Environment:
    goals, relation = row.get("agent_goals"), _relation(row)
    if not isinstance(goals, list) or len(goals) != 2:
        raise RowError(f"agent_goals is {kind(goals)}, expected a list of two texts")
    one, two = (_filled(untag(as_text(goal, "agent_goals")), "agent_goals") for goal in goals)
    public = _filled(untag(as_text(row.get("scenario"), "scenario")), "scenario")
    name = as_text(row.get("codename") or "sotopia", "codename")
    ages = tuple((int(low), int(high)) for low, high in _RANGE.findall(str(row.get("age_constraint"))[:200]))
    return Environment(source, _text(row, "env_id"), name, public, (one, two), relation, ages)


def _character(row: dict[str, Any], source: str) -> Character:
    age = as_number(row.get("age"), "age", 0, 150)
    if age is None:
        raise RowError("age is missing")
    first = _text(row, "first_name")
    name = f"{first} {_text(row, 'last_name')}"
    gender = [_GENDERS.get(gender.lower(), gender) for gender in _optional(row, "gender")]
    is_a = " ".join(["a", f"{age:g}-year-old", *gender, *_optional(row, "occupation")]).lower()
    about = " ".join(
        [f"{name} is {is_a}.", *_optional(row, "gender_pronoun", " pronouns."), *_optional(row, "public_info")]
    )
    nature = " ".join(_optional(row, "personality_and_values"))
    return Character(source, _text(row, "agent_id"), first, name, age, about, nature, "".join(_optional(row, "secret")))


def _relationship(row: dict[str, Any], source: str) -> Relationship:
    return Relationship(source, frozenset((_text(row, "agent1_id"), _text(row, "agent2_id"))), _relation(row))


def _combination(row: dict[str, Any], source: str) -> Combination:
    characters = row.get("agent_ids")
    if not isinstance(characters, list) or len(characters) != 2:
        raise RowError(f"agent_ids is {kind(characters)}, expected a list of two ids")
    one, two = (_filled(as_text(ident, "agent_ids"), "agent_ids") for ident in characters)
    return Combination(source, _text(row, "combo_id"), _text(row, "env_id"), (one, two))


def _id_lists(row: dict[str, Any], source: str) -> IdLists:
    for name, ids in row.items():
        if not isinstance(ids, list):
            raise RowError(f"{name:.40} is {kind(ids)}, expected a list of ids")
    return IdLists(
        source, tuple((name, frozenset(as_text(ident, f"{name:.40}") for ident in ids)) for name, ids in row.items())
    )


_PARSERS = dict(zip(_KEYS, (_environment, _character, _relationship, _combination, _id_lists), strict=True))


def untag(text: str) -> str:
    """``text`` without SOTOPIA's tags and without what a tag addresses to a viewer, the evaluator being one.

    A tag that is never closed holds all that follows; any other ``<...>`` is text.
    """
    kept, at = [], 0
    opened: list[tuple[str, bool]] = []
    for tag in _TAG.finditer(text):
        if not any(hides for _, hides in opened):
            kept.append(text[at : tag.start()])
        at = tag.end()
        closes, name, rest = tag.groups()
        if not closes:
            opened.append((name, "viewer" in rest))
        elif name in (open_name for open_name, _ in opened):
            while opened.pop()[0] != name:
                pass
    if not any(hides for _, hides in opened):
        kept.append(text[at:])
    return "".join(kept).strip()


def _relation(row: dict[str, Any]) -> int:
    value = as_number(row.get("relationship"), "relationship", 0, len(RELATIONS) - 1)
    if value is None or value != int(value):
        raise RowError(f"relationship is missing or no whole number, expected 0 to {len(RELATIONS) - 1}")
    return int(value)


def _text(row: dict[str, Any], name: str) -> str:
    return _filled(as_text(row.get(name), name), name)


def _optional(row: dict[str, Any], name: str, after: str = "") -> list[str]:
    text = as_text("" if row.get(name) is None else row[name], name)
    return [text + after] if text else []


def _filled(text: str, name: str) -> str:
    if not text:
        raise RowError(f"{name} is empty")
    return text
