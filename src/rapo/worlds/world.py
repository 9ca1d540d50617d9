"""What an embedded world offers a run: users, a judge, a corpus, echoes, and scripted speakers that bound a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

from rapo.hindsight.feedback import RewardModel
from rapo.interact.play import Speaker, play
from rapo.interact.users import UserSimulator
from rapo.seeds import derive_seed
from rapo.types import Dialogue, Message, Reaction

Population = Literal["familiar", "held_out"]
Rule = Callable[[Dialogue, Random], str]


@dataclass(frozen=True, slots=True)
class CorrectionExample:
    """A reply, the judge's critique of it, and a reply that follows the critique.

    Attributes:
        dialogue: as it stood before the reply.
        reply: what was said.
        echo: how the user took it.
        critique: what the judge wrote about it.
        target: a reply that does what the critique asks for; the same one where the critique finds nothing to change.
        facts: the words that ``target`` takes from the dialogue.
    """

    dialogue: Dialogue
    reply: str
    echo: Reaction
    critique: str
    target: str
    facts: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether there is something to correct."""
        return self.target != self.reply


class World(Protocol):
    """An embedded world; everything in it is a pure function of its arguments."""

    def users(self, population: Population, *, evaluation: bool = False) -> UserSimulator:
        """Users of one population; those of ``evaluation`` share no scenario with the others."""
        ...

    def judge(self) -> RewardModel:
        """A judge that reads what was said, never a state or a hidden profile."""
        ...

    def dialogues(self, count: int, seed: int) -> list[tuple[Message, ...]]:
        """Dialogues with a fluent policy that says much the same to everyone; each ends with a reply."""
        ...

    def practice(self, count: int, seed: int) -> list[tuple[Message, ...]]:
        """Short dialogues of well-made replies, whatever was said: a model learns from them to use facts."""
        ...

    def corrections(
        self, count: int, seed: int, *, evaluation: bool = False, failed_only: bool = False
    ) -> list[CorrectionExample]:
        """Corrections by the judge's critiques, ``failed_only`` without replies that need none.

        With ``evaluation`` they are from scenarios set aside for it.
        """
        ...

    def echo(self, dialogue: Dialogue, reply: str) -> Reaction:
        """How the user of a dialogue takes a reply."""
        ...

    def ladder(self) -> Mapping[str, Speaker]:
        """Scripted speakers from the best to the corpus's own."""
        ...

    def exploits(self) -> Mapping[str, Speaker]:
        """Scripted speakers that look for holes in the users and must not be paid for it."""
        ...


class Scripted:
    """A speaker that follows a rule ``(dialogue, random) -> reply``."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str]:
        """One reply per dialogue."""
        return [self.rule(dialogue, Random(seed)) for dialogue, seed in zip(dialogues, seeds, strict=True)]


def scripted(rules: Mapping[str, Rule]) -> dict[str, Speaker]:
    """A speaker per rule."""
    return {name: Scripted(rule) for name, rule in rules.items()}


def played(rule: Rule, users: UserSimulator, count: int, seed: int, turns: int) -> list[Dialogue]:
    """Dialogues played by a rule and cut after 1 to ``turns`` of its replies."""
    random = Random(seed)
    dialogues = play(Scripted(rule), users, users.scenarios(count, seed), turns=turns, seed=seed)
    return [d.upto(random.randint(1, len(d.turns))) for d in dialogues]


def transcripts(rule: Rule, users: UserSimulator, count: int, seed: int, turns: int) -> list[tuple[Message, ...]]:
    """Played dialogues as messages, each up to its last reply."""
    return [dialogue.messages[:-1] for dialogue in played(rule, users, count, seed, turns)]


def collect_corrections(
    rule: Rule,
    users: UserSimulator,
    correct: Callable[[Dialogue, int], CorrectionExample],
    count: int,
    seed: int,
    *,
    turns: int,
    failed_only: bool,
) -> list[CorrectionExample]:
    """``count`` corrections of what a rule says, where ``correct(dialogue, turn)`` corrects the reply of one turn."""
    examples: list[CorrectionExample] = []
    batch = 0
    while len(examples) < count:
        key = derive_seed("corrections", seed, batch)
        for dialogue in played(rule, users, max(16, count // turns), key, turns):
            found = (correct(dialogue, turn) for turn in range(len(dialogue.turns)))
            examples += [example for example in found if example.failed or not failed_only]
        batch += 1
    return examples[:count]
