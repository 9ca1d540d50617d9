"""What one update learns from: contexts with ranked replies and taught ones, as token ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rapo.models.sampler import TeacherDistribution
from rapo.optimize.packing import PackedGroup, Segment


@dataclass(frozen=True, slots=True)
class RankedReply:
    """A sampled reply of T tokens for the macro term; an advantage of 0 teaches nothing."""

    ids: tuple[int, ...]
    old_logps: tuple[float, ...]
    advantage: float


@dataclass(frozen=True, slots=True)
class TaughtReply:
    """A reply of T tokens for the micro term, and what the feedback-aware teacher says at each of its tokens.

    Attributes:
        ids: the correction, or the candidate itself (the own-token variant).
        teacher: the teacher's next-token distributions where they were recorded while it decoded ``ids``.
        feedback: else what only the teacher reads between the context and ``ids``: failed reply and critique.
    """

    ids: tuple[int, ...]
    teacher: TeacherDistribution | None = None
    feedback: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """A context and what is learnt in it."""

    prompt: tuple[int, ...]
    ranked: tuple[RankedReply, ...] = ()
    taught: tuple[TaughtReply, ...] = ()

    def row(self) -> PackedGroup:
        """As the policy reads it: the ranked replies, then the taught ones."""
        replies = [reply.ids for reply in self.ranked] + [reply.ids for reply in self.taught]
        return PackedGroup(self.prompt, tuple(map(Segment, replies)))

    def told(self) -> PackedGroup:
        """The taught replies as the teacher reads them, behind the failed reply and its critique."""
        told = (Segment((*reply.feedback, *reply.ids), len(reply.feedback)) for reply in self.taught)
        return PackedGroup(self.prompt, tuple(told))


def count(groups: Iterable[TrainingGroup]) -> Counter[str]:
    """Tokens of either term, ``macro`` and ``micro``."""
    tokens = Counter(macro=0, micro=0)
    for group in groups:
        tokens["macro"] += sum(len(reply.ids) for reply in group.ranked)
        tokens["micro"] += sum(len(reply.ids) for reply in group.taught)
    return tokens


def parts(groups: Sequence[TrainingGroup], most: int) -> Iterator[list[TrainingGroup]]:
    """The groups in order, in parts of at most ``most`` tokens, one group at least."""
    part: list[TrainingGroup] = []
    tokens = 0
    for group in groups:
        length = group.row().length
        if part and tokens + length > most:
            yield part
            part, tokens = [], 0
        part.append(group)
        tokens += length
    if part:
        yield part


def ranked_rows(groups: Sequence[TrainingGroup]) -> list[PackedGroup]:
    """The groups with ranked replies, and these alone, as the policy reads them."""
    return [replace(group, taught=()).row() for group in groups if group.ranked]


def kinds(groups: Sequence[TrainingGroup]) -> Tensor:
    """Whether each scored token, bool [N] in the order group, segment, token, belongs to a ranked reply."""
    found: list[bool] = []
    for group in groups:
        found += [True] * sum(len(reply.ids) for reply in group.ranked)
        found += [False] * sum(len(reply.ids) for reply in group.taught)
    return torch.tensor(found)
