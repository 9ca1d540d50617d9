"""What was encoded of a talk, so that its next turn goes on from there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

Layers = list[tuple[Tensor, Tensor]]  # keys and values [K, L, D] of every layer


@dataclass(frozen=True, slots=True)
class Kept:
    """The tokens of a talk that are encoded, and their keys and values."""

    ids: tuple[int, ...]
    layers: Layers

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(each.numel() * each.element_size() for pair in self.layers for each in pair)


class Memory:
    """Encodings by the name of a talk, the newest of each; when it is full, no other talk is taken in.

    Talks come round in turn, so that letting the oldest go would let each go just before it is wanted.

    It holds for one set of weights: make a new one after every update. A wrong name costs time and nothing else, since
    only what the tokens have in common is used.

    Args:
        most: bytes.
    """

    def __init__(self, most: int = 1 << 30) -> None:
        self._most, self._bytes = most, 0
        self._talks: dict[str, Kept] = {}

    @classmethod
    def of(cls, memories: Iterable[Memory]) -> Memory:
        """Everything that some memories hold, each of talks of its own; as full as they are."""
        whole = cls(0)
        for memory in memories:
            whole._talks |= memory._talks
        return whole

    def find(self, talk: str) -> Kept | None:
        """What is kept of a talk."""
        return self._talks.get(talk)

    def keep(self, talk: str, ids: Sequence[int], layers: Layers) -> None:
        """Keep this instead of what was kept of the talk; ``layers`` may be shorter than ``ids``."""
        before = self._talks.pop(talk, None)
        self._bytes -= before.size if before else 0
        kept = Kept(tuple(ids[: layers[0][0].shape[1]]), layers)
        if self._bytes + kept.size <= self._most:
            self._talks[talk] = kept
            self._bytes += kept.size


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common from the beginning."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
