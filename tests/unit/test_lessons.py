from __future__ import annotations

import torch

from rapo.optimize.chunks import cut
from rapo.optimize.lessons import Kind, RankedReply, TaughtReply, TrainingGroup, count, kinds, parts, ranked_rows
from rapo.optimize.packing import Segment


def group(prompt: int, ranked: int, taught: int = 0) -> TrainingGroup:
    """A prompt, one ranked reply and one taught reply of so many tokens; none for 0."""
    return TrainingGroup(
        (5,) * prompt,
        (RankedReply((6,) * ranked, (-1.0,) * ranked, 1.0),) if ranked else (),
        (TaughtReply((7,) * taught, feedback=(8, 8)),) if taught else (),
    )


def test_parts_hold_no_more_tokens_than_asked_for_but_one_group_at_least() -> None:
    # 10, 5, 5, 30 and 2 tokens.
    groups = [group(6, 2, 2), group(3, 2), group(4, 1), group(20, 10), group(1, 1)]
    assert [[len(each.prompt) for each in part] for part in parts(groups, 10)] == [[6], [3, 4], [20], [1]]
    assert [len(part) for part in parts(groups, 15)] == [2, 1, 1, 1]
    assert [len(part) for part in parts(groups, 52)] == [5]
    assert list(parts([], 10)) == []


def test_rows_and_counts_by_hand() -> None:
    groups = [group(2, 3, 1), group(1, 0, 2), group(1, 2)]
    assert count(groups) == {"macro": 5, "micro": 3}
    assert groups[0].row().segments == (Segment((6, 6, 6)), Segment((7,)))
    assert groups[0].told().segments == (Segment((8, 8, 7), scored_from=2),)
    assert [row.length for row in ranked_rows(groups)] == [5, 3]
    assert kinds(groups).tolist() == [Kind.RANKED] * 3 + [Kind.TAUGHT] * 3 + [Kind.RANKED] * 2


def test_a_reply_that_is_ranked_and_taught_stands_once() -> None:
    ranked = [RankedReply(ids, (-1.0,) * len(ids), i) for i, ids in enumerate([(6, 6), (7,), (6, 6), (8, 9)])]
    taught = [TaughtReply(ids, feedback=(5,)) for ids in [(8, 9), (6, 6), (4,)]]
    mixed = TrainingGroup((3,), tuple(ranked), tuple(taught))
    # One of two equal ranked replies is the taught one; the other has an advantage of its own, and stands by itself.
    assert [segment.ids for segment in mixed.row().segments] == [(7,), (6, 6), (8, 9), (6, 6), (4,)]
    assert kinds([mixed]).tolist() == [Kind.RANKED] * 3 + [Kind.BOTH] * 4 + [Kind.TAUGHT]
    assert mixed.only(Kind.RANKED) == TrainingGroup((3,), (ranked[1], ranked[2]))
    assert mixed.only(Kind.BOTH) == TrainingGroup((3,), (ranked[3], ranked[0]), (taught[0], taught[1]))
    assert mixed.only(Kind.TAUGHT) == TrainingGroup((3,), (), (taught[2],))
    assert [reply.taught for reply in mixed.replies() if reply.taught] == taught
    assert mixed.row().length == 9
    assert count([mixed]) == {"macro": 7, "micro": 5}


def test_rows_are_cut_from_pieces_without_joining_them_first() -> None:
    pieces = [torch.arange(0, 3), torch.arange(3, 4), torch.arange(4, 9)]
    for start, stop in ((0, 3), (0, 4), (2, 5), (3, 4), (5, 12), (0, 9)):
        assert cut(pieces, slice(start, stop)).tolist() == list(range(9))[start:stop]
