"""What every importer makes: a logged conversation that knows how to become RAPO's types, and rows left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from rapo.seeds import derive_seed
from rapo.types import Dialogue, Message, Reaction, Role, Scale, Scenario, Turn

RATING = Scale(1.0, 5.0, "rating")
MIDDLE = (RATING.low + RATING.high) / 2
Domain = Literal["support", "negotiation"]


class RowError(Exception):
    """A row cannot be used; the message says why and becomes a ``Problem``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that was left out: where it stands (``"file:line"``) and why."""

    source: str
    why: str

    def __str__(self) -> str:
        return f"{self.source}: {self.why}"


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance as it was logged, before merging."""

    role: Role
    text: str
    rating: float | None = None
    strategies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """A logged conversation between two people.

    Attributes:
        id: unique within one load; the row's own id, or ``"file name:line"``.
        situation: what it is about, "" where the log does not say; never what a system message tells the assistant.
        messages: ``user`` and ``assistant`` in strict alternation, at least one of each.
        ratings: one entry per user message: how the user rated the replies before it, 1-5, or None.
        start: intensity of the user's distress before the talk, 1-5 (5 is worst), where it was asked.
        end: the same after the talk.
        strategies: one entry per assistant message: the strategies annotated in it, often ().
        source: ``"file:line"``.
        private: the situation is the user's own note, which the other side never saw.
    """

    id: str
    situation: str
    messages: tuple[Message, ...]
    ratings: tuple[float | None, ...]
    start: float | None = None
    end: float | None = None
    strategies: tuple[tuple[str, ...], ...] = ()
    source: str = ""
    private: bool = False

    @property
    def key(self) -> str:
        """What copies of one conversation share, however their files spell it: the situation, or all that was said."""
        return _letters(self.situation) or _letters("".join(message.content for message in self.messages))

    @property
    def set_aside(self) -> bool:
        """Whether it is one of the fifth that is kept for evaluation: as the scenario it starts from."""
        return set_aside(self.to_scenario())

    def to_scenario(self) -> Scenario:
        """The scenario this conversation starts from; its profile is empty.

        The opening is everything up to the user's first message, a greeting of the supporter before it included.
        ``start`` is the rating of that message, or the middle of the scale (3) where there is none, which is usual:
        nobody has rated anything yet. Distress before the talk is another quantity and is not turned into a rating.
        """
        opening = self.messages[: self._first_user + 1]
        return Scenario(self.id, self.situation, opening, _known(self.ratings[0], MIDDLE), RATING)

    def to_dialogue(self) -> Dialogue:
        """The conversation as turns of reply and reaction, the state being the rating on 1-5.

        A reaction without a rating carries the last known rating forward (the scenario's start before the first one),
        so an unrated turn never looks pivotal. A last reply that nobody answered is left out.
        """
        scenario = self.to_scenario()
        rest = self.messages[self._first_user + 1 :]
        state, turns = scenario.start, []
        for reply, echo, rating in zip(rest[::2], rest[1::2], self.ratings[1:], strict=False):
            state = _known(rating, state)
            turns.append(Turn(reply.content, Reaction(echo.content, state)))
        return Dialogue(scenario, tuple(turns))

    @property
    def _first_user(self) -> int:
        return 0 if self.messages[0].role == "user" else 1


@dataclass(frozen=True, slots=True)
class Opened:
    """A scenario and whether its user seeks support or negotiates."""

    scenario: Scenario
    domain: Domain = "support"


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a scenario whose other parts lie in other rows and files; ``source`` is ``"file:line"``."""

    source: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a set of files holds.

    Attributes:
        conversations: in the order of files and rows.
        situations: scenarios of support talk, from files that hold no conversations.
        problems: rows that were left out.
        negotiations: scenarios in which the user has a goal of its own.
        dialogues: logged dialogues whose user told its state after every turn.
        pieces: parts of scenarios; joined and gone in what the loaders return.
    """

    conversations: tuple[Conversation, ...]
    situations: tuple[Scenario, ...] = ()
    problems: tuple[Problem, ...] = ()
    negotiations: tuple[Scenario, ...] = ()
    dialogues: tuple[Dialogue, ...] = ()
    pieces: tuple[Piece, ...] = ()

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """Every scenario: those conversations and dialogues start from, then situations and negotiations."""
        return (
            *(talk.to_scenario() for talk in self.conversations),
            *(dialogue.scenario for dialogue in self.dialogues),
            *self.situations,
            *self.negotiations,
        )


def set_aside(scenario: Scenario) -> bool:
    """Whether a scenario is one of the fifth that is kept for evaluation; the same for every copy and in every run.

    What it is about decides, not its id: its hidden facts, else its situation, else what the user says first. So all
    combinations of characters in one SOTOPIA environment stay together, and so do conversations that open alike and
    the scenarios they start from.
    """
    facts = scenario.profile.get("facts")
    told = "".join(fact for fact in facts if isinstance(fact, str)) if isinstance(facts, list) else ""
    first = next((message.content for message in scenario.opening if message.role == "user"), "")
    key = _letters(told) or _letters(scenario.situation) or _letters(first)
    return derive_seed("set aside", key) % 5 == 0


def merge(said: Iterable[Said]) -> tuple[tuple[Message, ...], tuple[float | None, ...], tuple[tuple[str, ...], ...]]:
    """Messages, ratings per user message and strategies per assistant message, one message per change of speaker.

    Utterances of one speaker in a row are joined by a newline; of several ratings the last one counts. Utterances
    without text are dropped.

    Raises:
        RowError: one of the two sides says nothing, or a rating belongs to no words.
    """
    runs: list[list[Said]] = []
    for one in said:
        if not one.text:
            if one.rating is not None:
                raise RowError(f"a rating ({one.rating:g}) stands beside no words")
            continue
        if runs and runs[-1][0].role == one.role:
            runs[-1].append(one)
        else:
            runs.append([one])
    for role in ("user", "assistant"):
        if not any(run[0].role == role for run in runs):
            raise RowError(f"the {role} says nothing")
    messages = tuple(Message(run[0].role, "\n".join(one.text for one in run)) for run in runs)
    ratings = tuple(_last_rating(run) for run in runs if run[0].role == "user")
    strategies = tuple(
        tuple(label for one in run for label in one.strategies) for run in runs if run[0].role == "assistant"
    )
    return messages, ratings, strategies


def as_text(value: Any, name: str) -> str:
    """``value`` stripped.

    Raises:
        RowError: it is no text, or holds half a character (a lone surrogate) that no file could store.
    """
    if not isinstance(value, str):
        raise RowError(f"{name} is {kind(value)}, expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError(f"{name} holds a broken character") from None
    return value.strip()


def as_number(value: Any, name: str, low: float, high: float) -> float | None:
    """A number from a number or its text, None for what is absent (None or blank).

    Raises:
        RowError: it is no number, or lies outside ``low``..``high``.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RowError(f"{name} is {kind(value)}, expected a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise RowError(f"{name} is {value!r:.40}, expected a number") from None
    if not low <= number <= high:
        raise RowError(f"{name} is {number:g}, expected {low:g} to {high:g}")
    return number


def kind(value: Any) -> str:
    """What a JSON value is, in words for a message."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "missing"}
    return names.get(type(value), "a number")


def _known(rating: float | None, otherwise: float) -> float:
    return otherwise if rating is None else rating


def _last_rating(run: list[Said]) -> float | None:
    return next((one.rating for one in reversed(run) if one.rating is not None), None)


def _letters(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())
