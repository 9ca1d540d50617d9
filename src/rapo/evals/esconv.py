"""ESConv in two parts: talks about its situations, and replies in the place of its supporters'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rapo.data.conversation import Conversation
from rapo.data.conversation import set_aside as is_set_aside
from rapo.data.formats import load_conversations, load_scenarios
from rapo.errors import DataError, EndpointError
from rapo.evals.critic import SOLVED, Critic
from rapo.evals.suite import Figure, Item, Result, after, means
from rapo.evals.variety import Encode, variety
from rapo.interact.llm_user import LLMUser
from rapo.interact.play import Speaker, play
from rapo.interact.replay import ReplayUser
from rapo.interact.users import UserSimulator, WrappedUsers
from rapo.missing import CountingUsers, demand
from rapo.models.chat import ChatModel
from rapo.seeds import derive_seed
from rapo.types import Dialogue, EchoRequest, Reaction, Scenario

NAME = "esconv"
EASE_PER_POINT = 2  # ease is 10 - distress, and distress twice the intensity (1-5) that ESConv asks for


class Part(Protocol):
    """Half of the suite: one result per speaker."""

    @property
    def total(self) -> int:
        """Units of progress."""
        ...

    def run(self, name: str, speaker: Speaker, on_done: Callable[[int], None]) -> Result:
        """The result of the speaker called ``name``."""
        ...


@dataclass(frozen=True, slots=True)
class Esconv:
    """The suite: :class:`EsconvTalks` and :class:`rapo.evals.human_replies.HumanReplies`, or one of them."""

    parts: Sequence[Part]
    name: str = NAME

    @property
    def total(self) -> int:
        """Turns of talks, and conversations."""
        return sum(part.total for part in self.parts)

    def run(self, name: str, speaker: Speaker, on_done: Callable[[int], None]) -> list[Result]:
        """One result per part; raises what they raise."""
        results, done = [], 0
        for part in self.parts:
            results.append(part.run(name, speaker, after(done, on_done)))
            done += part.total
        return results


def load(files: Sequence[str | Path], player: ChatModel | None) -> tuple[tuple[Conversation, ...], UserSimulator]:
    """The conversations of files that are set aside for evaluation, and who plays the users of their situations.

    Args:
        files: see :func:`rapo.data.formats.load_conversations`.
        player: a language model; None replays the people of all the files.

    Raises:
        DataError: a file cannot be used, none of the conversations is set aside, or people's answers are not rated.
    """
    logged = load_conversations(files).conversations
    kept = tuple(conversation for conversation in logged if conversation.set_aside)
    if not kept:
        raise DataError(
            "none of the conversations is set aside for evaluation",
            got=f"{len(logged)} conversations",
            expected="about a fifth of them",
            fix="give more conversations",
        )
    if player is None:
        return kept, ReplayUser(logged, evaluation=True)
    scenarios = [scenario for scenario in load_scenarios(files, "support").situations if is_set_aside(scenario)]
    return kept, LLMUser(scenarios, [player])


@dataclass(frozen=True, slots=True)
class EsconvTalks:
    """Talks as in the line of PPDPP (Deng et al. 2024, arXiv 2311.00262): success, and turns until then.

    With a critic, a talk succeeds at the first turn at which the critic finds the issue solved, and ends there. Without
    one it goes on until its user ends it, and succeeds when the user's state is then above where it began: weak, and
    all that a replayed user can tell. A talk that fails counts with all ``turns``, as there.

    Attributes:
        scenarios: what they start from, the same for every speaker; ids differ.
        users: who plays the users.
        players: what to call them.
        seed: of users and sampling.
        critic: who judges.
        turns: most replies per talk.
        samples: bootstrap resamples.
        max_missing: share of the reactions (verdicts included) that may be missing.
        encode: adds ``embedding_variety``.
    """

    scenarios: Sequence[Scenario]
    users: UserSimulator
    players: str
    seed: int
    critic: Critic | None = None
    turns: int = 8
    samples: int = 2000
    max_missing: float = 1.0
    encode: Encode | None = None

    @property
    def total(self) -> int:
        """Turns."""
        return self.turns

    def run(self, name: str, speaker: Speaker, on_done: Callable[[int], None]) -> Result:
        """The result; a talk that was cut short is lost, since nobody knows how it would have ended.

        Raises:
            EndpointError: a language model cannot go on, too much is missing, or every talk was cut short.
            BudgetError: as of the models.
        """
        watched = _Watched(self.users, self.critic)
        users = CountingUsers(watched)
        seed = derive_seed(NAME, self.seed)
        played = play(
            speaker, users, self.scenarios, turns=self.turns, seed=seed, on_turn=lambda turn: on_done(turn + 1)
        )
        demand("reactions and verdicts", missing=users.missing, asked=users.calls, limit=self.max_missing)
        whole = [dialogue for dialogue in played if dialogue.done or len(dialogue.turns) == self.turns]
        if not whole:
            raise EndpointError(
                f"all {len(played)} talks were cut short",
                expected="talks that go on until they are solved or have had all their turns",
                fix="look at the endpoint with rapo check, or give the policy a longer context",
            )
        items = tuple(Item(each.scenario.id, dict(self._scores(each, watched.verdicts)), each) for each in whole)
        on_done(self.turns)
        judged = f"critic {self.critic.model.name}" if self.critic else "success by the user's state"
        figures = self._figures(items)
        return Result(NAME, name, f"{self.players}, {judged}", "success", items, figures, lost=len(played) - len(whole))

    def _scores(self, dialogue: Dialogue, verdicts: dict[str, float]) -> Iterator[tuple[str, float]]:
        change = dialogue.trajectory[-1] - dialogue.trajectory[0]
        verdict = verdicts.get(dialogue.scenario.id)
        success = change > 0 if verdict is None else verdict > SOLVED
        yield "success", float(success)
        yield "turns", float(len(dialogue.turns) if success else self.turns)
        yield "change", change
        if dialogue.scenario.scale.name == "ease":
            yield "intensity_drop", change / EASE_PER_POINT
        if verdict is not None:
            yield "verdict", verdict

    def _figures(self, items: Sequence[Item]) -> dict[str, Figure]:
        shared = [name for name in items[0].scores if all(name in item.scores for item in items)]
        found = means(items, shared, seed=self.seed, samples=self.samples)
        replies = [turn.reply for item in items if item.dialogue for turn in item.dialogue.turns]
        return found | variety(replies, self.encode)


class _Watched(WrappedUsers):
    """Users whose talk ends when the critic finds their issue solved; a verdict that is missing is a missing reaction.

    Attributes:
        verdicts: the newest one of each talk, by the id of its scenario.
    """

    def __init__(self, users: UserSimulator, critic: Critic | None) -> None:
        super().__init__(users)
        self._critic = critic
        self.verdicts: dict[str, float] = {}

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """The simulator's reactions, ``done`` where the issue is solved."""
        reactions = super().react(requests)
        if self._critic is None:
            return reactions
        pairs = list(zip(requests, reactions, strict=True))
        verdicts = iter(self._critic([one.dialogue.then(one.reply, each) for one, each in pairs if each is not None]))
        return [each and self._judged(one, each, next(verdicts)) for one, each in pairs]

    def _judged(self, request: EchoRequest, reaction: Reaction, verdict: float | None) -> Reaction | None:
        if verdict is None:
            return None
        self.verdicts[request.dialogue.scenario.id] = verdict
        return replace(reaction, done=reaction.done or verdict > SOLVED)
