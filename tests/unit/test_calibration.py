"""The figures of a calibration by hand; what a simulator that knows the person, the reply or nothing looks like."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("sklearn", reason="calibration needs the extra rapo-rl[replay]")

from rapo.errors import DataError
from rapo.evals.calibration import calibrate
from rapo.evals.stats import Interval

# Dialogue a: ratings 5 and 1, predicted 4 and 3.5. Dialogue b: 2 and 4, predicted 2 and 3.5. Dialogue c: 3, 2.5.
RATINGS, OWNERS, PREDICTED = [5.0, 1.0, 2.0, 4.0, 3.0], ["a", "a", "b", "b", "c"], [4.0, 3.5, 2.0, 3.5, 2.5]


def points(ratings, owners, predicted) -> dict[str, float | None]:
    figures = calibrate(ratings, owners, {"it": predicted}, seed=0, samples=100).figures["it"]
    return {name: interval and interval.mean for name, interval in figures.items()}


def mean(interval: Interval | None) -> float:
    assert interval is not None
    return interval.mean


def test_figures_by_hand(monkeypatch):
    # Intervals of three dialogues are mostly undefined; here it is about the points.
    monkeypatch.setattr("rapo.evals.calibration._MAY_LACK", 1.0)
    found = points(RATINGS, OWNERS, PREDICTED)
    # Ranks less their mean: 2 -2 -1 1 0 and 2 0.5 -2 0.5 -1; product 4 - 1 + 2 + 0.5 = 5.5, squares 10 and 9.5.
    assert found["spearman"] == pytest.approx(5.5 / 95**0.5)
    # Of ten pairs seven are ordered alike, two not (1 with 2, 1 with 3), and one ties in the prediction (1 with 4).
    assert found["kendall"] == pytest.approx((7 - 2) / (10 * 9) ** 0.5)
    # High are 5 and 4 (predicted 4 and 3.5), low are 1 and 2 (3.5 and 2): three wins and a tie.
    assert found["auc"] == pytest.approx(3.5 / 4)
    # Own deviations: ratings 2 -2 -1 1, predictions 0.25 -0.25 -0.75 0.75; c stands alone. Ranks 4 1 2 3 and 3 2 1 4:
    # 1 - 6 * 4 / (4 * 15).
    assert found["within"] == pytest.approx(0.6)
    # Above their mean: 0.25 and 0.75; below: -0.25 and -0.75.
    assert found["within_auc"] == 1.0
    # Differences -1 +2.5 0 -0.5 -0.5.
    assert (found["bias"], found["error"]) == (pytest.approx(0.1), pytest.approx(0.9))
    assert [found[f"at_{level}"] for level in range(1, 6)] == [3.5, 2.0, 2.5, 3.5, 4.0]


def test_the_share_between_dialogues_by_hand():
    # Means 1.5 and 4.5, all 3: MSB = 2 * 1.5^2 * 2 / 1 = 9; MSW = 4 * 0.5^2 / 2 = 0.5; n0 = 2: (9 - 0.5) / (9 + 0.5).
    found = calibrate([1.0, 2.0, 4.0, 5.0], ["a", "a", "b", "b"], {"it": [1.0, 2.0, 3.0, 4.0]}, seed=0, samples=1)
    assert mean(found.between) == pytest.approx(8.5 / 9.5)
    assert (found.dialogues, found.turns, found.rated) == (2, 4, (1, 1, 0, 1, 1))


def planted(seed: int = 0) -> tuple[list[float], list[str], dict[str, list[float]]]:
    """60 dialogues of 6 turns, and what three simulators predict: one knows the person, one the reply, one nothing."""
    dice = random.Random(seed)
    ratings, owners, knows = [], [], {"person": [], "reply": [], "nothing": []}
    for number in range(60):
        person = dice.gauss(0, 1)
        for _ in range(6):
            reply = dice.gauss(0, 1)
            ratings.append(min(5.0, max(1.0, float(round(3 + person + reply)))))
            owners.append(f"d{number}")
            for name, known in (("person", person), ("reply", reply), ("nothing", 0.0)):
                knows[name].append(3 + known + dice.gauss(0, 0.5))
    return ratings, owners, knows


def test_who_knows_the_person_is_told_from_who_knows_the_reply_and_from_noise():
    ratings, owners, knows = planted()
    found = calibrate(ratings, owners, knows, seed=0, samples=100)
    person, reply, nothing = found.figures.values()
    assert person["spearman"].low > 0.4 and reply["spearman"].low > 0.4
    assert reply["within"].low > 0.7 and reply["within_auc"].low > 0.8
    assert person["within"].low < 0 < person["within"].high
    for figure, chance in (("spearman", 0), ("kendall", 0), ("auc", 0.5), ("within", 0), ("within_auc", 0.5)):
        assert nothing[figure].low < chance < nothing[figure].high
    # The first one less the others, by the same resamples.
    assert found.ahead.keys() == {"reply", "nothing"}
    assert found.ahead["nothing"]["spearman"].low > 0 > found.ahead["reply"]["within"].high
    assert mean(found.ahead["reply"]["auc"]) == pytest.approx(mean(person["auc"]) - mean(reply["auc"]))


def test_turns_of_one_dialogue_are_no_independent_evidence():
    ratings, owners, knows = planted()
    once = calibrate(ratings, owners, knows, seed=3, samples=50)
    tripled = calibrate(ratings * 3, owners * 3, {name: each * 3 for name, each in knows.items()}, seed=3, samples=50)
    for figure in ("spearman", "within", "bias", "error"):
        a, b = once.figures["reply"][figure], tripled.figures["reply"][figure]
        assert (a.low, a.high) == (pytest.approx(b.low), pytest.approx(b.high))


def test_what_is_undefined_is_none():
    constant = points([1.0, 5.0, 4.0, 2.0], ["a", "a", "b", "b"], [3.0, 3.0, 3.0, 3.0])
    assert [constant[name] for name in ("spearman", "kendall", "within", "at_3")] == [None] * 4
    assert constant["auc"] == 0.5 and constant["bias"] == 0.0
    # A rating that one dialogue of three gave is lacking in three resamples of ten.
    assert points([1.0, 4.0, 5.0], ["a", "b", "c"], [1.0, 2.0, 3.0])["at_1"] is None


@pytest.mark.parametrize(
    ("ratings", "owners", "predicted"),
    [
        ([1.0, 2.0], ["a", "b"], [1.0]),
        ([1.0, 2.0], ["a", "a"], [1.0, 2.0]),
        ([1.0, float("nan")], ["a", "b"], [1.0, 2.0]),
        ([1.0, 2.0], ["a", "b"], [1.0, float("inf")]),
        ([], [], []),
    ],
)
def test_what_cannot_be_calibrated_is_refused(ratings, owners, predicted):
    with pytest.raises(DataError, match="cannot be calibrated"):
        calibrate(ratings, owners, {"it": predicted}, seed=0)
