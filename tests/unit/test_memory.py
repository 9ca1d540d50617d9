from __future__ import annotations

import torch

from rapo.models.memory import Memory, common


def layers(tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One layer, one head of two numbers in float32: 16 bytes a token."""
    return [(torch.zeros(1, tokens, 2), torch.zeros(1, tokens, 2))]


def test_the_oldest_talks_go_when_there_are_too_many_bytes() -> None:
    memory = Memory(most=16 * 10)
    memory.keep("a", range(4), layers(4))
    memory.keep("b", range(4), layers(4))
    # In the place of what was kept of "a", 4 + 6 tokens are 160 bytes.
    memory.keep("a", range(9), layers(6))
    assert [memory.find(talk) is not None for talk in "ab"] == [True, True]
    # What is not encoded is not kept.
    assert memory.find("a").ids == tuple(range(6))
    memory.keep("c", range(1), layers(1))
    assert [memory.find(talk) is not None for talk in "abc"] == [True, False, True]
    memory.keep("d", range(11), layers(11))
    assert [memory.find(talk) for talk in "abcd"] == [None] * 4


def test_what_two_sequences_have_in_common() -> None:
    assert [common((1, 2, 3), other) for other in ((1, 2, 4), (1, 2, 3, 4), (1,), (), (2, 2, 3))] == [2, 3, 1, 0, 0]
