"""Hindsight dialogue selection: which turns of the dialogues just played are worth branching."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random

from rapo.types import Dialogue, PivotalTurn


def setback(change: float) -> float:
    """What set the user back most comes first, then what did nothing: turns at which there is most to learn."""
    return change


def upheaval(change: float) -> float:
    """What moved the user most comes first, up or down."""
    return -abs(change)


def chance(change: float) -> float:
    """Every turn is as good as another: what selection is measured by."""
    return 0.0


Order = Callable[[float], float]  # of a turn, by its change of state as a share of the scale; the lowest come first
ORDERS: Mapping[str, Order] = {"setback": setback, "change": upheaval, "random": chance}


def select_pivotal(
    dialogues: Sequence[Dialogue], order: Order, *, share: float, per_dialogue: int, floor: float, seed: int
) -> list[PivotalTurn]:
    """The most pivotal turns of a batch of dialogues, in the order in which they were played.

    A turn counts by how it moved the user's state, as a share of the scenario's scale. What is much or little is
    decided by comparison within the batch: in 15,369 reactions of LLM-played users a fixed threshold of 5 of 100 points
    kept 97% of the turns and one of 10 points 26%. A change that is no number does not count as a turn.

    Args:
        dialogues: the batch.
        order: which turns come first; those that are equal are drawn.
        share: of all turns played, how many are kept at most (rounded, one at least).
        per_dialogue: turns kept of one dialogue at most.
        floor: least absolute change, in units of the state.
        seed: of the draw.
    """
    turns = [
        (i, t, after - before)
        for i, dialogue in enumerate(dialogues)
        for t, (before, after) in enumerate(zip(dialogue.trajectory, dialogue.trajectory[1:], strict=False))
        if math.isfinite(after - before)
    ]
    scales = [dialogue.scenario.scale for dialogue in dialogues]
    drawn = Random(seed).sample(turns, len(turns))
    drawn.sort(key=lambda turn: order(turn[2] / (scales[turn[0]].high - scales[turn[0]].low)))
    most = max(1, round(share * len(turns)))
    kept: list[tuple[int, int, float]] = []
    room = dict.fromkeys(range(len(dialogues)), per_dialogue)
    for turn in drawn:
        if abs(turn[2]) >= floor and room[turn[0]] and len(kept) < most:
            kept.append(turn)
            room[turn[0]] -= 1
    return [PivotalTurn(dialogues[i].upto(t), change) for i, t, change in sorted(kept)]
