"""Finding risk cues in what a person says: rules that anyone can read, in ``<language>/cues.yaml``.

A screening aid for research data. It misses cues and finds some that are none (``docs/safety.md`` has the measured
shares), knows nothing of the person, and is no clinical instrument: never decide about a person by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from rapo.safety.patterns import Plain, compiled, language_of, plain, rules

Tier = Literal["clear", "possible"]
_SENTENCE = re.compile(r"[^.!?;\n]+")
_BEFORE = 80  # characters before a cue in which it may be denied
_REACH = 400  # characters to both sides in which other excuses are looked for, so that time stays linear


@dataclass(frozen=True, slots=True)
class Cue:
    """A sign of risk in a text.

    Attributes:
        category: such as ``"suicide"``; the keys of ``cues`` in the rule file.
        start, end: where it stands: ``text[start:end]`` is ``span``.
        span: the words that gave it away.
        tier: how sure the rules are.
    """

    category: str
    start: int
    end: int
    span: str
    tier: Tier


@dataclass(frozen=True, slots=True)
class _Found:
    """A match in the plain text and the sentence around it."""

    category: str
    tier: Tier
    start: int
    end: int


class Detector:
    """Finds risk cues by the rules of one language; see the head of its rule file for what each part means.

    Raises:
        DataError: a rule cannot be used.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        words = found["words"]
        self._spelling = {word: meant for meant, some in found["spelling"].items() for word in some}
        self._cues: list[tuple[str, Tier, re.Pattern[str]]] = [
            (category, tier, compiled(tiers.get(tier, ()), words))
            for category, tiers in found["cues"].items()
            for tier in ("clear", "possible")
        ]
        excuses = {name: found["excuses"].get(name, ()) for name in ("idiom", "denied", "told", "work", "past")}
        self._excuses = {name: compiled(patterns, words) for name, patterns in excuses.items()}
        self._open = compiled(found["open"], words)
        self._own = compiled(found["own"], words)

    def cues(self, text: str) -> list[Cue]:
        """The cues in a text, in their order; those of one category do not overlap."""
        seen = plain(text, self._spelling)
        idioms = [match.span() for match in self._excuses["idiom"].finditer(seen.text)]
        taken: list[_Found] = []
        for category, tier, pattern in self._cues:
            for match in pattern.finditer(seen.text):
                found = _Found(category, tier, *match.span())
                overlaps = any(one.category == category and _meet(found, one.start, one.end) for one in taken)
                if not overlaps and not any(_meet(found, *idiom) for idiom in idioms):
                    taken.append(found)
        again = self._open.search(seen.text) is not None
        kept = [one for one in taken if not self._excused(seen, one, again)]
        return sorted((_cue(text, seen, one) for one in kept), key=lambda cue: (cue.start, cue.end))

    def _excused(self, seen: Plain, found: _Found, again: bool) -> bool:
        """Whether the words around a match say that it is no sign of risk, here and now; ``again`` keeps it open."""
        before, sentence = _around(seen.text, found)
        own = self._own.search(seen.text, found.start, found.end) is not None
        if self._excuses["told"].search(sentence) or (not own and self._excuses["told"].search(before)):
            return True
        if not own and self._excuses["work"].search(sentence):
            return True
        if again:
            return False
        ahead = seen.text[max(0, found.start - _BEFORE) : found.start]
        denied = any(match.end() == len(ahead) for match in self._excuses["denied"].finditer(ahead))
        return denied or self._excuses["past"].search(sentence) is not None


@cache
def detector(locale: str = "en") -> Detector:
    """The detector for the language of a locale.

    Raises:
        DataError: there are no rules for the language.
    """
    return Detector(rules(language_of(locale), "cues"))


def _around(text: str, found: _Found) -> tuple[str, str]:
    """The sentence before the one in which a match begins, and that one."""
    before = ""
    for match in _SENTENCE.finditer(text, max(0, found.start - _REACH), found.end + _REACH):
        if match.end() > found.start:
            return before, match[0]
        before = match[0]
    return before, ""


def _meet(found: _Found, start: int, end: int) -> bool:
    return found.start < end and start < found.end


def _cue(text: str, seen: Plain, found: _Found) -> Cue:
    start, end = seen.original(found.start, found.end)
    return Cue(found.category, start, end, text[start:end], found.tier)
