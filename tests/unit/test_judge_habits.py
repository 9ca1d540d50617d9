"""Habits of a judge that have nothing to do with the replies: liking long ones, liking what it reads first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest

from rapo.alarms import Alarms
from rapo.hindsight.feedback import JudgeRequest, Verdict, give_feedback
from rapo.optimize.advantage import group_advantage, rank_rewards
from rapo.step_metrics import length_correlation, slot_bias, step_metrics
from rapo.types import Candidate, Completion, Dialogue, Feedback, Group, Message, PivotalTurn, Reaction, Scenario

Score = Callable[[JudgeRequest, Random], list[float]]


class Judge:
    """Ranks by a score, the highest first."""

    def __init__(self, score: Score) -> None:
        self.score = score

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        return [
            Verdict(tuple(-s for s in self.score(each, Random(each.seed))), ("c",) * len(each.replies))
            for each in requests
        ]


def fair(request: JudgeRequest, random: Random) -> list[float]:
    return [reaction.state for reaction in request.reactions]


def long(request: JudgeRequest, random: Random) -> list[float]:
    """Length and taste, half and half."""
    return [len(reply) / 10 + random.gauss(0, 1) for reply in request.replies]


def first(request: JudgeRequest, random: Random) -> list[float]:
    return [2.0, *(reaction.state for reaction in request.reactions[1:])]


def groups(count: int, size: int, seed: int) -> list[Group]:
    """Replies of 30 +- 10 tokens, states that depend on nothing."""
    random, made = Random(seed), []
    for n in range(count):
        dialogue = Dialogue(Scenario(f"s{seed}.{n}", "", (Message("user", "hi"),), 5.0))
        lengths = [max(1, round(random.gauss(30, 10))) for _ in range(size)]
        candidates = tuple(
            Candidate(Completion("x" * n, tuple(range(n)), (0.0,) * n, True), Reaction("ok", random.random()))
            for n in lengths
        )
        made.append(Group(PivotalTurn(dialogue, 1.0), candidates))
    return made


def told(score: Score, seed: int) -> str:
    """What five steps of 16 groups of 8 raise."""
    alarms, found = Alarms(), list[str]()
    for step in range(5):
        judged = give_feedback(groups(16, 8, seed * 5 + step), Judge(score), permutations=1, seed=step)
        found += alarms.check(step_metrics([], judged))
    return " ".join(found)


def test_alarms_of_twenty_runs() -> None:
    assert sum("follow the length" in told(long, seed) for seed in range(20)) == 20
    assert sum("the place at which" in told(first, seed) for seed in range(20)) == 20
    assert sum(bool(told(fair, seed)) for seed in range(20)) == 0


def by_hand(lengths: Sequence[int], ranks: Sequence[float], orders: Sequence[tuple[int, ...]] = ()) -> Group:
    (group,) = groups(1, len(lengths), 0)
    candidates = tuple(
        replace(each, completion=Completion("x", tuple(range(n)), (0.0,) * n, True))
        for each, n in zip(group.candidates, lengths, strict=True)
    )
    return replace(
        group, candidates=candidates, feedback=tuple(Feedback(rank, "c") for rank in ranks), orders=tuple(orders)
    )


def test_length_correlation_by_hand() -> None:
    # Ranks of the lengths 1, 2, 3 about their mean: -1, 0, 1. Rewards 1, 0.5, 0 about theirs: 0.5, 0, -0.5.
    shortest_first = by_hand((5, 6, 70), (1, 2, 3))
    assert length_correlation([shortest_first] * 32) == pytest.approx(-1)
    # (-1, 0, 1) with (0, 0.5, -0.5): products -0.5. A third such group with the products of -1 each of 32:
    # -(32 * 1 + 16 * 0.5) / sqrt(48 * 2 * 48 * 0.5) = -40 / 48.
    mixed = by_hand((5, 6, 70), (2, 1, 3))
    assert length_correlation([shortest_first] * 32 + [mixed] * 16) == pytest.approx(-40 / 48)
    # Ties in either say nothing; too few say nothing.
    ties = [by_hand((5, 5, 5), (1, 2, 3)), by_hand((5, 6, 7), (2, 2, 2))]
    assert length_correlation([shortest_first] * 32 + ties) == pytest.approx(-1)
    assert math.isnan(length_correlation([shortest_first] * 31)) and math.isnan(length_correlation(ties * 99))


def test_slot_bias_by_hand() -> None:
    # The first of two always wins: advantages 1 and -1 by place, all spread lies between the places.
    one, two = by_hand((1, 1), (1, 2), [(0, 1)]), by_hand((1, 1), (2, 1), [(1, 0)])
    assert slot_bias([one, two] * 35) == pytest.approx(1)
    # The first wins 60 of 80: means 0.5 and -0.5, between = 2 * 80 * 0.25 = 40 of 160, within = 120 / 79 free ones:
    # (40 - 120 / 79) / 160.
    other = by_hand((1, 1), (1, 2), [(1, 0)])
    assert slot_bias([one] * 60 + [other] * 20) == pytest.approx((40 - 120 / 79) / 160, rel=1e-3)
    assert slot_bias([one, other] * 40) == pytest.approx(-1 / 79, rel=1e-3)
    assert math.isnan(slot_bias([one] * 64)) and math.isnan(slot_bias([]))
    assert math.isnan(slot_bias([by_hand((1, 1), (1.5, 1.5), [(0, 1)])] * 99))


@pytest.mark.parametrize("permutations", [1, 2])
def test_two_thousand_groups_of_a_judge_that_likes_the_first(permutations: int) -> None:
    found = give_feedback(groups(2000, 4, 1), Judge(first), permutations=permutations, seed=0)
    advantages = [group_advantage(rank_rewards([each.rank for each in group.feedback or ()])) for group in found]
    # Shuffled orders: no candidate gains from where it stands among the candidates ...
    means = [math.fsum(column) / len(found) for column in zip(*advantages, strict=True)]
    assert max(map(abs, means)) < 0.05
    # ... though the first that is read gains much, which the metric shows, and two orders do not agree.
    assert slot_bias(found) > (0.15 if permutations == 1 else 0.05)
    agreement = step_metrics([], found)["judge_agreement"]
    assert math.isnan(agreement) if permutations == 1 else 0.5 < agreement < 0.9


def test_a_sparse_metric_is_alarming_after_five_steps_that_measured_it() -> None:
    alarms = Alarms()
    steps = [{"slot_bias": 0.3} if step % 3 == 0 else {"slot_bias": math.nan} for step in range(15)]
    assert [bool(alarms.check(step)) for step in steps] == [False] * 12 + [True, False, False]
