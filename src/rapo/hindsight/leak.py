"""Whether a critique tells what the user kept to themselves: a judge may guess it, the policy may not learn it.

A critique leaks when it repeats, and nobody has said aloud,

- five words in a row of a hidden text (ten characters of Chinese or Japanese), or
- one telling word of it: a number of two digits or more, letters mixed with digits, a compound of three parts such as
  ``blue-heron-lamp``, capitals throughout or inside, or a name.

A name is a capital where no sentence begins; in texts that capitalise every noun, such as German, names cannot be told
and are let through. Case matters for names and capitals only; invisible characters never do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from unicodedata import category, normalize

RUN, RUN_CHARS = 5, 10

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_GROUPED = re.compile(r"(?<=\d)[,.'](?=\d{3}\b)")
_NUMBER = re.compile(r"\d\d|^(?=.{4})(?=.*\d).*[^\W\d_]")
# Possessive, from the beginning of a word on: linear in the length of the text.
_COMPOUND = re.compile(r"(?<![^\W_])[^\W_]++(?:(?:[-_@/.][^\W_]++){2,}+|[_@][^\W_]++)")
_CAPITALS = re.compile(r"[A-Z]{3}|[a-z][A-Z]")
_EMPHASIS = frozenset(
    ("NOT", "NEVER", "ALWAYS", "MUST", "ONLY", "VERY", "REALLY", "ANY", "ALL", "BUT", "AND", "YOU", "NOW")
)
_INSIDE = re.compile(r"[\w,'’] $")
_NOUNS = 25, 0.25  # so many words, of which this share has capitals: every noun has one


@dataclass(frozen=True, slots=True)
class _Prints:
    """What can be recognised of a text: runs and telling words without case, words with it, and capitals inside."""

    runs: frozenset[tuple[str, ...]]
    telling: frozenset[str]
    words: frozenset[str]
    names: frozenset[str]


def hidden_texts(profile: Mapping[str, Any]) -> tuple[str, ...]:
    """Every text and number of a hidden profile, however nested, in order."""
    return tuple(_texts(profile))


def leaks(critique: str, secrets: Sequence[str], said: Iterable[str]) -> bool:
    """Whether ``critique`` repeats something of ``secrets`` that was not said.

    Args:
        critique: the judge's words.
        secrets: texts of the hidden profile.
        said: what may be repeated: the dialogue, the replies, their echoes.
    """
    if not secrets:
        return False
    mine, hidden = _prints(critique), [_prints(text) for text in secrets]
    runs = mine.runs & frozenset().union(*(each.runs for each in hidden))
    telling = mine.telling & frozenset().union(*(each.telling for each in hidden))
    telling |= {name.casefold() for name in _shared_names(mine, hidden)}
    if not runs and not telling:
        return False
    aloud = [_prints(text) for text in said]
    known = {word.casefold() for each in aloud for word in each.words | each.telling}
    return bool(runs - frozenset().union(*(each.runs for each in aloud)) or telling - known)


def _shared_names(mine: _Prints, hidden: Sequence[_Prints]) -> frozenset[str]:
    """Names of the hidden texts among my words, and names among my words that a hidden text begins a sentence with."""
    words = frozenset().union(*(each.words for each in hidden))
    names = frozenset().union(*(each.names for each in hidden))
    if len(words) >= _NOUNS[0] and len(names) > _NOUNS[1] * len(words):
        return frozenset()
    return (mine.words & names) | (mine.names & words)


@lru_cache(maxsize=128)
def _prints(text: str) -> _Prints:
    text = "".join(char for char in normalize("NFKC", text) if category(char) != "Cf")
    text = _GROUPED.sub("", " ".join(text.split()))
    found = list(_WORD.finditer(text))
    words = [match[0] for match in found]
    plain = [word.casefold() for word in words]
    runs = {run for run in zip(*(plain[i:] for i in range(RUN)), strict=False) if not any(map(_is_cjk, run))}
    runs |= set(zip(*(plain[i:] for i in range(RUN_CHARS)), strict=False))
    telling = {word for word in plain if _NUMBER.search(word)}
    telling |= {match[0].casefold() for match in _COMPOUND.finditer(text)}
    names = {
        m[0]
        for m in found
        if m[0][0].isupper() and len(m[0]) > 2 and _INSIDE.search(text, max(0, m.start() - 2), m.start())
    }
    names |= {word for word in words if _CAPITALS.search(word)}
    return _Prints(frozenset(runs), frozenset(telling), frozenset(words), frozenset(names - _EMPHASIS))


def _is_cjk(word: str) -> bool:
    return "\u3040" <= word <= "\u9fff"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            # A name alone would begin its sentence, and could not be told from any other word.
            yield from _texts(f"called {each}" if "name" in str(key).lower() and isinstance(each, str) else each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield f"{value:.15g}"
