"""Hindsight dialogue selection, by hand."""

from __future__ import annotations

import math

import pytest

from rapo.hindsight.selection import select_pivotal, select_random
from rapo.types import Dialogue, Message, Reaction, Scale, Scenario, Turn


def dialogue(name: str, start: float, *states: float, scale: Scale = Scale()) -> Dialogue:  # noqa: B008
    scenario = Scenario(name, "", (Message("user", "hi"),), start, scale)
    return Dialogue(scenario, tuple(Turn(f"{name}{i}", Reaction("ok", state)) for i, state in enumerate(states)))


A = dialogue("a", 5, 7, 4, 4.5)  # changes +2, -3, +0.5
B = dialogue("b", 5, 6, 2)  # changes +1, -4


@pytest.mark.parametrize(
    ("share", "per_dialogue", "floor", "kept"),
    [
        # By size: b1 (4), a1 (3), a0 (2), b0 (1), a2 (0.5); returned in the order of play.
        (1.0, 9, 0.0, [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]),
        (0.4, 9, 0.0, [("a", 1), ("b", 1)]),  # 0.4 * 5 = 2
        (0.6, 9, 0.0, [("a", 0), ("a", 1), ("b", 1)]),  # 3
        (0.6, 1, 0.0, [("a", 1), ("b", 1)]),  # a0 would be a's second
        (0.01, 9, 0.0, [("b", 1)]),  # one at least
        (1.0, 9, 1.0, [("a", 0), ("a", 1), ("b", 0), ("b", 1)]),  # the floor itself counts
        (1.0, 9, 4.1, []),
    ],
)
def test_share_room_and_floor(share: float, per_dialogue: int, floor: float, kept: list[tuple[str, int]]) -> None:
    pivots = select_pivotal([A, B], share=share, per_dialogue=per_dialogue, floor=floor)
    assert [(p.dialogue.scenario.id, len(p.dialogue.turns)) for p in pivots] == kept


def test_a_pivot_stands_before_its_reply() -> None:
    pivot = select_pivotal([A], share=0.3, per_dialogue=1, floor=0)[0]
    assert pivot.change == -3
    assert pivot.dialogue == A.upto(1)
    assert [message.content for message in pivot.dialogue.messages] == ["hi", "a0", "ok"]


def test_changes_count_as_shares_of_the_scale() -> None:
    # 30 of 100 is less than 4 of 10.
    wide = dialogue("wide", 50, 80, scale=Scale(0, 100))
    assert [p.change for p in select_pivotal([wide, B.upto(2)], share=0.34, per_dialogue=1, floor=0)] == [-4]


def test_equal_changes_keep_the_order_of_play() -> None:
    one, two = dialogue("one", 5, 6), dialogue("two", 5, 4)
    assert [p.dialogue.scenario.id for p in select_pivotal([one, two], share=0.5, per_dialogue=1, floor=0)] == ["one"]


def test_a_state_that_is_no_number_takes_no_place() -> None:
    # Known changes: +1 and +3 of "late", none of "odd" (neither into nor out of NaN): half of 2 is 1, the larger.
    odd, late = dialogue("odd", 5, math.nan, 9), dialogue("late", 1, 2, 5)
    assert [p.change for p in select_pivotal([odd, late], share=0.5, per_dialogue=2, floor=0)] == [3]


def test_nothing_played() -> None:
    assert select_pivotal([], share=0.5, per_dialogue=1, floor=0) == []
    assert select_pivotal([A.upto(0)], share=0.5, per_dialogue=1, floor=0) == []


def test_random_turns_are_as_many_and_every_turn_has_its_turn() -> None:
    def drawn(seed: int, per_dialogue: int = 9) -> list[tuple[str, int]]:
        found = select_random([A, B], share=0.4, per_dialogue=per_dialogue, seed=seed)
        return [(pivot.dialogue.scenario.id, len(pivot.dialogue.turns)) for pivot in found]

    assert all(len(drawn(seed)) == 2 and drawn(seed) == sorted(drawn(seed)) for seed in range(20))  # 0.4 * 5
    assert drawn(1) == drawn(1)
    assert {turn for seed in range(20) for turn in drawn(seed)} == {("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)}
    assert all({name for name, _ in drawn(seed, per_dialogue=1)} == {"a", "b"} for seed in range(20))
    assert select_random([], share=0.4, per_dialogue=1, seed=0) == []
