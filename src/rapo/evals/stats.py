"""How sure a measured mean is, by the percentile bootstrap: no assumption about the shape of the distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rapo.errors import DataError


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired a against b: the mean of a - b, and in how many pairs a was higher, equal and lower."""

    difference: Interval
    wins: int
    ties: int
    losses: int


def wilson(hits: int, count: int) -> Interval:
    """A share of ``count`` >= 1 independent cases with its 95% interval (Wilson 1927): it holds near 0 and 1 too.

    Raises DataError when there is no case, or there are more hits than cases.
    """
    if not 0 <= hits <= count or count == 0:
        raise DataError("a share cannot be computed", got=f"{hits} of {count}", expected="cases, and no more hits")
    z, share = 1.959964, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def bootstrap_mean(values: Sequence[float], *, seed: int, samples: int = 2000, level: float = 0.95) -> Interval:
    """The mean of N >= 1 values with its bootstrap interval; the same seed gives the same interval.

    Raises DataError when there is no value or one is not finite.
    """
    values_N = np.asarray(values, dtype=np.float64)
    if values_N.size == 0 or not np.isfinite(values_N).all():
        raise DataError("an interval cannot be computed", got=list(values), expected="at least one value, all finite")
    rng = np.random.default_rng(seed)
    # One resample at a time: the memory stays at N values, whatever N and samples are.
    means_S = [values_N[rng.integers(values_N.size, size=values_N.size)].mean() for _ in range(samples)]
    low, high = np.quantile(means_S, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values_N.mean()), float(low), float(high))


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], *, seed: int, samples: int = 2000, level: float = 0.95
) -> Comparison:
    """Compare a with b, where a[i] and b[i] were measured on the same scenario.

    Raises DataError when the lengths differ, there is no pair, or a value is not finite.
    """
    if len(a) != len(b):
        raise DataError("values cannot be paired", got=f"{len(a)} and {len(b)} values", expected="as many of each")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    interval = bootstrap_mean(differences, seed=seed, samples=samples, level=level)
    return Comparison(interval, wins, len(differences) - wins - losses, losses)
