"""What predicts a rating without simulating anybody: the bar that a simulated user has to clear."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]

_PRIOR = 10.0  # turns of the mean rating thrown in at every position
_ALPHAS = (1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True, slots=True)
class RatedTurn:
    """A reply that was rated 1-5: in which dialogue, and how many replies came before it."""

    dialogue: str
    position: int
    reply: str
    rating: float


Baseline = Callable[[Sequence[RatedTurn], Sequence[RatedTurn]], Floats]


def by_position(known: Sequence[RatedTurn], asked: Sequence[RatedTurn]) -> Floats:
    """The mean rating at that position of a dialogue, shrunken to the mean of all."""
    mean = float(np.mean([turn.rating for turn in known]))
    length = 1 + max(turn.position for turn in (*known, *asked))
    place_N = np.array([turn.position for turn in known])
    count = np.bincount(place_N, minlength=length)
    total = np.bincount(place_N, weights=np.array([turn.rating for turn in known]), minlength=length)
    return np.array([(total[t.position] + _PRIOR * mean) / (count[t.position] + _PRIOR) for t in asked])


def by_reply(known: Sequence[RatedTurn], asked: Sequence[RatedTurn]) -> Floats:
    """Ridge regression on the words and word pairs of the reply (TF-IDF) and the logarithm of its length.

    Its penalty is chosen by cross-validation over the dialogues in ``known``, of which there must be two.
    """
    features = make_column_transformer(
        (TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), 0),
        (StandardScaler(), [1]),
    )
    search = GridSearchCV(
        Ridge(),
        {"alpha": _ALPHAS},
        cv=GroupKFold(min(5, len({turn.dialogue for turn in known}))),
        scoring="neg_mean_squared_error",
    )
    model = make_pipeline(features, search)
    model.fit(
        _table(known),
        [turn.rating for turn in known],
        gridsearchcv__groups=[turn.dialogue for turn in known],
    )
    return np.asarray(model.predict(_table(asked)), dtype=np.float64)


BASELINES: Mapping[str, Baseline] = {"turn position": by_position, "words of reply": by_reply}


def deal(dialogues: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """The fold of each dialogue, from 0; as many in each as can be, drawn by ``seed``."""
    names = sorted(set(dialogues))
    random.Random(f"folds/{seed}").shuffle(names)
    return {name: place % folds for place, name in enumerate(names)}


def cross_validated(baseline: Baseline, turns: Sequence[RatedTurn], fold_of: Mapping[str, int]) -> Floats:
    """A prediction for each of N turns, each from the turns of the other folds only."""
    fold_N = np.array([fold_of[turn.dialogue] for turn in turns])
    found_N = np.empty(len(turns))
    for fold in np.unique(fold_N):
        known = [turn for turn, own in zip(turns, fold_N, strict=True) if own != fold]
        asked = [turn for turn, own in zip(turns, fold_N, strict=True) if own == fold]
        found_N[fold_N == fold] = baseline(known, asked)
    return found_N


def _table(turns: Sequence[RatedTurn]) -> Any:
    """N x 2: the reply, the logarithm of its words and one."""
    rows = np.empty((len(turns), 2), dtype=object)
    for row, turn in zip(rows, turns, strict=True):
        row[:] = turn.reply, float(np.log1p(len(turn.reply.split())))
    return rows
