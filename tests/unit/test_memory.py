from __future__ import annotations

import torch

from rapo.models.memory import Memory, common


def layers(tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One layer, one head of two numbers in float32: 16 bytes a token."""
    return [(torch.zeros(1, tokens, 2), torch.zeros(1, tokens, 2))]


def test_when_it_is_full_no_other_talk_is_taken_in() -> None:
    memory = Memory(most=16 * 10)
    memory.keep("a", range(4), layers(4))
    memory.keep("b", range(4), layers(4))
    # In the place of what was kept of "a", 4 + 6 tokens are 160 bytes.
    memory.keep("a", range(9), layers(6))
    # What is not encoded is not kept.
    assert memory.find("a").ids == tuple(range(6))
    memory.keep("c", range(1), layers(1))
    assert [memory.find(talk) is not None for talk in "abc"] == [True, True, False]
    # One that has grown too long goes, and leaves its room to others.
    memory.keep("a", range(7), layers(7))
    memory.keep("c", range(1), layers(1))
    assert [memory.find(talk) is not None for talk in "abc"] == [False, True, True]


def test_memories_of_other_talks_are_read_as_one() -> None:
    one, other = Memory(), Memory()
    one.keep("a", range(4), layers(4))
    other.keep("b", range(3), layers(3))
    whole = Memory.of([one, other])
    assert [whole.find(talk) for talk in "abc"] == [one.find("a"), other.find("b"), None]


def test_what_two_sequences_have_in_common() -> None:
    assert [common((1, 2, 3), other) for other in ((1, 2, 4), (1, 2, 3, 4), (1,), (), (2, 2, 3))] == [2, 3, 1, 0, 0]
