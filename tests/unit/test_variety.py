"""Variety of replies, counted by hand."""

from __future__ import annotations

import math

import pytest

from rapo.evals.variety import distinct_n, most_common_share, opening_entropy


@pytest.mark.parametrize(
    ("texts", "n", "expected"),
    [
        (["a b a", "b"], 1, 2 / 4),  # a b a b: 2 different of 4
        (["a b a b"], 2, 2 / 3),  # ab ba ab: 2 different of 3
        (["a b", "c d"], 2, 1.0),  # no n-gram across texts: ab, cd
        (["A  b", "a\tB"], 2, 1 / 2),  # blanks and case do not count: ab ab
        (["a", "b"], 2, math.nan),
        ([], 1, math.nan),
    ],
)
def test_distinct_n(texts, n, expected):
    assert distinct_n(texts, n) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(["Hi there", "hi  there", "bye"], 2 / 3), (["a", "b"], 1 / 2), (["", " "], 1.0), ([], math.nan)],
)
def test_most_common_share(texts, expected):
    assert most_common_share(texts) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("texts", "words", "expected"),
    [
        (["that sounds hard today", "That sounds hard."], 2, 0.0),
        (["a", "b", "c", "d"], 3, 2.0),  # four openings alike often: log2(4)
        (["a x", "a y", "b x", "c x"], 1, 1.5),  # shares 1/2, 1/4, 1/4: 1/2*1 + 1/4*2 + 1/4*2
        ([], 3, math.nan),
    ],
)
def test_opening_entropy(texts, words, expected):
    assert opening_entropy(texts, words) == pytest.approx(expected, nan_ok=True)
