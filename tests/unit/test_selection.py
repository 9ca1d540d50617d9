"""Hindsight dialogue selection, by hand."""

from __future__ import annotations

import math

import pytest

from rapo.hindsight.selection import ORDERS, select_pivotal
from rapo.types import Dialogue, Message, Reaction, Scale, Scenario, Turn

Kept = list[tuple[str, int]]  # scenarios, and the turns of them


def dialogue(name: str, start: float, *states: float, scale: Scale = Scale()) -> Dialogue:  # noqa: B008
    scenario = Scenario(name, "", (Message("user", "hi"),), start, scale)
    return Dialogue(scenario, tuple(Turn(f"{name}{i}", Reaction("ok", state)) for i, state in enumerate(states)))


def select(
    *dialogues: Dialogue, by: str, share: float = 1.0, per_dialogue: int = 9, floor: float = 0.0, seed: int = 0
) -> Kept:
    limits = {"share": share, "floor": floor}
    pivots = select_pivotal(dialogues, ORDERS[by], per_dialogue=per_dialogue, seed=seed, **limits)
    return [(pivot.dialogue.scenario.id, len(pivot.dialogue.turns)) for pivot in pivots]


A = dialogue("a", 5, 7, 4, 4.5)  # changes +2, -3, +0.5
B = dialogue("b", 5, 6, 2)  # changes +1, -4
EVERY: Kept = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("share", "per_dialogue", "floor", "kept"),
    [
        # By size: b1 (4), a1 (3), a0 (2), b0 (1), a2 (0.5); returned in the order of play.
        (1.0, 9, 0.0, EVERY),
        (0.4, 9, 0.0, [("a", 1), ("b", 1)]),  # 0.4 * 5 = 2
        (0.6, 9, 0.0, [("a", 0), ("a", 1), ("b", 1)]),  # 3
        (0.6, 1, 0.0, [("a", 1), ("b", 1)]),  # a0 would be a's second
        (0.01, 9, 0.0, [("b", 1)]),  # one at least
        (1.0, 9, 1.0, [("a", 0), ("a", 1), ("b", 0), ("b", 1)]),  # the floor itself counts
        (1.0, 9, 4.1, []),
    ],
)
def test_share_room_and_floor(share: float, per_dialogue: int, floor: float, kept: Kept) -> None:
    assert select(A, B, by="change", share=share, per_dialogue=per_dialogue, floor=floor) == kept


@pytest.mark.parametrize(
    ("share", "floor", "kept"),
    [
        # From the worst: b1 (-4), a1 (-3), a2 (+0.5), b0 (+1), a0 (+2).
        (0.4, 0.0, [("a", 1), ("b", 1)]),
        (0.6, 0.0, [("a", 1), ("a", 2), ("b", 1)]),
        (0.6, 0.6, [("a", 1), ("b", 0), ("b", 1)]),  # a2 moved too little
    ],
)
def test_setbacks_come_before_rises(share: float, floor: float, kept: Kept) -> None:
    assert select(A, B, by="setback", share=share, floor=floor) == kept


def test_a_pivot_stands_before_its_reply() -> None:
    (pivot,) = select_pivotal([A], ORDERS["setback"], share=0.3, per_dialogue=1, floor=0, seed=0)
    assert pivot.change == -3
    assert pivot.dialogue == A.upto(1)
    assert [message.content for message in pivot.dialogue.messages] == ["hi", "a0", "ok"]


def test_changes_count_as_shares_of_the_scale() -> None:
    # 30 of 100 is less than 4 of 10, up or down.
    up, down = (dialogue("wide", 50, 50 + change, scale=Scale(0, 100)) for change in (30, -30))
    assert select(up, B.upto(2), by="change", share=0.34) == [("b", 1)]
    assert select(down, B.upto(2), by="setback", share=0.34) == [("b", 1)]


@pytest.mark.parametrize("by", ["setback", "change"])
def test_equal_changes_are_drawn(by: str) -> None:
    same = [dialogue(name, 5, 4) for name in "xyz"]
    found = [select(*same, by=by, share=0.34, seed=seed) for seed in range(20)]
    assert {place for each in found for place in each} == {("x", 0), ("y", 0), ("z", 0)}
    assert found == [select(*same, by=by, share=0.34, seed=seed) for seed in range(20)]


def test_a_state_that_is_no_number_takes_no_place() -> None:
    # Known changes: +1 and +3 of "late", none of "odd" (neither into nor out of NaN): half of 2 is 1, the larger.
    odd, late = dialogue("odd", 5, math.nan, 9), dialogue("late", 1, 2, 5)
    assert select(odd, late, by="change", share=0.5) == [("late", 1)]


@pytest.mark.parametrize("by", ORDERS)
def test_nothing_played(by: str) -> None:
    assert select(by=by, share=0.5) == select(A.upto(0), by=by, share=0.5) == []


def test_random_turns_are_as_many_and_every_turn_has_its_turn() -> None:
    found = [select(A, B, by="random", share=0.4, seed=seed) for seed in range(20)]
    assert all(len(each) == 2 and each == sorted(each) for each in found)  # 0.4 * 5
    assert {turn for each in found for turn in each} == {*EVERY}
    alone = [select(A, B, by="random", share=0.4, per_dialogue=1, seed=seed) for seed in range(20)]
    assert all({name for name, _ in each} == {"a", "b"} for each in alone)
