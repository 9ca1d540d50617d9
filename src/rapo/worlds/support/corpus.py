"""The corpus for a policy made from scratch: generic dialogues, and corrections that teach it to follow a critique."""

from __future__ import annotations

from random import Random

from rapo.seeds import derive_seed
from rapo.types import Dialogue, Message
from rapo.worlds.support.judge import criticise, landing
from rapo.worlds.support.language import MOVE_FOR, facts_in
from rapo.worlds.support.policies import generic, make_move, random_move
from rapo.worlds.support.reader import read_need
from rapo.worlds.support.seeker import SupportWorld
from rapo.worlds.world import CorrectionExample, collect_corrections, transcripts


def generic_dialogues(count: int, seed: int, *, turns: int = 5) -> list[tuple[Message, ...]]:
    """Dialogues with a fluent supporter who says much the same to everyone; 1 to ``turns`` supporter turns each."""
    return transcripts(generic, SupportWorld(), count, derive_seed("corpus", seed), turns)


def practice_dialogues(count: int, seed: int, *, turns: int = 3) -> list[tuple[Message, ...]]:
    """Short dialogues with a well-made move in every turn, whatever was said: a model learns from them to use facts."""
    return transcripts(random_move, SupportWorld(), count, derive_seed("practice", seed), turns)


def correction_examples(
    count: int, seed: int, *, turns: int = 4, evaluation: bool = False, failed_only: bool = False
) -> list[CorrectionExample]:
    """Corrections by the embedded judge's critiques; one in eight or so is of a reply that needs none.

    Args:
        count: how many.
        seed: the same examples for the same seed.
        turns: supporter turns before and with the corrected reply, at most.
        evaluation: from scenarios set aside for evaluation.
        failed_only: leave out replies that need no correction.
    """
    users = SupportWorld(evaluation=evaluation)
    return collect_corrections(_wandering, users, _correction, count, seed, turns=turns, failed_only=failed_only)


def _wandering(dialogue: Dialogue, random: Random) -> str:
    """Generic, but right now and then, so that corrections are seen at every point of a talk."""
    need = read_need(dialogue.messages[-1].content)
    if need and random.random() < 0.25:
        return make_move(dialogue, MOVE_FOR[need], random)
    return generic(dialogue, random)


def _correction(dialogue: Dialogue, turn: int) -> CorrectionExample:
    before, last = dialogue.upto(turn), dialogue.turns[turn]
    wanted = read_need(before.messages[-1].content) or read_need(last.reaction.text)
    critique = criticise(last.reply, last.reaction.text, wanted)
    target = last.reply
    if landing(last.reaction.text) > 0:
        random = Random(derive_seed("target", dialogue.scenario.id, turn))
        target = make_move(before, MOVE_FOR[wanted or "heard"], random)
    facts = tuple(sorted(value for _, value in facts_in(target)))
    return CorrectionExample(before, last.reply, last.reaction, critique, target, facts)
