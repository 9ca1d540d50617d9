"""How sure a measured mean is, by the percentile bootstrap: no assumption about the shape of the distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rapo.errors import DataError


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds of its confidence interval, in the unit of the values.

    ``f"{interval:+.2f}"`` writes all three by one format: +1.20 [+0.80, +1.60].
    """

    mean: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


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
    return _interval(float(values_N.mean()), means_S, level)


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


def nested_bootstrap(
    groups: Sequence[Sequence[float]], *, seed: int, samples: int = 2000, level: float = 0.95
) -> Interval:
    """The mean of K groups' means, such as runs with their test users, when both could have been others.

    Each resample draws K groups, then as many values of each as it has (the hierarchical bootstrap). With few groups it
    is too narrow: the spread between groups counts (K - 1) / K of what it should. Where that spread is all there is, an
    interval of 95% holds the truth in 81% of cases with 5 groups and in 89% with 10; of one group it knows no spread.

    Raises DataError when there is no group, a group has no value, or one is not finite.
    """
    means = [float(np.mean(values)) for values in _checked(groups)]
    return _interval(float(np.mean(means)), _nested_means(groups, seed, samples), level)


def nested_paired_bootstrap(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], *, seed: int, samples: int = 2000, level: float = 0.95
) -> Comparison:
    """Compare a with b by group, where a[k][i] and b[k][i] were measured on the same scenario; wins count groups.

    Raises DataError when the shapes differ, there is no pair, or a value is not finite.
    """
    sizes_a, sizes_b = [len(values) for values in a], [len(values) for values in b]
    if sizes_a != sizes_b:
        raise DataError("groups cannot be paired", got=f"{sizes_a} and {sizes_b} values", expected="as many of each")
    differences = [[x - y for x, y in zip(*pair, strict=True)] for pair in zip(a, b, strict=True)]
    interval = nested_bootstrap(differences, seed=seed, samples=samples, level=level)
    signs = [float(np.sign(np.mean(values))) for values in differences]
    return Comparison(interval, signs.count(1.0), signs.count(0.0), signs.count(-1.0))


def nested_ratio(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], *, seed: int, samples: int = 2000, level: float = 0.95
) -> Interval:
    """The mean of a by the mean of b, where a[k] and b[k] are values of the same group k, on scenarios of their own.

    Raises DataError when there are not as many groups, or as in ``nested_bootstrap``; where the mean of b may be zero
    the bounds are wide, and tell nothing.
    """
    if len(a) != len(b):
        raise DataError("groups cannot be paired", got=f"{len(a)} and {len(b)} groups", expected="as many of each")
    ratio = np.mean([np.mean(values) for values in _checked(a)]) / np.mean([np.mean(values) for values in _checked(b)])
    return _interval(float(ratio), _nested_means(a, seed, samples) / _nested_means(b, seed, samples), level)


def _checked(groups: Sequence[Sequence[float]]) -> list[np.ndarray]:
    arrays = [np.asarray(values, dtype=np.float64) for values in groups]
    if not arrays or not all(values.size and np.isfinite(values).all() for values in arrays):
        got = [list(values) for values in groups]
        raise DataError("an interval cannot be computed", got=got, expected="groups of at least one value, all finite")
    return arrays


def _nested_means(groups: Sequence[Sequence[float]], seed: int, samples: int) -> np.ndarray:
    """The mean of every resample [S]; the same seed draws the same groups whatever they hold."""
    arrays, rng = _checked(groups), np.random.default_rng(seed)
    drawn_SK = rng.integers(len(arrays), size=(samples, len(arrays)))
    means_SK = np.empty(drawn_SK.shape)
    for k, values_N in enumerate(arrays):
        times = int((drawn_SK == k).sum())
        means_SK[drawn_SK == k] = values_N[rng.integers(values_N.size, size=(times, values_N.size))].mean(axis=1)
    return np.asarray(means_SK.mean(axis=1))


def _interval(mean: float, means_S: np.ndarray | Sequence[float], level: float) -> Interval:
    low, high = np.quantile(means_S, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))
