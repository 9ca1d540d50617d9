"""User as judge: simulated users talk through a session and then rate what they themselves experienced.

After the public abstract of EmoHarbor (Ye et al., ACL 2026, arXiv 2601.01530), which is all that is known to us of it:
users with three inner roles, who rate personalised support on ten dimensions. Names of roles and dimensions, prompts
and profiles are ours, so no score can be set against the published ones (``docs/evaluation/emoharbor.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rapo import prompts
from rapo.errors import EndpointError
from rapo.evals.suite import Item, Result, means
from rapo.interact.llm_user import LLMUser
from rapo.interact.play import Speaker, cut_short, play
from rapo.interact.roles import remembered
from rapo.missing import CountingUsers, demand
from rapo.models.answers import Object, UnusableError, number, shape, words
from rapo.models.chat import ChatModel, ChatRequest
from rapo.prompts.quoting import data, rows
from rapo.seeds import derive_seed
from rapo.types import Dialogue, Scenario

PROFILES = Path(__file__).with_name("emoharbor.jsonl")  # a small set of our own; ``load_scenarios`` reads it
BEST = 10.0
DIMENSIONS = (
    "understood",
    "validated",
    "cared_for",
    "personal",
    "matched",
    "timed",
    "manner",
    "autonomy",
    "trust",
    "relief",
)
MAIN = "experience"


@dataclass(frozen=True, slots=True)
class Experience:
    """How a talk was for its user.

    Attributes:
        scores: one per dimension, 0-10; 5 is neither good nor bad.
        reasons: the user's own, one per dimension; they may tell of the hidden profile and are for people only.
    """

    scores: dict[str, float]
    reasons: dict[str, str]

    @property
    def mean(self) -> float:
        """The mean of the dimensions, 0-10."""
        return sum(self.scores.values()) / len(self.scores)

    @property
    def note(self) -> str:
        """A line per dimension."""
        return "\n".join(f"{name} {score:g}: {self.reasons[name]}" for name, score in self.scores.items())


class EmoHarbor:
    """The suite: every scenario is played once, and its user rates the talk.

    Args:
        scenarios: of emotional support; their hidden profiles say who the user is and how they like to be supported.
        models: who plays and judges; a scenario always has the same one for both.
        turns: most replies per talk.
        seed: of replies, reactions and ratings.
        samples: bootstrap resamples.
        max_missing: share of the reactions, and of the ratings, that may be missing.

    Attributes:
        users: the simulator; its ``tally`` counts the ratings too.

    Raises:
        ConfigError: no scenarios or no models.
    """

    name = "emoharbor"

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        models: Sequence[ChatModel],
        *,
        turns: int = 6,
        seed: int = 0,
        samples: int = 2000,
        max_missing: float = 1.0,
    ) -> None:
        self.users = LLMUser(scenarios, models, mode="three_roles", personas=False)
        self._scenarios, self._turns = tuple(scenarios), turns
        self._samples, self._max_missing = samples, max_missing
        self._seed = derive_seed(self.name, seed)
        self._played_by = ", ".join(dict.fromkeys(model.name for model in models))

    @property
    def total(self) -> int:
        """Turns, and one for the ratings."""
        return self._turns + 1

    def run(self, name: str, speaker: Speaker, on_done: Callable[[int], None] = lambda done: None) -> list[Result]:
        """One result; a talk without a first reaction or a usable rating is lost.

        Raises:
            EndpointError: a model cannot go on, every talk is lost, or too much of what was asked for is missing.
            BudgetError: a model cannot go on.
        """
        talks = self._play(speaker, on_done)
        played = [talk for talk in talks if talk.turns]
        experiences = rate(self.users, played, self._seed)
        unrated, silent = experiences.count(None), len(talks) - len(played)
        if unrated + silent == len(talks):
            raise EndpointError(
                f"all {len(talks)} talks of {self.name} are lost",
                got=f"{silent} without a first reaction, {unrated} without a usable rating",
                fix="look at the endpoint with rapo check",
            )
        demand(f"ratings of {self.name}", missing=unrated, asked=len(played), limit=self._max_missing)
        pairs = zip(played, experiences, strict=True)
        items = tuple(_item(talk, experience) for talk, experience in pairs if experience is not None)
        on_done(self.total)
        figures = means(items, (MAIN, *DIMENSIONS), seed=self._seed, samples=self._samples)
        lost = len(talks) - len(items)
        result = Result(self.name, name, self._played_by, MAIN, items, figures, lost=lost)
        return [replace(result, cut_short=cut_short(result.dialogues, self._turns))]

    def _play(self, speaker: Speaker, on_done: Callable[[int], None]) -> list[Dialogue]:
        users = CountingUsers(self.users)
        talks = play(
            speaker,
            users,
            self._scenarios,
            turns=self._turns,
            seed=self._seed,
            on_turn=lambda turn: on_done(turn + 1),
        )
        what = f"reactions of {self.name} users"
        demand(what, missing=users.missing, asked=users.calls, limit=self._max_missing)
        # Users may have ended their talks early.
        on_done(self._turns)
        return talks


def rate(users: LLMUser, dialogues: Sequence[Dialogue], seed: int) -> list[Experience | None]:
    """What each talk was for its user, in order, told by whoever played them; None, never zero, where not usable.

    Args:
        users: who played the users.
        dialogues: finished talks; thoughts in them are shown to the user who had them, states are not.
        seed: keys the answers.

    Raises:
        EndpointError, BudgetError: a model cannot go on.
    """
    chats = [_request(talk, derive_seed(seed, "experience", talk.scenario.id)) for talk in dialogues]
    return users.ask([talk.scenario for talk in dialogues], chats, lambda _, value: _experience(value))


def _request(talk: Dialogue, seed: int) -> ChatRequest:
    scenario = talk.scenario
    messages = prompts.load("rate_experience").messages(
        profile=data(dict(scenario.profile)), situation=data(scenario.situation), remembered=rows(remembered(talk))
    )
    verdict = shape(why={"type": "string"}, score={"type": "number"})
    return ChatRequest(messages, "rate.experience", seed, shape(**dict.fromkeys(DIMENSIONS, verdict)))


def _experience(value: Object) -> Experience:
    verdicts = {name: _verdict(value, name) for name in DIMENSIONS}
    scores = {name: number(verdict, name, 0, BEST) for name, verdict in verdicts.items()}
    return Experience(scores, {name: words(verdict, "why", optional=True) for name, verdict in verdicts.items()})


def _verdict(value: Object, name: str) -> dict[str, Any]:
    """What is said of one dimension, the score under its name, so that a complaint says which one is meant."""
    found = value.get(name)
    if not isinstance(found, dict):
        raise UnusableError(f'"{name}" must be an object with "why" and "score".')
    return {"why": found.get("why"), name: found.get("score")}


def _item(talk: Dialogue, experience: Experience) -> Item:
    return Item(talk.scenario.id, {MAIN: experience.mean, **experience.scores}, talk, experience.note)
