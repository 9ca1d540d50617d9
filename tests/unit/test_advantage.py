from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo.optimize.advantage import group_advantage, rank_rewards

GROUPS = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=9)


def test_ranks_become_rewards() -> None:
    # G = 4: (4-1)/3, (4-3)/3, (4-2)/3, (4-4)/3
    assert rank_rewards([1, 3, 2, 4]) == pytest.approx((1, 1 / 3, 2 / 3, 0))


@pytest.mark.parametrize("ranks", [(1, 1, 3), (1, 1, 2), (1.5, 1.5, 3), (-2, -2, 0.5)])
def test_ties_share_their_mean_rank_however_they_are_written(ranks: tuple[float, ...]) -> None:
    # mid-ranks 1.5, 1.5, 3 of G = 3: (3-1.5)/2, (3-1.5)/2, 0
    assert rank_rewards(ranks) == (0.75, 0.75, 0)


def test_a_middle_tie() -> None:
    # places 2 and 3 shared: mid-rank 2.5 of G = 4, (4-2.5)/3 = 0.5
    assert rank_rewards([1, 2, 2, 4]) == (1, 0.5, 0.5, 0)


def test_all_tied_or_alone_is_one_half() -> None:
    # mid-rank (G+1)/2: (G - (G+1)/2) / (G-1) = 1/2
    assert rank_rewards([3, 3, 3]) == (0.5, 0.5, 0.5)
    assert rank_rewards([1]) == (0.5,)
    assert rank_rewards([]) == ()


def test_advantage_by_hand() -> None:
    # rewards 1, 0.5, 0: mean 0.5, population variance (0.25 + 0 + 0.25)/3 = 1/6
    std = math.sqrt(1 / 6)
    assert group_advantage([1, 0.5, 0]) == pytest.approx((0.5 / (std + 1e-4), 0, -0.5 / (std + 1e-4)), rel=1e-12)


def test_all_tied_has_exactly_no_advantage() -> None:
    # 0.1 + 0.1 + 0.1 is not 0.3 in floating point: the mean would differ from each reward
    assert group_advantage([0.1] * 3) == (0.0, 0.0, 0.0)
    assert group_advantage([0.7]) == (0.0,)
    assert group_advantage([]) == ()


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        rank_rewards([1, math.nan])
    with pytest.raises(ValueError, match="NaN"):
        group_advantage([math.nan, math.nan])


@given(GROUPS)
def test_rewards_average_one_half_and_keep_the_order(ranks: list[float]) -> None:
    rewards = rank_rewards(ranks)
    assert sum(rewards) == pytest.approx(len(ranks) / 2)
    assert all(0 <= reward <= 1 for reward in rewards)
    for i, a in enumerate(ranks):
        for j, b in enumerate(ranks):
            assert (a < b) == (rewards[i] > rewards[j])


@given(GROUPS)
def test_advantages_have_mean_zero_and_mean_square_one(ranks: list[float]) -> None:
    advantages = group_advantage(rank_rewards(ranks), eps=0)
    assert sum(advantages) == pytest.approx(0, abs=1e-9)
    square = sum(a * a for a in advantages) / len(ranks)
    assert square == pytest.approx(1 if len(set(ranks)) > 1 else 0)
