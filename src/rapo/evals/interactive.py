"""What a talk did for its user: the outcome of dialogues with simulated users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rapo.errors import EndpointError
from rapo.evals.stats import Comparison, Interval, bootstrap_mean, paired_bootstrap
from rapo.evals.variety import distinct_n, most_common_share, opening_entropy
from rapo.interact.play import Speaker, play
from rapo.interact.users import UserSimulator
from rapo.seeds import derive_seed
from rapo.types import Dialogue

RESOLVED = 0.9  # a user who ends in the top tenth of the scale has been helped


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one speaker did with one population of users.

    Attributes:
        dialogues: how many were played; one whose first reaction is missing was not.
        change: the user's state at the end less that at the start, with its bootstrap interval.
        resolved: share of the dialogues that end in the top tenth of the scale.
        turns: replies per dialogue.
        distinct_2: different pairs of words per pair of words, over all replies.
        most_common_share: share of the replies that are the most frequent one.
        opening_entropy: bits in the first three words of the replies.
        rating: what the evaluation judge thinks of the dialogues, 0-10; None without one.
        lost: dialogues that were begun and not played; they count nowhere.
    """

    dialogues: int
    change: Interval
    resolved: float
    turns: float
    distinct_2: float
    most_common_share: float
    opening_entropy: float
    rating: Interval | None = None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: who spoke with which users, and what came of it; ``kind`` groups speakers."""

    speaker: str
    kind: str
    population: str
    outcome: Outcome
    dialogues: tuple[Dialogue, ...]


@dataclass(frozen=True, slots=True)
class Suite:
    """Scenarios of each population, the same for every speaker.

    Attributes:
        users: the simulators by the name of their population; they should draw scenarios that training never meets.
        count: dialogues per population.
        turns: most replies per dialogue.
        seed: of scenarios and sampling.
        samples: bootstrap resamples.
    """

    users: Mapping[str, UserSimulator]
    count: int
    turns: int
    seed: int
    samples: int = 2000

    def run(
        self,
        speakers: Mapping[str, Speaker],
        kind: str,
        on_turn: Callable[[Row | None], None] = lambda row: None,
    ) -> list[Row]:
        """Every speaker with every population; ``on_turn`` hears of every turn (None) and of every row."""
        rows = []
        for name, speaker in speakers.items():
            for population, users in self.users.items():
                seed = derive_seed("suite", self.seed)
                scenarios = users.scenarios(self.count, seed)
                played = play(speaker, users, scenarios, turns=self.turns, seed=seed, on_turn=lambda _: on_turn(None))
                found = outcome(played, seed=seed, samples=self.samples)
                rows.append(Row(name, kind, population, found, tuple(played)))
                on_turn(rows[-1])
        return rows


def outcome(dialogues: Sequence[Dialogue], *, seed: int, samples: int) -> Outcome:
    """The outcome of dialogues; raises EndpointError when not one of them has a turn."""
    played = [dialogue for dialogue in dialogues if dialogue.turns]
    if not played:
        raise EndpointError(
            f"the first reactions of all {len(dialogues)} talks are missing", fix="look at the endpoint with rapo check"
        )
    replies = [turn.reply for dialogue in played for turn in dialogue.turns]
    return Outcome(
        dialogues=len(played),
        change=bootstrap_mean([change(dialogue) for dialogue in played], seed=seed, samples=samples),
        resolved=sum(map(resolved, played)) / len(played),
        turns=len(replies) / len(played),
        distinct_2=distinct_n(replies, 2),
        most_common_share=most_common_share(replies),
        opening_entropy=opening_entropy(replies),
        lost=len(dialogues) - len(played),
    )


def change(dialogue: Dialogue) -> float:
    """How much better off the user is at the end, in units of the state."""
    return dialogue.trajectory[-1] - dialogue.trajectory[0]


def resolved(dialogue: Dialogue) -> bool:
    """Whether the user ends in the top tenth of the scale."""
    scale = dialogue.scenario.scale
    return dialogue.trajectory[-1] >= scale.low + RESOLVED * (scale.high - scale.low)


def compare(a: Sequence[Dialogue], b: Sequence[Dialogue], *, seed: int, samples: int) -> Comparison:
    """Speaker a against speaker b on the same scenarios, in the same order."""
    return paired_bootstrap(list(map(change, a)), list(map(change, b)), seed=seed, samples=samples)
