"""What people and models said, as data inside a prompt: JSON that no text can break out of.

Inside a JSON string every character may be written as ``\\uXXXX``. Those that a chat template, a tokenizer or a reader
could take for something else are written so: angle brackets (control tokens, our own tags), backticks, ``[`` before a
capital (``[INST]``), whatever Unicode normalisation turns into one of these, control, format and bidirectional
characters, line and paragraph separators, invisible fillers, and private, unassigned and surrogate code points.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from unicodedata import category, normalize

_RISKY = re.compile(r"\[(?=/?g?[A-Z])|[<>`]|[^ -~]")
_MARKUP = frozenset("<>[`")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def data(value: Any) -> str:
    """``value`` as JSON on one line, safe inside any prompt; ``json.loads`` gives it back.

    A high surrogate directly before a low one comes back as the character that the two stand for.

    Raises:
        TypeError: ``value`` is no JSON value.
        ValueError: a number is not finite.
    """
    return _escape(json.dumps(value, ensure_ascii=False, allow_nan=False))


def rows(values: Sequence[Any]) -> str:
    """A JSON array with one value per line, each as in :func:`data`."""
    return "[\n" + ",\n".join(map(data, values)) + "\n]"


def defused(text: str) -> str:
    """Text with the same characters escaped, for where no JSON is wanted; line breaks and tabs stay."""
    return "".join(part if part in "\n\t" else _escape(part) for part in re.split(r"([\n\t])", text))


def _escape(text: str) -> str:
    return _RISKY.sub(lambda match: _shown(match[0]), text)


@lru_cache(maxsize=4096)
def _shown(char: str) -> str:
    if char.isascii() or category(char) in _UNSEEN or char in _FILLERS or "\U000e0000" <= char <= "\U000e0fff":
        return _units(char)
    return _units(char) if _MARKUP & set(normalize("NFKD", char)) else char


def _units(char: str) -> str:
    """A character as the escapes of its UTF-16 code units."""
    code = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{code[i : i + 4]}" for i in range(0, len(code), 4))
