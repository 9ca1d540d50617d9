"""Variety of replies, counted by hand."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import numpy as np
import pytest

from rapo.evals.variety import distinct_n, mean_distance, most_common_share, opening_entropy, self_bleu, variety


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


def test_self_bleu_by_hand():
    # "a b c": the other text allows a, b, ab: 2/3, 1/2 and no abc, so 1/2 of 1; as long as it: (2/3 * 1/2 * 1/2)^(1/3)
    # "a b d" is its mirror image.
    assert self_bleu(["a b c", "A b d"]) == pytest.approx((1 / 6) ** (1 / 3))
    # One word of two, no pair, so 1/2 of 1: (1/2 * 1/2)^(1/2); and "a", all of it, too short: exp(1 - 2/1).
    assert self_bleu(["a b", "a"]) == pytest.approx((0.5 + math.exp(-1)) / 2)
    assert self_bleu(["a b", "c d"]) == 0
    assert self_bleu(["one kind reply", "one kind reply", " "]) == pytest.approx(1)
    assert math.isnan(self_bleu(["alone", ""]))


def test_self_bleu_is_that_of_sacrebleu():
    metric = pytest.importorskip("sacrebleu.metrics", reason="the extra suites").BLEU(
        tokenize="none", lowercase=True, effective_order=True
    )
    rng = random.Random(1)
    for _ in range(100):
        words = "abcdef"[: rng.randint(1, 6)]
        texts = [" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(rng.randint(2, 6))]
        scores = [metric.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]
        assert self_bleu(texts) == pytest.approx(sum(scores) / len(scores) / 100)


def test_mean_distance_is_that_of_all_pairs():
    assert mean_distance(np.array([[1, 0], [0, 1], [-1, 0]], np.float32)) == pytest.approx((1 + 2 + 1) / 3)
    assert mean_distance(np.array([[0.6, 0.8]] * 4, np.float32)) == pytest.approx(0, abs=1e-6)
    assert math.isnan(mean_distance(np.ones((1, 2), np.float32)))


def test_a_collapse_shows_in_every_measure():
    varied = ["how did it begin", "that sounds hard", "what would help you now", "you have come far"]
    same = ["i am sorry to hear that"] * 4

    def encode(texts):
        return np.eye(4, dtype=np.float32)[[sorted(set(texts)).index(text) for text in texts]]

    a, b = variety(varied, encode), variety(same, encode)
    assert set(a) == set(b)
    assert {name for name in a if a[name] > b[name]} == {*a} - {"self_bleu", "most_common_share"}
    assert (b["self_bleu"], b["most_common_share"]) == (pytest.approx(1), 1)
    assert a["self_bleu"] < 0.1 and a["most_common_share"] == 1 / 4


def test_a_measure_of_nothing_is_left_out():
    assert variety([]) == {}
    assert set(variety(["one"])) == {"distinct_1", "most_common_share", "opening_entropy"}


def test_it_loads_no_torch():
    code = "import sys, rapo.evals.esconv, rapo.evals.human_replies; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
