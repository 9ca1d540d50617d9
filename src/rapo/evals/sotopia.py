"""SOTOPIA: two characters with a private goal each; the policy plays one, a user simulator the other, a judge rates.

Seven dimensions with the ranges of SOTOPIA (Zhou et al., ICLR 2024, https://arxiv.org/abs/2310.11667). Prompts, partner
and judge are ours: figures compare policies with each other. For figures that compare with published ones see
:mod:`rapo.evals.sotopia_agent`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean

from rapo import prompts
from rapo.errors import EndpointError
from rapo.evals.suite import Figure, Item, Result, means
from rapo.interact.acts import parse_act
from rapo.interact.play import Speaker, cut_short, play
from rapo.interact.users import UserSimulator
from rapo.missing import CountingUsers, demand
from rapo.models.answers import Object, number, shape, words
from rapo.models.chat import ChatModel, ChatRequest
from rapo.models.structured import ask_structured
from rapo.prompts.quoting import data, rows
from rapo.seeds import derive_seed
from rapo.types import Dialogue, Message, Scenario

RANGES: Mapping[str, tuple[int, int]] = {
    "believability": (0, 10),
    "relationship": (-5, 5),
    "knowledge": (0, 10),
    "secret": (-10, 0),
    "social_rules": (-10, 0),
    "financial_and_material_benefits": (-5, 5),
    "goal": (0, 10),
}
MAIN, OVERALL = "goal", "overall"
REPLIES = 10  # SOTOPIA's episodes have 20 turns, and its two sides take them alternately


@dataclass(frozen=True, slots=True)
class Rating:
    """A rating of the policy's side of a talk.

    Attributes:
        scores: one for each of ``RANGES``, within its range.
        reason: for people only; it may tell of both private goals.
    """

    scores: dict[str, float]
    reason: str

    @property
    def overall(self) -> float:
        """The mean of the seven, which have different ranges: -30/7 to 40/7 at the extremes, as in SOTOPIA."""
        return fmean(self.scores.values())


@dataclass(frozen=True, slots=True)
class Sotopia:
    """Scenarios of :func:`rapo.data.load_sotopia`, each played once and rated; the main score is goal completion.

    Attributes:
        scenarios: the policy's side and its brief in the opening, the partner's in the hidden profile.
        partner: plays the other side.
        judge: rates the policy's side, reading both.
        users: who played and judged, by name.
        seed: of sampling, partner and judge.
        subsets: ids of scenarios whose goal completion is shown apart, by the name of the subset.
        turns: most replies of the policy per talk.
        samples: bootstrap resamples.
        max_missing: share of the reactions, and of the ratings, that may be missing.
        name: of the suite.
    """

    scenarios: Sequence[Scenario]
    partner: UserSimulator
    judge: ChatModel
    users: str
    seed: int
    subsets: Mapping[str, Collection[str]] = field(default_factory=dict)
    turns: int = REPLIES
    samples: int = 2000
    max_missing: float = 1.0
    name: str = "sotopia"

    @property
    def total(self) -> int:
        """Turns, all talks together, and the ratings as one more."""
        return self.turns + 1

    def run(self, name: str, speaker: Speaker, on_done: Callable[[int], None] = lambda done: None) -> list[Result]:
        """One result.

        Raises:
            EndpointError: a language model cannot go on, or too much of what was asked for is missing.
        """
        partner, seed = CountingUsers(self.partner), derive_seed(self.name, self.seed)
        talks = play(
            speaker, partner, self.scenarios, turns=self.turns, seed=seed, on_turn=lambda turn: on_done(turn + 1)
        )
        demand("reactions of the partner", missing=partner.missing, asked=partner.calls, limit=self.max_missing)
        on_done(self.turns)
        played = [talk for talk in talks if talk.turns]
        ratings = rate(self.judge, played, seed)
        demand("ratings", missing=ratings.count(None), asked=len(ratings), limit=self.max_missing)
        on_done(self.total)
        items = tuple(
            Item(talk.scenario.id, {**rating.scores, OVERALL: rating.overall}, talk, rating.reason)
            for talk, rating in zip(played, ratings, strict=True)
            if rating is not None
        )
        figures, lost = self._figures(items), len(talks) - len(items)
        result = Result(self.name, name, self.users, MAIN, items, figures, lost=lost)
        return [replace(result, cut_short=cut_short(result.dialogues, self.turns))]

    def _figures(self, items: Sequence[Item]) -> dict[str, Figure]:
        """Goal completion first, of all and of each subset; then the mean of the seven, the others, and the turns."""
        if not items:
            raise EndpointError(
                f"not one of {len(self.scenarios)} talks could be played and rated",
                fix="look at the endpoint with rapo check",
            )
        mean = partial(means, seed=self.seed, samples=self.samples)
        figures = mean(items, [MAIN])
        for subset, ids in self.subsets.items():
            some = [item for item in items if item.id in ids]
            figures |= {f"{name}_{subset}": found for name, found in mean(some, [MAIN]).items()}
        figures |= mean(items, (OVERALL, *RANGES))
        return {**figures, "turns": fmean(len(item.dialogue.turns) for item in items if item.dialogue)}


def rate(judge: ChatModel, talks: Sequence[Dialogue], seed: int) -> list[Rating | None]:
    """One rating per talk, in order; None, never zero, without a usable answer.

    Raises:
        EndpointError, BudgetError: the judge cannot go on.
    """
    requests = [_request(talk, derive_seed(seed, "rate", talk.scenario.id)) for talk in talks]
    return ask_structured(judge, requests, lambda _, value: _rating(value))[0]


def _request(talk: Dialogue, seed: int) -> ChatRequest:
    told = "\n".join(message.content for message in talk.messages if message.role == "system")
    messages = prompts.load("rate_sotopia").messages(
        situation=data(talk.scenario.situation),
        author=data(told),
        other=data(dict(talk.scenario.profile)),
        talk=rows([_line(message) for message in talk.messages if message.role != "system"]),
    )
    ranges = {name: {"type": "integer", "minimum": low, "maximum": high} for name, (low, high) in RANGES.items()}
    return ChatRequest(messages, "sotopia.rate", seed, shape(reason={"type": "string"}, **ranges))


def _line(message: Message) -> dict[str, str]:
    act = parse_act(message.content)
    return {"who": "author" if message.role == "assistant" else "other", "act": act.kind, "text": act.text}


def _rating(value: Object) -> Rating:
    scores = {name: number(value, name, low, high) for name, (low, high) in RANGES.items()}
    return Rating(scores, words(value, "reason", optional=True))
