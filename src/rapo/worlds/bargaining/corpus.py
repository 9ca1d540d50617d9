"""The corpus for a policy from scratch: inflexible dialogues, and corrections that teach it to follow a critique."""

from __future__ import annotations

from random import Random

from rapo.seeds import derive_seed
from rapo.types import Dialogue, Message
from rapo.worlds.bargaining.judge import complaint, criticise, landing
from rapo.worlds.bargaining.language import MOVE_FOR, facts_in, prices_in
from rapo.worlds.bargaining.partner import BargainingWorld
from rapo.worlds.bargaining.policies import cue_rule, generic, make_move, told_move
from rapo.worlds.bargaining.reader import read_need
from rapo.worlds.world import CorrectionExample, collect_corrections, transcripts


def generic_dialogues(count: int, seed: int, *, turns: int = 5) -> list[tuple[Message, ...]]:
    """Dialogues with a fluent negotiator who says much the same to everyone; 1 to ``turns`` replies each."""
    return transcripts(generic, BargainingWorld(), count, derive_seed("corpus", seed), turns)


def practice_dialogues(count: int, seed: int, *, turns: int = 3) -> list[tuple[Message, ...]]:
    """Short dialogues with a well-made, detailed move in every turn, whatever was said: a model learns to use facts."""
    return transcripts(told_move, BargainingWorld(), count, derive_seed("practice", seed), turns)


def correction_examples(
    count: int, seed: int, *, turns: int = 4, evaluation: bool = False, failed_only: bool = False
) -> list[CorrectionExample]:
    """Corrections by the embedded judge's critiques; some are of replies that need none.

    Args:
        count: how many.
        seed: the same examples for the same seed.
        turns: replies before and with the corrected one, at most.
        evaluation: from scenarios set aside for evaluation.
        failed_only: leave out replies that need no correction.
    """
    users = BargainingWorld(evaluation=evaluation)
    return collect_corrections(_wandering, users, _correction, count, seed, turns=turns, failed_only=failed_only)


def _wandering(dialogue: Dialogue, random: Random) -> str:
    """Inflexible, but right now and then, so that corrections are seen at every point of a talk."""
    return (cue_rule if random.random() < 0.25 else generic)(dialogue, random)


def _correction(dialogue: Dialogue, turn: int) -> CorrectionExample:
    before, last = dialogue.upto(turn), dialogue.turns[turn]
    wanted = read_need(before.messages[-1].content) or "ask"
    echo, target = last.reaction.text, last.reply
    if landing(echo) > 1 or complaint(echo) is not None:
        target = make_move(before, MOVE_FOR[wanted], Random(derive_seed("target", dialogue.scenario.id, turn)))
    critique = criticise(last.reply, echo, wanted)
    facts = (*sorted(value for _, value in facts_in(target)), *map(str, prices_in(target)))
    return CorrectionExample(before, last.reply, last.reaction, critique, target, facts)
