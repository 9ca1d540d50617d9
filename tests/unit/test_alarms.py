"""An alarm is told once, when the mean of five steps crosses its line."""

from __future__ import annotations

import math

from rapo.alarms import Alarms


def test_told_once_when_it_begins_and_again_after_it_recovered() -> None:
    alarms = Alarms()
    # Means of the last five, from the fifth step on: 0.2 (not above 0.2), 0.36, 0.36, then 0.16 and 0.36 again.
    shares = [0.2] * 5 + [1.0, 0.2, 0.2, 0.2, 0.2, 0.0, 1.0]
    told = [bool(alarms.check({"degenerate_share": share})) for share in shares]
    assert told == [False] * 5 + [True] + [False] * 5 + [True]


def test_what_was_not_measured_neither_raises_nor_clears() -> None:
    alarms = Alarms()
    for _ in range(4):
        assert alarms.check({"teacher_lift": 0.1, "lift_by_chance": 0.3}) == []
    assert alarms.check({"teacher_lift": math.nan, "lift_by_chance": 0.3}) == []
    # (4 * -0.2 + 0.3) / 5 = -0.1
    (told,) = alarms.check({"teacher_lift": 0.6, "lift_by_chance": 0.3})
    assert "no more than sampling again would (lift -10%)" in told
    assert alarms.check({}) == []


def test_talks_kept_out_for_their_risk_are_told_of_at_once_and_once():
    alarms = Alarms()
    assert alarms.check({"risk_skipped": 0.0}) == []
    (told,) = alarms.check({"risk_skipped": 3.0})
    assert told.startswith("3 talks or groups show signs of risk and are kept out of training (train.on_risk")
    assert alarms.check({"risk_skipped": 2.0}) == []
