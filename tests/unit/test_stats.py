"""Bootstrap intervals on values whose resamples can be listed by hand."""

from __future__ import annotations

import math

import pytest

from rapo.errors import DataError
from rapo.evals.stats import (
    Comparison,
    Interval,
    bootstrap_mean,
    nested_bootstrap,
    nested_paired_bootstrap,
    nested_ratio,
    paired_bootstrap,
)


def test_an_interval_is_written_by_one_format():
    assert f"{Interval(1.204, 0.8, 1.6):+.2f}" == "+1.20 [+0.80, +1.60]"
    assert f"{Interval(0.5, 0.25, 0.75):.0%}" == "50% [25%, 75%]"


def test_equal_values_leave_no_doubt():
    assert bootstrap_mean([3.0, 3.0, 3.0], seed=0) == Interval(3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("level", "low", "high"),
    [
        # Resamples of {0, 1} have the means 0, 1/2, 1 with the chances 1/4, 1/2, 1/4.
        (0.95, 0.0, 1.0),  # quantiles 0.025 and 0.975 lie in the outer quarters
        (0.40, 0.5, 0.5),  # quantiles 0.30 and 0.70 lie in the middle half
    ],
)
def test_two_values(level, low, high):
    assert bootstrap_mean([0, 1], seed=1, level=level) == Interval(0.5, low, high)


def test_the_width_is_that_of_the_normal_approximation():
    values = [0.0, 1.0] * 200
    # standard error = 0.5 / sqrt(400) = 0.025, times 1.96 = 0.049; +-0.006 for 2000 resamples
    interval = bootstrap_mean(values, seed=2)
    assert interval.mean == 0.5
    assert interval.low == pytest.approx(0.5 - 0.049, abs=0.006)
    assert interval.high == pytest.approx(0.5 + 0.049, abs=0.006)


def test_the_seed_decides():
    values = [0.3, 1.7, 2.2, 9.1, 4.0]
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_pairs():
    # differences 2, 0, 2, -1: mean 3/4, two wins, a tie, a loss
    result = paired_bootstrap([5, 3, 4, 1], [3, 3, 2, 2], seed=0)
    assert (result.wins, result.ties, result.losses, result.difference.mean) == (2, 1, 1, 0.75)
    assert -1 <= result.difference.low < 0.75 < result.difference.high <= 2


def test_pairing_removes_what_both_share():
    a, b = [10.0, 20.0, 30.0], [9.0, 19.0, 29.0]
    assert paired_bootstrap(a, b, seed=0) == Comparison(Interval(1.0, 1.0, 1.0), 3, 0, 0)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_nothing_to_average_is_an_error(values):
    with pytest.raises(DataError, match="expected at least one value, all finite"):
        bootstrap_mean(values, seed=0)


def test_uneven_pairs_are_an_error():
    with pytest.raises(DataError, match="got 1 and 2 values"):
        paired_bootstrap([1], [1, 2], seed=0)


@pytest.mark.parametrize(
    ("groups", "level", "low", "high"),
    [
        # Groups draw as {0, 1} does above: means 0, 1/2, 1 with the chances 1/4, 1/2, 1/4.
        ([[0, 0, 0], [1, 1]], 0.95, 0.0, 1.0),
        ([[0, 0, 0], [1, 1]], 0.40, 0.5, 0.5),
        # One group: its values are drawn alone.
        ([[0, 1]], 0.40, 0.5, 0.5),
        # {0, 2} and {1, 1}. Drawn twice the first (1/4): two draws of 0, 1 or 2, whose mean is 0 with 1/16 and 2 with
        # 1/16. One of each (1/2): 1/2, 1, 3/2 with 1/4, 1/2, 1/4. So P(0) = 1/64, P(at most 1/2) = 1/64 + 1/16 + 1/8.
        ([[0, 2], [1, 1]], 0.98, 0.0, 2.0),
        ([[0, 2], [1, 1]], 0.80, 0.5, 1.5),
        ([[0, 2], [1, 1]], 0.50, 1.0, 1.0),
    ],
)
def test_groups_are_drawn_and_then_their_values(groups, level, low, high):
    found = nested_bootstrap(groups, seed=3, samples=4000, level=level)
    assert (found.low, found.high) == (low, high)


def test_every_group_counts_alike_whatever_its_size():
    assert nested_bootstrap([[0.0] * 9, [1.0]], seed=0).mean == 0.5


def test_groups_are_compared_in_pairs():
    # differences [1, 3], [0, 0], [-3, 1]: means 2, 0, -1, whose mean is 1/3
    found = nested_paired_bootstrap([[2, 5], [7, 8], [0, 3]], [[1, 2], [7, 8], [3, 2]], seed=0)
    assert (found.wins, found.ties, found.losses) == (1, 1, 1)
    assert found.difference.mean == pytest.approx(1 / 3)
    assert found.difference.low < 0 < found.difference.high


def test_a_ratio_draws_the_same_groups_above_and_below():
    # 2/4, 4/8, 1/2 in every group: whichever are drawn, half. Groups of one value leave nothing else to draw.
    assert nested_ratio([[2], [4], [1]], [[4], [8], [2]], seed=0) == Interval(0.5, 0.5, 0.5)
    # The ratio of the means (0 + 3) / (1 + 2) = 1 and not the mean of the ratios 3/4.
    assert nested_ratio([[0, 0], [3]], [[1], [2, 2]], seed=0).mean == 1.0


@pytest.mark.parametrize("groups", [[], [[1.0], []], [[1.0, math.nan]]])
def test_groups_without_values_are_an_error(groups):
    with pytest.raises(DataError, match="expected groups of at least one value"):
        nested_bootstrap(groups, seed=0)


def test_groups_that_do_not_fit_are_an_error():
    with pytest.raises(DataError, match=r"got \[1, 2\] and \[1, 1\] values"):
        nested_paired_bootstrap([[1], [1, 2]], [[1], [1]], seed=0)
    with pytest.raises(DataError, match="got 1 and 2 groups"):
        nested_ratio([[1]], [[1], [1]], seed=0)
