"""Generative hindsight feedback: orders, mean ranks, agreement, missing verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest

from rapo.errors import ConfigError
from rapo.hindsight.feedback import JudgeRequest, Verdict, give_feedback
from rapo.ranks import kendall_w, mid_ranks
from rapo.seeds import derive_seed
from rapo.types import Candidate, Completion, Dialogue, Group, Message, PivotalTurn, Reaction, Scenario

REPLIES = ("d", "a", "c", "b", "a")
Say = Callable[[JudgeRequest], Verdict | None]


class Judge:
    """Answers with ``say`` and keeps what it was shown."""

    def __init__(self, *says: Say) -> None:
        self.says, self.seen = says, list[JudgeRequest]()

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        self.seen += requests
        return [self.says[i % len(self.says)](request) for i, request in enumerate(requests)]


def group(replies: Sequence[str] = REPLIES, name: str = "s") -> Group:
    dialogue = Dialogue(Scenario(name, "", (Message("user", "hi"),), 5.0, profile={"need": "SECRET"}))
    candidates = tuple(
        Candidate(Completion(text, (1,), (0.0,), True), Reaction(f"echo {text}", 1.0)) for text in replies
    )
    return Group(PivotalTurn(dialogue, 1.0), candidates)


def by_text(request: JudgeRequest) -> Verdict:
    """Ranks in alphabetical order, whatever the order shown."""
    return Verdict(tuple(float(ord(reply)) for reply in request.replies), tuple(f"on {r}" for r in request.replies))


def by_place(request: JudgeRequest) -> Verdict:
    """What is shown first is best."""
    return Verdict(tuple(map(float, range(len(request.replies)))), tuple(f"on {r}" for r in request.replies))


@pytest.mark.parametrize("permutations", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_order_of_showing_is_undone(permutations: int, seed: int) -> None:
    found = give_feedback([group()], Judge(by_text), permutations=permutations, seed=seed)[0]
    assert found.feedback is not None
    assert [each.rank for each in found.feedback] == [5, 1.5, 4, 3, 1.5]  # d, a, c, b, a
    assert [each.critique for each in found.feedback] == ["on d", "on a", "on c", "on b", "on a"]
    assert found.agreement == (None if permutations == 1 else 1.0)


def test_orders_differ_and_are_seeded() -> None:
    def shown(seed: int, *groups: Group) -> list[tuple[str, ...]]:
        judge = Judge(by_text)
        give_feedback(groups, judge, permutations=4, seed=seed)
        return [request.replies for request in judge.seen]

    orders = shown(0, group("abcde"))
    assert len(set(orders)) > 1 and all(sorted(order) == list("abcde") for order in orders)
    assert orders == shown(0, group("abcde")) != shown(1, group("abcde"))
    # Each group has its own orders, and a group more changes nothing for the others.
    assert shown(0, group("abcde", "other")) != orders
    assert shown(0, group("xyz", "other"), group("abcde"))[4:] == orders


def test_the_judge_sees_reply_and_echo_together_and_no_profile() -> None:
    judge = Judge(by_text)
    give_feedback([group()], judge, permutations=1, seed=0)
    (request,) = judge.seen
    assert [echo.text for echo in request.reactions] == [f"echo {reply}" for reply in request.replies]
    assert request.secrets == ("SECRET",)
    assert "SECRET" not in repr(replace(request, secrets=()))


def test_mean_rank_over_the_orders() -> None:
    # A judge that follows the place alone: a reply's rank is its mean place, re-ranked; the first order's critique.
    judge = Judge(by_place)
    found = give_feedback([group("abc")], judge, permutations=2, seed=0)[0]
    assert found.feedback is not None
    places = [[request.replies.index(reply) + 1 for reply in "abc"] for request in judge.seen]
    assert places[0] != places[1], "choose another seed"
    means = [(one + two) / 2 for one, two in zip(*places, strict=True)]
    assert [each.rank for each in found.feedback] == list(mid_ranks(means))
    assert found.agreement == kendall_w(places)


def test_mean_rank_and_agreement_by_hand() -> None:
    # First verdict a < b < c: ranks 1, 2, 3. Second: a and b tie, 1.5, 1.5, 3. Means 1.25, 1.75, 3 rank 1, 2, 3.
    # Rank sums 2.5, 3.5, 6 about 4: S = 6.5, one tie of two (T = 6): W = 12 * 6.5 / (4 * 24 - 2 * 6) = 78 / 84.
    def coarse(request: JudgeRequest) -> Verdict:
        ranks = {"a": 1.0, "b": 1.0, "c": 2.0}
        return Verdict(tuple(ranks[r] for r in request.replies), ("second",) * 3)

    found = give_feedback([group("cab")], Judge(by_text, coarse), permutations=2, seed=0)[0]
    assert found.feedback is not None
    assert [(each.rank, each.critique) for each in found.feedback] == [(3, "on c"), (1, "on a"), (2, "on b")]
    assert found.agreement == pytest.approx(78 / 84)


def verdict(ranks: Sequence[float], critiques: Sequence[str]) -> Say:
    return lambda request: Verdict(tuple(ranks), tuple(critiques))


@pytest.mark.parametrize(
    "bad",
    [
        verdict((1, 2), ("x", "y", "z")),
        verdict((1, 2, 3, 4), ("x", "y", "z")),
        verdict((1, 2, 3), ("x", "y")),
        verdict((), ()),
        verdict((1, math.nan, 3), ("x", "y", "z")),
        verdict((1, math.inf, 3), ("x", "y", "z")),
        verdict((1, 2, 3), ("x", "", "z")),
        verdict((1, 2, 3), ("x", " \n", "z")),
        lambda request: None,
    ],
)
def test_unusable_feedback_is_missing(bad: Say) -> None:
    groups = [group("abc", "one"), group("abc", "two")]
    one, two = give_feedback(groups, Judge(bad, by_text), permutations=1, seed=0)
    assert one.feedback is None and one.agreement is None and one.candidates == groups[0].candidates
    assert two.feedback is not None
    # One unusable order of two is enough.
    for judge in (Judge(by_text, bad), Judge(bad, by_text)):
        assert give_feedback([group("abc")], judge, permutations=2, seed=0)[0].feedback is None


@pytest.mark.parametrize(
    "bad",
    [
        verdict((1, 2, 3), ("x", None, "z")),  # type: ignore[arg-type]
        verdict((1, 2, "3"), ("x", "y", "z")),  # type: ignore[arg-type]
        lambda request: Verdict((1.0, 2.0, 3.0), None),  # type: ignore[arg-type]
        lambda request: Verdict(None, ("x", "y", "z")),  # type: ignore[arg-type]
    ],
)
def test_a_verdict_of_other_things_than_numbers_and_texts_is_one_line(bad: Say) -> None:
    with pytest.raises(ConfigError, match=r"does not give a verdict per request.*a Verdict of other things"):
        give_feedback([group("abc")], Judge(bad), permutations=1, seed=0)


def test_the_order_of_showing_has_a_seed_of_its_own() -> None:
    shown = []

    def note(request: JudgeRequest) -> Verdict:
        shown.append(request.replies)
        return by_text(request)

    give_feedback([group("abcdefgh")], Judge(note), permutations=1, seed=0)
    dialogue = group("abcdefgh").pivot.dialogue
    echoed = derive_seed(0, dialogue.scenario.id, len(dialogue.turns), 0)  # of the first candidate, as in branch()
    assert shown[0] != tuple(Random(echoed).sample("abcdefgh", 8))


@pytest.mark.parametrize("replies", ["", "a"])
def test_a_group_of_fewer_than_two_is_not_judged(replies: str) -> None:
    judge = Judge(by_text)
    small, whole = give_feedback([group(replies, "small"), group("ab", "whole")], judge, permutations=2, seed=0)
    assert small.feedback is None and whole.feedback is not None
    assert len(judge.seen) == 2


def test_a_judge_without_echoes_is_shown_none_and_keeps_secrets_all_the_same() -> None:
    judge = Judge(by_text)
    found = give_feedback([group()], judge, permutations=1, seed=0, sees_echoes=False)[0]
    assert judge.seen[0].reactions == () and len(judge.seen[0].replies) == len(REPLIES)
    assert found.feedback is not None and [each.rank for each in found.feedback] == [5, 1.5, 4, 3, 1.5]
    telling = Judge(lambda request: Verdict((1,) * len(request.replies), ("it is the SECRET",) * len(request.replies)))
    assert give_feedback([group()], telling, permutations=1, seed=0, sees_echoes=False)[0].feedback is None
