"""A branch with the echoes of all its candidates in."""

from __future__ import annotations

from collections.abc import Sequence

from rapo.interact.play import Sampler, branch
from rapo.interact.users import UserSimulator
from rapo.overlap import Overlap, Work, concurrency, together
from rapo.types import Group, PivotalTurn


def branched(
    sampler: Sampler, users: UserSimulator, pivots: Sequence[PivotalTurn], *, candidates: int, seed: int
) -> list[Group]:
    """The groups of ``branch``, waited for."""

    def work(overlap: Overlap) -> Work[list[Group]]:
        echoes = overlap.desk("branch", users.react, concurrency(users))
        groups: list[Group] = yield together(branch(sampler, echoes, pivots, candidates=candidates, seed=seed))
        return groups

    with Overlap() as overlap:
        return overlap.finish(work(overlap))
