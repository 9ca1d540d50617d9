"""What a suite of an evaluation is, and what comes of it: one result per speaker and kind of users."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from rapo.errors import DataError
from rapo.evals.stats import Comparison, Interval, bootstrap_mean, paired_bootstrap
from rapo.interact.play import Speaker
from rapo.types import Dialogue

Figure = Interval | float
Kind = Literal["policy", "ladder", "exploit"]


@dataclass(frozen=True, slots=True)
class Item:
    """One scenario, seeker or test row, as one speaker did it.

    Attributes:
        id: the same for every speaker, so that speakers can be compared item by item.
        scores: by the name of the metric; one that could not be had is absent, never zero.
        dialogue: what was said, where the suite plays talks.
        note: for people, such as a judge's reason.
    """

    id: str
    scores: dict[str, float]
    dialogue: Dialogue | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What one speaker did in one suite with one kind of users.

    Attributes:
        suite: its name.
        speaker: whose replies these are.
        users: the population, or who played and judged.
        main: the score that comparisons are on; higher is better. ``figures`` holds its mean as an interval.
        items: in the order of the suite.
        figures: what a table shows, in this order.
        kind: of speaker: one to be measured, one that bounds it from both sides, or one that only pleases a simulator.
        lost: items that were begun and could not be had; they count nowhere.
        cut_short: items that count as far as they came: talks that neither their user nor the number of turns ended,
            since a reaction or a reply is missing.
    """

    suite: str
    speaker: str
    users: str
    main: str
    items: tuple[Item, ...]
    figures: dict[str, Figure] = field(default_factory=dict)
    kind: Kind = "policy"
    lost: int = 0
    cut_short: int = 0

    @property
    def outcome(self) -> Interval:
        """The mean of the main score and its interval."""
        found = self.figures[self.main]
        return found if isinstance(found, Interval) else Interval(found, found, found)

    @property
    def dialogues(self) -> tuple[Dialogue, ...]:
        """The talks, where the suite plays any."""
        return tuple(item.dialogue for item in self.items if item.dialogue is not None)


class Suite(Protocol):
    """Items that every speaker gets alike.

    Attributes:
        name: what it is called in tables, files and ``--suite``.
        total: units of progress for one speaker.
    """

    @property
    def name(self) -> str: ...

    @property
    def total(self) -> int: ...

    def run(self, name: str, speaker: Speaker, on_done: Callable[[int], None]) -> list[Result]:
        """The results of the speaker called ``name``, one per kind of users; ``on_done`` hears of units done.

        Raises:
            EndpointError, BudgetError: a language model cannot go on.
        """
        ...


def means(items: Sequence[Item], names: Iterable[str], *, seed: int, samples: int) -> dict[str, Figure]:
    """The mean of each score over the items that have it, with its interval; one that no item has is left out."""
    values = {name: [item.scores[name] for item in items if name in item.scores] for name in names}
    return {name: bootstrap_mean(some, seed=seed, samples=samples) for name, some in values.items() if some}


def after(done: int, on_done: Callable[[int], None]) -> Callable[[int], None]:
    """Tells ``on_done`` of units that come after ``done`` others."""
    return lambda units: on_done(done + units)


def compare(a: Result, b: Result, *, seed: int, samples: int) -> Comparison:
    """Speaker a against speaker b, item by item, on those that both have.

    Raises DataError when they are not of the same suite and users, or share no item.
    """
    if (a.suite, a.users, a.main) != (b.suite, b.users, b.main):
        what = f"{a.suite} ({a.users}) and {b.suite} ({b.users})"
        raise DataError("results of different suites cannot be compared", got=what, expected="the same suite and users")
    theirs = {item.id: item.scores[b.main] for item in b.items if b.main in item.scores}
    pairs = [(item.scores[a.main], theirs[item.id]) for item in a.items if a.main in item.scores and item.id in theirs]
    if not pairs:
        raise DataError(f"{a.speaker} and {b.speaker} share no item of {a.suite}", expected="results on the same items")
    mine, other = zip(*pairs, strict=True)
    return paired_bootstrap(mine, other, seed=seed, samples=samples)
