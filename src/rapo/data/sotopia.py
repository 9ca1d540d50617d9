"""SOTOPIA: social scenarios in which two characters each have a goal that the other does not know.

The project spreads a scenario over files of JSON lines, joined here: ``environment_profiles`` (what happens, a goal for
each side, how the two are related), ``agent_profiles`` (characters), ``env_agent_combo_storages`` (which characters
play which environment), and, to check them, ``relationship_profiles``; ``env_id_lists.json`` names subsets, the hard
one among them.

The policy plays the first character and the user simulator the second, or the other way round (``side``). Who may read
what follows SOTOPIA:

- the scenario text is public, but for what a tag addresses to a viewer (``<p viewer="environment">``): that is for the
  evaluator, and neither side may know it
- ``<extra_info>``, ``<strategy_hint>`` and ``<clarification_hint>`` inside a goal are for whoever has that goal
- a character knows of the other what their relationship allows: strangers nothing, people who know each other by name
  the name, acquaintances also age, occupation and public information, friends, lovers and family the personality too;
  nobody knows the other's secret and goal
- the background story of a relationship is for nobody: many of them tell both secrets
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rapo.data.conversation import Opened, Piece, Problem, RowError, as_number, as_text, kind
from rapo.data.scenarios import SCALES, STARTS
from rapo.types import Message, Scenario

RELATIONS = ("strangers", "known to each other by name", "acquaintances", "friends", "a couple", "family")
BY_NAME, ACQUAINTED, FRIENDS = 1, 2, 3
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


def join(pieces: Iterable[Piece], wanted: Collection[str] = (), side: int = 0) -> tuple[list[Opened], list[Problem]]:
    """The scenarios of all combinations, and the combinations that cannot be played.

    Args:
        pieces: of any file, in any order.
        wanted: names of id lists; only environments of these lists are used. Empty uses all.
        side: which character the policy plays, 0 or 1.

    Raises:
        RowError: no such list was given.
    """
    pieces = list(pieces)
    cast = _Cast(pieces)
    chosen = _chosen(pieces, wanted)
    combinations = [piece for piece in pieces if isinstance(piece, Combination)]
    if pieces and (missing := cast.missing(combinations)):
        return [], [Problem(pieces[0].source, f"{missing} missing, give the folder that holds all SOTOPIA files")]
    found, problems = [], []
    for combination in combinations:
        if chosen is not None and combination.environment not in chosen:
            continue
        try:
            found.append(Opened(cast.scenario(combination, side), "negotiation"))
        except RowError as error:
            problems.append(Problem(combination.source, str(error)))
    return found, problems


def spread(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces, the combinations last: the first one of every environment before the second one of any, and so on."""
    met: Counter[str] = Counter()

    def turn(piece: Piece) -> int:
        met.update([piece.environment] if isinstance(piece, Combination) else [])
        return met[piece.environment] if isinstance(piece, Combination) else 0

    return sorted(pieces, key=turn)


def list_names(pieces: Iterable[Piece]) -> list[str]:
    """The names of all id lists, in order."""
    return [name for piece in pieces if isinstance(piece, IdLists) for name, _ in piece.lists]


class _Cast:
    """The pieces by id."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._environments = {piece.id: piece for piece in pieces if isinstance(piece, Environment)}
        self._characters = {piece.id: piece for piece in pieces if isinstance(piece, Character)}
        self._relations: dict[frozenset[str], set[int]] = {}
        for piece in pieces:
            if isinstance(piece, Relationship):
                self._relations.setdefault(piece.pair, set()).add(piece.relation)

    def missing(self, combinations: Sequence[Combination]) -> str:
        """The files without which nothing can be joined."""
        files = {
            "environment_profiles": self._environments,
            "agent_profiles": self._characters,
            "env_agent_combo_storages": combinations,
        }
        absent = [name for name, held in files.items() if not held]
        return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'}" if absent else ""

    def scenario(self, combination: Combination, side: int) -> Scenario:
        """The scenario of a combination; RowError where an id is unknown or a constraint is broken."""
        place = self._environments.get(combination.environment)
        if place is None:
            raise RowError(f"env_id is {combination.environment:.40}, and there is no such environment")
        for ident in combination.characters:
            if ident not in self._characters:
                raise RowError(f"agent_ids holds {ident:.40}, and there is no such character")
        one, two = (self._characters[ident] for ident in combination.characters)
        self._check(place, one, two)
        goals = place.goals[::-1] if side else place.goals
        one, two = (two, one) if side else (one, two)
        scale, start = SCALES["negotiation"], STARTS["negotiation"]
        greeting = "Hello." if place.relation < BY_NAME else f"Hello, {one.first}."
        opening = (Message("system", _brief(place, one, two, goals[0])), Message("user", greeting))
        ident = f"{place.name}/{combination.id}"
        return Scenario(
            ident,
            place.scenario,
            opening,
            scale.low + start * (scale.high - scale.low),
            scale,
            _hidden(place, one, two, goals[1]),
        )

    def _check(self, place: Environment, one: Character, two: Character) -> None:
        for who, (low, high) in zip((one, two), place.ages, strict=False):
            if not low <= who.age <= high:
                raise RowError(f"{who.name:.40} is {who.age:g} years old, expected {low} to {high}")
        known = self._relations.get(frozenset((one.id, two.id)))
        if known is not None and place.relation not in known:
            are = " or ".join(RELATIONS[relation] for relation in sorted(known))
            raise RowError(f"the two characters are {are}, expected {RELATIONS[place.relation]}")


def _brief(place: Environment, one: Character, two: Character, goal: str) -> str:
    """What character one, the policy, is told."""
    parts = [
        f"You are {one.name}. {one.about} {one.nature}",
        f"Your secret: {one.secret}" if one.secret else "",
        f"The situation: {place.scenario}",
        _known(place.relation, two),
        f"Your goal, which only you know: {goal}",
    ]
    return "\n".join(part for part in parts if part)


def _hidden(place: Environment, one: Character, two: Character, goal: str) -> dict[str, Any]:
    """What character two, the user, knows."""
    profile = {
        "persona": f"{two.name}. {two.about} {two.nature}",
        "secret": two.secret,
        "goal": goal,
        "partner": _known(place.relation, one),
    }
    return {key: text for key, text in profile.items() if text}


def _known(relation: int, other: Character) -> str:
    """What one character knows of the other."""
    if relation < BY_NAME:
        return "You are talking to a stranger."
    about = [f"You are talking to {other.name}; the two of you are {RELATIONS[relation]}."]
    about += [other.about] if relation >= ACQUAINTED else []
    about += [other.nature] if relation >= FRIENDS else []
    return " ".join(about)


def _chosen(pieces: Iterable[Piece], wanted: Collection[str]) -> set[str] | None:
    if not wanted:
        return None
    lists = {name: ids for piece in pieces if isinstance(piece, IdLists) for name, ids in piece.lists}
    if unknown := [name for name in wanted if name not in lists]:
        raise RowError(f"there is no id list {unknown[0]:.40}, expected one of: {', '.join(lists)}"[:300])
    return {ident for name in wanted for ident in lists[name]}


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
