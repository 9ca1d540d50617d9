"""How varied replies are: a policy that found one pleasing sentence scores low here, whatever its reward.

Words are what stands between blanks, in lower case. A measure of no words at all is NaN: there is nothing to measure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words per n-gram, over all texts together; 1 when none repeats."""
    words = [_words(text) for text in texts]
    grams = Counter(line[i : i + n] for line in words for i in range(len(line) - n + 1))
    return len(grams) / grams.total() if grams else math.nan


def most_common_share(texts: Sequence[str]) -> float:
    """The share (0-1) of the texts that are the most frequent one, up to blanks and case."""
    counts = Counter(_words(text) for text in texts)
    return max(counts.values()) / counts.total() if counts else math.nan


def opening_entropy(texts: Sequence[str], words: int = 3) -> float:
    """Entropy in bits of the first ``words`` words of the texts: 0 when all open alike, log2(N) when none do."""
    return _entropy(_words(text)[:words] for text in texts)


def degenerate(text: str) -> bool:
    """Whether a reply has broken down: no words, one word five times running, or the same three words three times."""
    words = _words(text)
    runs = any(len(set(words[i : i + 5])) == 1 for i in range(len(words) - 4))
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    return not words or runs or max(triples.values(), default=0) >= 3


def _entropy(items: Iterable[Hashable]) -> float:
    counts = Counter(items)
    shares = [count / counts.total() for count in counts.values()]
    return sum(share * math.log2(1 / share) for share in shares) if counts else math.nan


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.lower().split())
