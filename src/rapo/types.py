"""The data that flows through one training step, in the order in which it comes into being.

Everything here is frozen and holds only what JSON can hold, so that every record of a run can be written and read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. In support talk the seeker is ``user`` and the supporter (the policy) is ``assistant``."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of a user's state; higher is better for the user (ease = 10 - distress, a rating of 1-5, ...)."""

    low: float = 0.0
    high: float = 10.0
    name: str = "ease"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a dialogue starts from.

    Attributes:
        id: unique within its source; it keys the seeds of everything that happens in the scenario.
        situation: what anyone may know about it.
        opening: what was said before the policy's first reply; the last message is the user's. A first system message
            is what the policy alone is told (its own role and goal in a negotiation).
        start: the user's state before the policy's first reply, on ``scale``.
        profile: HIDDEN from the policy: persona, need, goal, facts not told yet. Only a user simulator reads it.
    """

    id: str
    situation: str
    opening: tuple[Message, ...]
    start: float
    scale: Scale = Scale()
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reaction:
    """The echo of a reply.

    Attributes:
        text: what the user says next.
        state: the user's state after it, on the scenario's scale.
        thought: what the user thinks and does not say; "" where the simulator gives none.
        done: the user ends the talk here (helped, or gone).
    """

    text: str
    state: float
    thought: str = ""
    done: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """A reply and the reaction it caused."""

    reply: str
    reaction: Reaction


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A scenario and the turns played so far."""

    scenario: Scenario
    turns: tuple[Turn, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything said so far, oldest first; never anything of the hidden profile."""
        said = list(self.scenario.opening)
        for turn in self.turns:
            said.append(Message("assistant", turn.reply))
            said.append(Message("user", turn.reaction.text))
        return tuple(said)

    @property
    def trajectory(self) -> tuple[float, ...]:
        """The user's state before the first reply and after each turn; length ``len(turns) + 1``."""
        return (self.scenario.start, *(turn.reaction.state for turn in self.turns))

    @property
    def done(self) -> bool:
        """Whether the user has ended the talk."""
        return bool(self.turns) and self.turns[-1].reaction.done

    def upto(self, turn: int) -> Dialogue:
        """The dialogue as it stood before reply number ``turn`` (counted from 0)."""
        return replace(self, turns=self.turns[:turn])

    def then(self, reply: str, reaction: Reaction) -> Dialogue:
        """The dialogue one turn later."""
        return replace(self, turns=(*self.turns, Turn(reply, reaction)))


@dataclass(frozen=True, slots=True)
class EchoRequest:
    """Ask a user simulator how the user of ``dialogue`` reacts to ``reply``; ``seed`` keys any randomness."""

    dialogue: Dialogue
    reply: str
    seed: int


@dataclass(frozen=True, slots=True)
class PivotalTurn:
    """A turn that moved the trajectory: ``dialogue`` stands before the reply, ``change`` is s_t - s_(t-1)."""

    dialogue: Dialogue
    change: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A sampled reply.

    Attributes:
        text: the reply as text, without special tokens.
        token_ids: the sampled ids, the end-of-turn token included when it was sampled; length T.
        logps: behaviour log-probability (nats) of each id under the sampling distribution; length T.
        finished: the end-of-turn token was sampled before the length limit.
    """

    text: str
    token_ids: tuple[int, ...]
    logps: tuple[float, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the replies sampled at a pivotal turn, and its echo; a reply whose echo is missing never becomes one."""

    completion: Completion
    reaction: Reaction


@dataclass(frozen=True, slots=True)
class Feedback:
    """The judge's word on one candidate: ``rank`` 1 is best, ties share their mean; the critique is for the policy."""

    rank: float
    critique: str


@dataclass(frozen=True, slots=True)
class Correction:
    """What the teacher wrote instead of candidate ``candidate``; its reaction if one was asked for and came."""

    candidate: int
    completion: Completion
    reaction: Reaction | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A pivotal turn with its G candidates and what the judge said of them.

    Attributes:
        pivot: the turn that is branched.
        candidates: G of them, fewer where echoes are missing.
        feedback: one entry per candidate, or None when the feedback is missing (the group then has weight 0).
        agreement: Kendall's W between the judge's permutations, 0-1; None with a single permutation.
        orders: the orders in which the judge saw the candidates, one per permutation: ``orders[p][slot]`` is a
            candidate's place in ``candidates``.
        corrections: at most one per candidate, in candidate order.
    """

    pivot: PivotalTurn
    candidates: tuple[Candidate, ...]
    feedback: tuple[Feedback, ...] | None = None
    agreement: float | None = None
    corrections: tuple[Correction, ...] = ()
    orders: tuple[tuple[int, ...], ...] = ()
