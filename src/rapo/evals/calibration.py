"""How well predicted states track the ratings that people gave: figures with intervals, dialogues resampled whole.

Shapes: N rated turns, D dialogues, P predictors, F figures, S resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rapo.errors import DataError
from rapo.evals.stats import Interval

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

HIGH, LOW = 4.0, 2.0
LEVELS = (1, 2, 3, 4, 5)
RANKED = ("spearman", "kendall", "auc", "within", "within_auc")
FIGURES = (*RANKED, "bias", "error", *(f"at_{level}" for level in LEVELS))
# An interval from resamples many of which lack the very turns it is about would look surer than it is.
_MAY_LACK = 0.05


@dataclass(frozen=True, slots=True)
class Calibration:
    """What P predictors know of N ratings by people.

    The figures of a predictor, each with its 95% interval, None where it is undefined:

    - ``spearman``, ``kendall``: rank correlation and tau-b with the ratings over all turns
    - ``auc``: how often a turn rated 4 or more is predicted above one rated 2 or less; a tie counts half
    - ``within``: Spearman of the deviations from the dialogue's own means, of rating and of prediction: whether it
      knows *which reply* was better, and not only which person or talk; over dialogues with two rated turns or more
    - ``within_auc``: how often, by these deviations, a turn rated above its dialogue's mean comes before one below
    - ``bias``, ``error``: mean and mean absolute difference of prediction and rating, in points of the 1-5 scale
    - ``at_1`` ... ``at_5``: mean prediction where that rating was given (a fraction counts for the nearest)

    Attributes:
        dialogues: D, those with a rated turn.
        turns: N.
        between: share of the ratings' variance that lies between dialogues, the one-way intraclass correlation.
        rated: how many turns were rated 1, 2, 3, 4, 5.
        figures: by predictor, then by figure.
        ahead: the first predictor less each other one, by the ranking figures (all but bias, error and ``at_``).
    """

    dialogues: int
    turns: int
    between: Interval | None
    rated: tuple[int, ...]
    figures: dict[str, dict[str, Interval | None]]
    ahead: dict[str, dict[str, Interval | None]]


def calibrate(
    ratings: Sequence[float],
    dialogues: Sequence[str],
    predictions: Mapping[str, Sequence[float]],
    *,
    seed: int,
    samples: int = 2000,
    on_done: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """The figures of every predictor, from the same turns and the same resamples of whole dialogues.

    Args:
        ratings: N, on 1-5.
        dialogues: N, which dialogue each turn belongs to.
        predictions: by predictor, N each, on 1-5; the one in question first.
        seed: the same seed gives the same intervals.
        samples: S.
        on_done: hears how many resamples are done.

    Raises:
        DataError: lengths differ, a value is not finite, or there are fewer than two dialogues.
    """
    rating_N, predicted_PN = np.array(ratings, float), np.array(list(predictions.values()), float)
    names, owner_N = np.unique(np.array(dialogues, dtype=str), return_inverse=True)
    _check(rating_N, predicted_PN, owner_N, len(names))
    turns = _Turns(rating_N, _own(rating_N, owner_N), predicted_PN, np.stack([_own(p, owner_N) for p in predicted_PN]))
    members = [np.flatnonzero(owner_N == dialogue) for dialogue in range(len(names))]

    whole_PF, share = turns.figures(np.arange(len(rating_N))), _between([rating_N[places] for places in members])
    found, shares = [], []
    for number, drawn in enumerate(_resamples(members, seed, samples), start=1):
        found.append(turns.figures(np.concatenate(drawn)))
        shares.append(_between([rating_N[places] for places in drawn]))
        on_done(number)
    found_SPF = np.array(found)
    levels = [int(level) for level in _level(rating_N)]
    return Calibration(
        dialogues=len(names),
        turns=len(rating_N),
        between=_interval(share, np.array(shares)),
        rated=tuple(levels.count(level) for level in LEVELS),
        figures={
            name: {figure: _interval(whole_PF[p, f], found_SPF[:, p, f]) for f, figure in enumerate(FIGURES)}
            for p, name in enumerate(predictions)
        },
        ahead={
            name: {
                figure: _interval(whole_PF[0, f] - whole_PF[p, f], found_SPF[:, 0, f] - found_SPF[:, p, f])
                for f, figure in enumerate(RANKED)
            }
            for p, name in enumerate(predictions)
            if p > 0
        },
    )


@dataclass(frozen=True, slots=True)
class _Turns:
    """N ratings and P x N predictions, as they are and less the mean of their dialogue (NaN where a turn is alone)."""

    ratings: Floats
    own_ratings: Floats
    predicted: Floats
    own_predicted: Floats

    def figures(self, places: Places) -> Floats:
        """P x F figures of the turns at ``places``; NaN where one is undefined."""
        rating_N, own_N = self.ratings[places], self.own_ratings[places]
        several = ~np.isnan(own_N)
        high, low, level_N = rating_N >= HIGH, rating_N <= LOW, _level(rating_N)
        rows = []
        for predicted_N, moved_N in zip(self.predicted[:, places], self.own_predicted[:, places], strict=True):
            kept_N, moved_N = own_N[several], moved_N[several]
            rows.append(
                [
                    _spearman(predicted_N, rating_N),
                    _kendall(predicted_N, rating_N),
                    _auc(predicted_N[high], predicted_N[low]),
                    _spearman(moved_N, kept_N),
                    _auc(moved_N[kept_N > 0], moved_N[kept_N < 0]),
                    np.mean(predicted_N - rating_N),
                    np.mean(np.abs(predicted_N - rating_N)),
                    *(_mean(predicted_N[level_N == level]) for level in LEVELS),
                ]
            )
        return np.array(rows, dtype=np.float64)


def _own(value_N: Floats, owner_N: Places) -> Floats:
    """Each value less the mean of its dialogue; NaN where it is the only one."""
    count_D = np.bincount(owner_N)
    mean_D = np.bincount(owner_N, weights=value_N) / count_D
    # Rounded: a mean of equal values may differ from them by its last bit, and ranks would see that.
    return np.where(count_D[owner_N] > 1, np.round(value_N - mean_D[owner_N], 9), np.nan)


def _spearman(a_N: Floats, b_N: Floats) -> float:
    return float(stats.spearmanr(a_N, b_N).statistic) if _varied(a_N) and _varied(b_N) else np.nan


def _kendall(a_N: Floats, b_N: Floats) -> float:
    varied = _varied(a_N) and _varied(b_N)
    return float(stats.kendalltau(a_N, b_N, method="asymptotic").statistic) if varied else np.nan


def _auc(high: Floats, low: Floats) -> float:
    """The area under the ROC curve is U / (n m) of Mann and Whitney."""
    if not len(high) or not len(low):
        return np.nan
    return float(stats.mannwhitneyu(high, low, method="asymptotic").statistic / (len(high) * len(low)))


def _between(groups: Sequence[Floats]) -> float:
    """ICC(1) of D >= 2 groups of unequal size (Fleiss 1986): (MSB - MSW) / (MSB + (n0 - 1) MSW); NaN without spread."""
    size_D = np.array([len(group) for group in groups], dtype=np.float64)
    mean_D = np.array([group.mean() for group in groups])
    total, inner = size_D.sum(), sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    if total == len(groups):
        return np.nan
    outer = float((size_D * (mean_D - (size_D * mean_D).sum() / total) ** 2).sum())
    between, within = outer / (len(groups) - 1), inner / (total - len(groups))
    typical = (total - (size_D**2).sum() / total) / (len(groups) - 1)
    spread = between + (typical - 1) * within
    return float((between - within) / spread) if spread > 0 else np.nan


def _resamples(members: Sequence[Places], seed: int, samples: int) -> Iterator[list[Places]]:
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        yield [members[dialogue] for dialogue in rng.integers(len(members), size=len(members))]


def _interval(whole: float, found_S: Floats, level: float = 0.95) -> Interval | None:
    lacking = np.isnan(found_S)
    if np.isnan(whole) or lacking.mean() > _MAY_LACK:
        return None
    low, high = np.quantile(found_S[~lacking], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(whole), float(low), float(high))


def _level(rating_N: Floats) -> Places:
    return np.floor(rating_N + 0.5).astype(np.int64)


def _varied(value_N: Floats) -> bool:
    return len(value_N) > 1 and bool(np.ptp(value_N) > 0)


def _mean(value_N: Floats) -> float:
    return float(value_N.mean()) if len(value_N) else np.nan


def _check(rating_N: Floats, predicted_PN: Floats, owner_N: Places, dialogues: int) -> None:
    fits = predicted_PN.ndim == 2 and predicted_PN.shape[1] == len(rating_N) == len(owner_N)
    if not fits or dialogues < 2 or not (np.isfinite(rating_N).all() and np.isfinite(predicted_PN).all()):
        raise DataError(
            "predictions cannot be calibrated",
            got=f"{len(rating_N)} ratings in {dialogues} dialogues, predictions of shape {predicted_PN.shape}",
            expected="as many of each, all finite, in 2 dialogues or more",
        )
