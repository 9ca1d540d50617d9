"""An alarm is told once, when the mean of five steps crosses its line."""

from __future__ import annotations

import math

import pytest

from rapo.alarms import Alarms, BudgetAlarm


def test_told_once_when_it_begins_and_again_after_it_recovered() -> None:
    alarms = Alarms()
    # Means of the last five, from the fifth step on: 0.2 (not above 0.2), 0.36, 0.36, then 0.16 and 0.36 again.
    shares = [0.2] * 5 + [1.0, 0.2, 0.2, 0.2, 0.2, 0.0, 1.0]
    told = [bool(alarms.check({"degenerate_share": share})) for share in shares]
    assert told == [False] * 5 + [True] + [False] * 5 + [True]


def test_what_was_not_measured_neither_raises_nor_clears() -> None:
    alarms = Alarms()
    for _ in range(4):
        assert alarms.check({"teacher_lift": 0.7, "lift_by_chance": 0.9}) == []
    assert alarms.check({"teacher_lift": math.nan, "lift_by_chance": 0.9}) == []
    # (4 * -0.2 + 0.3) / 5 = -0.1
    (told,) = alarms.check({"teacher_lift": 0.9, "lift_by_chance": 0.6})
    assert "no more than sampling again would (lift -10%)" in told
    assert alarms.check({}) == []


def test_talks_kept_out_for_their_risk_are_told_of_at_once_and_once():
    alarms = Alarms()
    assert alarms.check({"risk_skipped": 0.0}) == []
    (told,) = alarms.check({"risk_skipped": 3.0})
    assert told.startswith("3 talks or groups show signs of risk and are kept out of training (train.on_risk")
    assert alarms.check({"risk_skipped": 2.0}) == []


def test_a_teacher_whose_corrections_help_no_more_than_every_other_time() -> None:
    alarms = Alarms()
    # Means of the last five: 0.52 at the fifth step, then 0.5.
    told = [alarms.check({"teacher_lift": lift}) for lift in (0.6, 0.5, 0.5, 0.5, 0.5, 0.5)]
    assert told[:5] == [[]] * 5
    assert told[5] == ["only 50% of the corrections help their user more (last 5 steps that measured it)"]
    assert alarms.standing == ["teacher lift"]


@pytest.mark.parametrize(("metric", "name"), [("entropy", "entropy collapse"), ("distinct_2", "variety collapse")])
def test_collapse_is_measured_against_the_first_five_steps(metric: str, name: str) -> None:
    alarms = Alarms()
    # The first five have a mean of 2. Shares of it: five of 0.4, whose mean is not below 0.4, then one of 0.35, with
    # which the mean of the last five is 0.39; then up again.
    values = [1.0, 3.0, 2.0, 2.0, 2.0, 0.8, 0.8, 0.8, 0.8, 0.8, 0.7, 2.0]
    standing, told = [], []
    for value in values:
        told.append(alarms.check({metric: value}))
        standing.append(alarms.standing)
    assert [step for step, some in enumerate(told, 1) if some] == [11]
    assert "has fallen to 39% of what it was in the first steps" in told[10][0]
    assert standing == [[]] * 10 + [[name], []]


def test_a_budget_that_will_not_last() -> None:
    # A resumed run: 10% was spent by step 10. At step 14 four steps are too few to tell; at step 15 another 20% are
    # spent, 4% a step, and the 70% that are left last 17.5 steps more, to step 32 of 40.
    budget = BudgetAlarm(40, 10, {"calls.max_calls": 0.1, "calls.max_cost": 0.0})
    assert budget.check(14, {"calls.max_calls": 0.26, "calls.max_cost": 0.0}) == []
    (told,) = budget.check(15, {"calls.max_calls": 0.3, "calls.max_cost": 0.1})
    assert told.startswith("30% of calls.max_calls is spent, which at this pace lasts to step 32 of 40")
    assert budget.check(16, {"calls.max_calls": 0.34, "calls.max_cost": 0.12}) == []
    assert budget.standing == ["budget"]
    # 10% in five steps: the other 90% last 45 more, beyond the end.
    assert BudgetAlarm(40, 0, {}).check(5, {"calls.max_calls": 0.1}) == []
