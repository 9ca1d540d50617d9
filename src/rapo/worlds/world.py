"""What an embedded world offers a run: users, a judge, a corpus, echoes, and scripted speakers that bound a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class World:
    """An embedded world; everything in it is a pure function of its arguments.

    Attributes:
        users: ``(population, *, evaluation=False)``: users of one population; those of ``evaluation`` share no scenario
            with the others.
        judge: ``()``: a judge that reads what was said, never a state or a hidden profile.
        dialogues: ``(count, seed)``: with a fluent policy that says much the same to everyone; each ends with a reply.
        practice: ``(count, seed)``: short dialogues of well-made replies, whatever was said: a model learns by them to
            use facts.
        corrections: ``(count, seed, *, evaluation=False, failed_only=False)``: of that policy's replies, by the judge's
            critiques; ``failed_only`` without replies that need none, ``evaluation`` from scenarios set aside for it.
        echo: how the user of a dialogue takes a reply.
        ladder: scripted speakers from the best to the corpus's own.
        exploits: scripted speakers that look for holes in the users and must not be paid for it.
    """

    users: Callable[..., UserSimulator]
    judge: Callable[[], RewardModel]
    dialogues: Callable[[int, int], list[tuple[Message, ...]]]
    practice: Callable[[int, int], list[tuple[Message, ...]]]
    corrections: Callable[..., list[CorrectionExample]]
    echo: Callable[[Dialogue, str], Reaction]
    ladder: Mapping[str, Speaker]
    exploits: Mapping[str, Speaker]


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
