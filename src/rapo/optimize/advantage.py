"""From the judge's ranks to advantages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rapo.ranks import mid_ranks


def rank_rewards(ranks_G: Sequence[float]) -> tuple[float, ...]:
    """Rewards in [0, 1], best 1: r_i = (G - rank_i) / (G - 1), where ties share their mean rank.

    Args:
        ranks_G: one number per candidate, lower is better. Only the order counts: (1, 1, 3), (1, 1, 2) and
            (0.2, 0.2, 7) all are mid-ranks (1.5, 1.5, 3) and give (0.75, 0.75, 0). A candidate alone gets
            0.5, as in a tie.

    Raises:
        ValueError: a rank is NaN.
    """
    size = len(ranks_G)
    return tuple((size - rank) / (size - 1) if size > 1 else 0.5 for rank in mid_ranks(ranks_G))


def group_advantage(rewards_G: Sequence[float], eps: float = 1e-4) -> tuple[float, ...]:
    """Group-relative advantages A_i = (r_i - mean) / (std + eps) (GRPO, arXiv 2402.03300, section 4.1.2).

    The standard deviation is the population's (divided by G): the group is all there is, and advantages then have mean
    square 1 at every G. TRL and verl divide by G - 1, which makes theirs smaller by sqrt((G - 1) / G), 6% at G = 8.
    All rewards equal gives exact zeros.

    Raises:
        ValueError: a reward is NaN.
    """
    if any(math.isnan(reward) for reward in rewards_G):
        raise ValueError(f"a group may not hold NaN: {list(rewards_G)}")
    if len(set(rewards_G)) < 2:
        return (0.0,) * len(rewards_G)
    mean = math.fsum(rewards_G) / len(rewards_G)
    std = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards_G) / len(rewards_G))
    return tuple((r - mean) / (std + eps) for r in rewards_G)
