"""The pattern language of the rule files: regular expressions over plain text, easy to read and to add to.

Text is matched in lower case, without apostrophes (``don't`` is ``dont``) and with letters that are repeated three
times or more written once. In a pattern a space stands for one or more blanks, commas, quotes and hyphens, a space
before a question mark for none or more; ``{name}`` for an entry of the file's ``words``; a pattern begins and ends at
the edge of a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby
from typing import Any

import yaml

from rapo.errors import DataError

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_PIECE = re.compile(r"\w+|\W+")
_GAP = r"[\s,\"*-]+"
_APOSTROPHES = "'`´‘’ʼ"
_SAME = {"“": '"', "”": '"', "–": "-", "—": "-", "…": "."}


@dataclass(frozen=True, slots=True)
class Plain:
    """A text as patterns see it; its character i comes from ``starts[i]`` to ``ends[i]`` of the original."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """A non-empty span of the plain text as a span of the original."""
        return self.starts[start], self.ends[end - 1]


def plain(text: str, spelling: Mapping[str, str]) -> Plain:
    """The text as patterns see it; ``spelling`` tells which words are read as which."""
    kept = list(_letters(text))
    line = "".join(char for char, _ in kept)
    shown: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for match in _PIECE.finditer(line):
        piece = spelling.get(match[0], match[0])
        places = [at for _, at in kept[match.start() : match.end()]]
        shown.append(piece)
        same = piece == match[0]
        starts += places if same else [places[0]] * len(piece)
        ends += [at + 1 for at in places] if same else [places[-1] + 1] * len(piece)
    return Plain("".join(shown), tuple(starts), tuple(ends))


def _letters(text: str) -> Iterator[tuple[str, int]]:
    """The characters that stay, in lower case, with their places."""
    at = 0
    for char, same in groupby(map(_lower, text)):
        count = sum(1 for _ in same)
        if char not in _APOSTROPHES:
            stay = 1 if count >= 3 and char.isalpha() else count
            yield from ((_SAME.get(char, char), at + i) for i in range(stay))
        at += count


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
def languages() -> tuple[str, ...]:
    """The languages there are rules for: the folders beside this file that hold any."""
    folder = resources.files(__package__)
    return tuple(sorted(each.name for each in folder.iterdir() if each.joinpath("cues.yaml").is_file()))


@cache
def rules(language: str, name: str) -> dict[str, Any]:
    """The parsed rule file ``<language>/<name>.yaml``; ``name`` is ``cues`` or ``replies``.

    Raises:
        DataError: there are no rules for the language.
    """
    if language not in languages():
        raise DataError(
            "there are no safety rules for this language",
            got=language,
            expected=f"one of: {', '.join(languages())}",
            fix="set suites.locale to one of them, set train.on_risk=true, or write some (docs/safety.md)",
        )
    text = resources.files(__package__).joinpath(language, f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def language_of(locale: str) -> str:
    """The language of a locale: ``en`` of ``en-GB``."""
    return locale.partition("-")[0]
