"""How varied replies are: a policy that found one pleasing sentence scores low here, whatever its reward.

Words are what stands between blanks, in lower case. A measure of no words at all is NaN: there is nothing to measure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[Sequence[str]], NDArray[np.float32]]  # N texts to N unit vectors [N, E]

ORDER = 4  # of BLEU


def variety(texts: Sequence[str], encode: Encode | None = None) -> dict[str, float]:
    """Every measure by its name, for a table; one of which there is nothing to measure is left out.

    Args:
        texts: all replies of one speaker.
        encode: adds ``embedding_variety``.
    """
    found = {
        "distinct_1": distinct_n(texts, 1),
        "distinct_2": distinct_n(texts, 2),
        "distinct_3": distinct_n(texts, 3),
        "self_bleu": self_bleu(texts),
        "most_common_share": most_common_share(texts),
        "opening_entropy": opening_entropy(texts),
    }
    if encode is not None and len(texts) > 1:
        found["embedding_variety"] = mean_distance(encode(texts))
    return {name: value for name, value in found.items() if not math.isnan(value)}


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words per n-gram, over all texts together; 1 when none repeats."""
    grams = Counter(gram for text in texts for gram in _grams(_words(text), n))
    return len(grams) / grams.total() if grams else math.nan


def most_common_share(texts: Sequence[str]) -> float:
    """The share (0-1) of the texts that are the most frequent one, up to blanks and case."""
    counts = Counter(_words(text) for text in texts)
    return max(counts.values()) / counts.total() if counts else math.nan


def opening_entropy(texts: Sequence[str], words: int = 3) -> float:
    """Entropy in bits of the first ``words`` words of the texts: 0 when all open alike, log2(N) when none do."""
    return _entropy(_words(text)[:words] for text in texts)


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU-4 (0-1) of each text against all others as its references; 1 when every text occurs twice.

    Zhu et al. 2018 (Texygen, arXiv 1802.01886), of all texts and without sampling: the same number as sacrebleu's
    ``sentence_bleu`` of every text (exponential smoothing, effective order) in time linear in the number of words.
    NaN for fewer than two texts with words.
    """
    lines = [words for words in map(_words, texts) if words]
    if len(lines) < 2:
        return math.nan
    lengths = Counter(map(len, lines))
    tables = [_others(lines, n) for n in range(1, ORDER + 1)]
    scores = []
    for i, line in enumerate(lines):
        # What a reference allows: the most often that one other text holds the n-gram.
        matches = [
            sum(min(count, second if owner == i else most) for count, (most, owner, second) in table[i])
            for table in tables
        ]
        others = lengths - Counter({len(line): 1})
        closest = min(others, key=lambda length: (abs(length - len(line)), length))
        scores.append(_bleu(matches, len(line), closest))
    return sum(scores) / len(scores)


def mean_distance(vectors_NE: NDArray[np.float32]) -> float:
    """Mean cosine distance (0-2) over all pairs of N unit vectors; NaN for fewer than two."""
    count = len(vectors_NE)
    if count < 2:
        return math.nan
    # |sum v|^2 is the sum of all N^2 products, of which N are a vector with itself, so 1.
    total = float(np.square(vectors_NE.astype(np.float64).sum(axis=0)).sum())
    return 1 - (total - count) / (count * (count - 1))


def degenerate(text: str) -> bool:
    """Whether a reply has broken down: no words, one word five times running, or the same three words three times."""
    words = _words(text)
    runs = any(len(set(words[i : i + 5])) == 1 for i in range(len(words) - 4))
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    return not words or runs or max(triples.values(), default=0) >= 3


_Use = tuple[int, int, int]  # most often in one text, which text, and most often in any other


def _others(lines: Sequence[tuple[str, ...]], n: int) -> list[list[tuple[int, _Use]]]:
    """For every text, each of its n-grams: how often it holds it, and how all texts use it."""
    counts = [Counter(_grams(line, n)) for line in lines]
    uses: dict[tuple[str, ...], _Use] = {}
    for i, mine in enumerate(counts):
        for gram, count in mine.items():
            most, owner, second = uses.get(gram, (0, -1, 0))
            uses[gram] = (count, i, most) if count > most else (most, owner, max(second, count))
    return [[(count, uses[gram]) for gram, count in mine.items()] for mine in counts]


def _bleu(matches: Sequence[int], length: int, reference: int) -> float:
    """BLEU 0-1 (Papineni et al. 2002) of one text of ``length`` words; method 3 of Chen and Cherry 2014 smooths."""
    if not matches[0]:
        return 0.0
    logs, smooth = [], 1.0
    for n, found in enumerate(matches[:length], start=1):
        if not found:
            smooth *= 2
        logs.append(math.log((found or 1 / smooth) / (length - n + 1)))
    brevity = min(0.0, 1 - reference / length)
    return math.exp(brevity + sum(logs) / len(logs))


def _grams(words: tuple[str, ...], n: int) -> list[tuple[str, ...]]:
    return [words[i : i + n] for i in range(len(words) - n + 1)]


def _entropy(items: Iterable[Hashable]) -> float:
    counts = Counter(items)
    shares = [count / counts.total() for count in counts.values()]
    return sum(share * math.log2(1 / share) for share in shares) if counts else math.nan


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.lower().split())
