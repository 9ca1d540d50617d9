"""What one update learns from: contexts with ranked replies and taught ones, as token ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

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


class Kind(IntEnum):
    """What a reply is learnt from: its rank (the macro term), its teacher (the micro term), or both."""

    RANKED = 0
    BOTH = 1
    TAUGHT = 2


@dataclass(frozen=True, slots=True)
class Reply:
    """The same tokens as a ranked reply and as a taught one; one of the two at least."""

    ranked: RankedReply | None = None
    taught: TaughtReply | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Its T tokens."""
        return self.ranked.ids if self.ranked else self.taught.ids if self.taught else ()

    @property
    def kind(self) -> Kind:
        """What it is learnt from."""
        return Kind.BOTH if self.ranked and self.taught else Kind.RANKED if self.ranked else Kind.TAUGHT


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """A context and what is learnt in it."""

    prompt: tuple[int, ...]
    ranked: tuple[RankedReply, ...] = ()
    taught: tuple[TaughtReply, ...] = ()

    def replies(self) -> list[Reply]:
        """Ranked replies, then the taught ones in their order; one that is both (the own-token variant) stands once."""
        ranked, taught = list(self.ranked), []
        for reply in self.taught:
            twin = next((each for each in ranked if each.ids == reply.ids), None)
            if twin:
                ranked.remove(twin)
            taught.append(Reply(twin, reply))
        return [*map(Reply, ranked), *taught]

    def only(self, kind: Kind) -> TrainingGroup:
        """The replies of one kind; those of both kinds in one order."""
        mine = [reply for reply in self.replies() if reply.kind == kind]
        ranked = tuple(reply.ranked for reply in mine if reply.ranked)
        return TrainingGroup(self.prompt, ranked, tuple(reply.taught for reply in mine if reply.taught))

    def row(self) -> PackedGroup:
        """As the policy reads it."""
        return PackedGroup(self.prompt, tuple(Segment(reply.ids) for reply in self.replies()))

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
    """The :class:`Kind` of the reply of each scored token, int64 [N] in the order group, segment, token."""
    return torch.tensor([reply.kind for group in groups for reply in group.replies() for _ in reply.ids])
