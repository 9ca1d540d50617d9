"""What a talk did for its user: the outcome of dialogues with simulated users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rapo.errors import EndpointError
from rapo.evals.llm_judge import Rating
from rapo.evals.suite import Figure, Item, Kind, Result, after, means
from rapo.evals.variety import variety
from rapo.interact.play import Speaker, cut_short, play
from rapo.interact.users import UserSimulator
from rapo.missing import CountingUsers, demand, demand_any
from rapo.seeds import derive_seed
from rapo.types import Dialogue

RESOLVED = 0.9  # a user who ends in the top tenth of the scale has been helped


@dataclass(frozen=True, slots=True)
class Talks:
    """Scenarios of each population, the same for every speaker; the main score is the change of the user's state.

    Attributes:
        name: of the suite.
        users: the simulators by the name of their population; they should draw scenarios that training never meets.
        count: dialogues per population.
        turns: most replies per dialogue.
        seed: of scenarios and sampling.
        samples: bootstrap resamples.
        max_missing: share of the reactions, and of the ratings, that may be missing.
        rate: a judge's rating of each talk of a speaker that is measured; None leaves them unrated.
    """

    name: str
    users: Mapping[str, UserSimulator]
    count: int
    turns: int
    seed: int
    samples: int = 2000
    max_missing: float = 1.0
    rate: Callable[[Sequence[Dialogue]], list[Rating | None]] | None = None

    @property
    def total(self) -> int:
        """Turns."""
        return len(self.users) * self.turns

    def run(
        self, name: str, speaker: Speaker, on_done: Callable[[int], None] = lambda done: None, *, kind: Kind = "policy"
    ) -> list[Result]:
        """One result per population.

        Raises:
            EndpointError: a language model cannot go on, or too much of what was asked for is missing.
        """
        seed, found = derive_seed("suite", self.seed), []
        for place, (population, simulator) in enumerate(self.users.items()):
            users, done = CountingUsers(simulator), place * self.turns
            scenarios = users.scenarios(self.count, seed)
            played = play(
                speaker,
                users,
                scenarios,
                turns=self.turns,
                seed=seed,
                on_turn=after(done + 1, on_done),
            )
            what = f"reactions of {population} users"
            demand(what, missing=users.missing, asked=users.calls, limit=self.max_missing)
            result = outcome(played, suite=self.name, speaker=name, users=population, seed=seed, samples=self.samples)
            short = cut_short(result.dialogues, self.turns)
            found.append(self._rated(replace(result, kind=kind, cut_short=short)))
            # Users may have ended their talks early.
            on_done(done + self.turns)
        return found

    def _rated(self, result: Result) -> Result:
        """The result with what the judge thinks of its talks; missing ratings are left out, never zero."""
        if self.rate is None or result.kind != "policy":
            return result
        ratings = self.rate(result.dialogues)
        missing = ratings.count(None)
        demand("ratings", missing=missing, asked=len(ratings), limit=self.max_missing)
        demand_any("ratings", missing=missing, asked=len(ratings))
        items = tuple(
            item if rating is None else replace(item, scores=item.scores | {"rating": rating.score}, note=rating.reason)
            for item, rating in zip(result.items, ratings, strict=True)
        )
        mean = means(items, ["rating"], seed=derive_seed("suite", self.seed), samples=self.samples)
        return replace(result, items=items, figures=result.figures | mean)


def outcome(dialogues: Sequence[Dialogue], *, suite: str, speaker: str, users: str, seed: int, samples: int) -> Result:
    """The result of dialogues; those without a turn are lost, and EndpointError is raised when all are."""
    played = [dialogue for dialogue in dialogues if dialogue.turns]
    if not played:
        raise EndpointError(
            f"the first reactions of all {len(dialogues)} talks are missing", fix="look at the endpoint with rapo check"
        )
    items = tuple(Item(dialogue.scenario.id, scores(dialogue), dialogue) for dialogue in played)
    replies = [turn.reply for dialogue in played for turn in dialogue.turns]
    figures: dict[str, Figure] = {
        **means(items, ["change"], seed=seed, samples=samples),
        "resolved": sum(item.scores["resolved"] for item in items) / len(items),
        "turns": len(replies) / len(items),
        **variety(replies),
    }
    lost = len(dialogues) - len(played)
    return Result(suite, speaker, users, "change", items, figures, lost=lost)


def scores(dialogue: Dialogue) -> dict[str, float]:
    """What a talk did: the change of the user's state, whether it was resolved, and its replies."""
    return {
        "change": change(dialogue),
        "resolved": float(resolved(dialogue)),
        "turns": float(len(dialogue.turns)),
    }


def change(dialogue: Dialogue) -> float:
    """How much better off the user is at the end, in units of the state."""
    return dialogue.trajectory[-1] - dialogue.trajectory[0]


def resolved(dialogue: Dialogue) -> bool:
    """Whether the user ends in the top tenth of the scale."""
    scale = dialogue.scenario.scale
    return dialogue.trajectory[-1] >= scale.low + RESOLVED * (scale.high - scale.low)
