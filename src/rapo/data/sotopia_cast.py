"""SOTOPIA's pieces (:mod:`rapo.data.sotopia`) joined to scenarios: who plays, and what each side may read.

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

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rapo.data.conversation import Opened, Piece, Problem, RowError
from rapo.data.scenarios import SCALES, STARTS
from rapo.data.sotopia import RELATIONS, Character, Combination, Environment, IdLists, Relationship
from rapo.types import Message, Scenario

BY_NAME, ACQUAINTED, FRIENDS = 1, 2, 3


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
