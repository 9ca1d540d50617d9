"""Ranks: lower is better, ties share their mean rank."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mid_ranks(scores: Sequence[float]) -> tuple[float, ...]:
    """Ranks from 1 (the lowest score) on; equal scores share the mean of their places: (1, 1, 3) gives (1.5, 1.5, 3).

    Raises:
        ValueError: a score is NaN.
    """
    if any(math.isnan(score) for score in scores):
        raise ValueError(f"NaN has no rank: {list(scores)}")
    # With b scores lower and t equal (itself included), the mean place is b + (t + 1) / 2.
    return tuple(sum(o < s for o in scores) + (sum(o == s for o in scores) + 1) / 2 for s in scores)


def kendall_w(rankings: Sequence[Sequence[float]]) -> float | None:
    """Agreement of m rankings of the same n things: Kendall's W, 0 (none) to 1 (the same), corrected for ties.

    W = 12 S / (m^2 (n^3 - n) - m sum T), S the squared deviations of the rank sums, T = t^3 - t for every tie of t
    (Kendall and Gibbons 1990, chapter 6). None for fewer than two rankings or things, or where everything ties.
    """
    m, n = len(rankings), len(rankings[0]) if rankings else 0
    if m < 2 or n < 2:
        return None
    ranked = [mid_ranks(ranking) for ranking in rankings]
    sums = [sum(places) for places in zip(*ranked, strict=True)]
    deviation = sum((total - m * (n + 1) / 2) ** 2 for total in sums)
    ties = sum(ranks.count(place) ** 3 - ranks.count(place) for ranks in ranked for place in set(ranks))
    most = m**2 * (n**3 - n) - m * ties
    return 12 * deviation / most if most > 0 else None
