"""The pattern language of the rule files: regular expressions over plain text, easy to read and to add to.

Text is matched in lower case, without apostrophes (``don't`` is ``dont``) and with letters that are repeated three
times or more written once. In a pattern a space stands for one or more blanks, commas, quotes and hyphens, a space
before a question mark for none or more; ``{name}`` for an entry of the file's ``words``; a pattern begins and ends at
the edge of a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby
from typing import Any

import yaml

from rapo.errors import DataError

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_GAP = r"[\s,\"*-]+"
_APOSTROPHES = "'`´‘’ʼ"
_SAME = {"“": '"', "”": '"', "–": "-", "—": "-", "…": "."}


@dataclass(frozen=True, slots=True)
class Plain:
    """A text as patterns see it; ``offsets[i]`` is where its character i stands in the original."""

    text: str
    offsets: tuple[int, ...]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """A non-empty span of the plain text as a span of the original."""
        return self.offsets[start], self.offsets[end - 1] + 1


def plain(text: str) -> Plain:
    """The text as patterns see it."""
    kept: list[str] = []
    offsets: list[int] = []
    at = 0
    for char, same in groupby(map(_lower, text)):
        count = sum(1 for _ in same)
        if char not in _APOSTROPHES:
            shown = 1 if count >= 3 and char.isalpha() else count
            kept += _SAME.get(char, char) * shown
            offsets += range(at, at + shown)
        at += count
    return Plain("".join(kept), tuple(offsets))


def _lower(char: str) -> str:
    """The character in lower case, itself where that would be more than one."""
    return low if len(low := char.lower()) == 1 else char


def compiled(patterns: Sequence[str], words: Mapping[str, str]) -> re.Pattern[str]:
    """One expression that matches where any of the patterns does; of no patterns, one that matches nowhere.

    Raises:
        DataError: a pattern names no entry of ``words``, or is no regular expression.
    """
    parts = [_expanded(pattern, words) for pattern in patterns]
    return re.compile("|".join(rf"\b(?:{part})(?!\w)" for part in parts) or r"(?!)")


def _expanded(pattern: str, words: Mapping[str, str]) -> str:
    try:
        while _PLACEHOLDER.search(pattern):
            pattern = _PLACEHOLDER.sub(lambda match: f"(?:{words[match[1]]})", pattern)
        part = pattern.replace(" ?", _GAP[:-1] + "*").replace(" ", _GAP)
        re.compile(part)
    except (KeyError, re.error) as error:
        raise DataError("a safety pattern cannot be used", got=pattern, expected=f"a valid one ({error})") from None
    return part


@cache
def rules(language: str, name: str) -> dict[str, Any]:
    """The parsed rule file ``<language>/<name>.yaml``; ``name`` is ``cues`` or ``replies``.

    Raises:
        DataError: there are no rules for the language.
    """
    folder = resources.files(__package__)
    known = sorted(each.name for each in folder.iterdir() if each.joinpath("cues.yaml").is_file())
    if language not in known:
        raise DataError("there are no safety rules for this language", got=language, expected=", ".join(known))
    return dict(yaml.safe_load(folder.joinpath(language, f"{name}.yaml").read_text(encoding="utf-8")))


def language_of(locale: str) -> str:
    """The language of a locale: ``en`` of ``en-GB``."""
    return locale.partition("-")[0]
