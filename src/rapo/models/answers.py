"""JSON answers of language models: reading is tolerant, meaning is strict.

An answer is *exact* (the whole text is one JSON object), *repaired* (its object could be found or mended, and how is
said) or *rejected* (why is said in a sentence its author can act on). An answer that can be read in two ways is
rejected, never guessed at.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Object = dict[str, Any]

MOST = 200_000  # characters of an answer, blanks around it aside
DEEP = 32  # levels of nesting
SAME = 16  # times that an answer may give its object

# Each matches in linear time: possessive loops, and an open string runs to the end.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_FIXABLE = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z))|,(?=\s*+[}\]])|\b(?:True|False|None)\b', re.DOTALL)
_CLOSED = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_OPEN = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
# Only what begins like an object is taken for one; braces in prose are prose.
_BEGINNING = re.compile(r'\{(?=\s*+["}])|\[(?=\s*+\{\s*+["}])')
_SURROGATE = re.compile("[\ud800-\udfff]")
_PYTHON = {"True": "true", "False": "false", "None": "null"}


class UnusableError(ValueError):
    """An answer's JSON does not say what was asked for; the message tells its author what to change."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was read of an answer; ``value`` is None where it is rejected, ``note`` says how or why, "" if exact."""

    value: Object | None
    how: Literal["exact", "repaired", "rejected"]
    note: str = ""


def read_object(text: str) -> Parsed:
    """The one JSON object of an answer; a bare list of objects is read as ``{"items": [...]}``.

    Time is linear in the length of the text, and nothing of it is run.
    """
    text = text.strip()
    if not text:
        return Parsed(None, "rejected", "The answer is empty.")
    if len(text) > MOST:
        return Parsed(None, "rejected", f"The answer is longer than {MOST:,} characters.")
    if text.startswith("{") and _end(text, 0) == len(text):
        try:
            found = json.loads(text, object_pairs_hook=_unique, parse_constant=_not_finite)
            if _paired(found) is found:
                return Parsed(found, "exact")
        except ValueError:
            pass
    return _search(*_after_reasoning(text))


def number(value: Mapping[str, Any], key: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number of an object, within bounds; digits in quotes count as one.

    Raises:
        UnusableError: it is missing, no number, or out of bounds.
    """
    found = value.get(key)
    if isinstance(found, str) and re.fullmatch(r"\s*[+-]?\d{1,15}(\.\d{1,15})?\s*", found):
        found = float(found)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise UnusableError(f'"{key}" must be a number.')
    # Compared before it is converted: an integer of a thousand digits has no float.
    if not low <= found <= high or not -1e300 < found < 1e300:
        bounds = f" from {low:g} to {high:g}" if math.isfinite(low) and math.isfinite(high) else ""
        raise UnusableError(f'"{key}" is out of range: it must be a finite number{bounds}.')
    return float(found)


def words(value: Mapping[str, Any], key: str, most: int = 4000, *, optional: bool = False) -> str:
    """A text of an object, without blanks around it.

    Raises:
        UnusableError: it is missing or blank (unless ``optional``), no text, or longer than ``most`` characters.
    """
    found = value.get(key)
    if found is None and optional:
        return ""
    if not isinstance(found, str):
        raise UnusableError(f'"{key}" must be a text.')
    if not found.strip() and not optional:
        raise UnusableError(f'"{key}" is empty.')
    if len(found.strip()) > most:
        raise UnusableError(f'"{key}" is longer than {most} characters.')
    return found.strip()


def truth(value: Mapping[str, Any], key: str) -> bool:
    """True or false, false where the object does not say; raises UnusableError for anything else."""
    found = value.get(key, False)
    found = {"true": True, "false": False}.get(found.strip().lower(), found) if isinstance(found, str) else found
    if not isinstance(found, bool):
        raise UnusableError(f'"{key}" must be true or false.')
    return found


def shape(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with exactly these properties, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _after_reasoning(text: str) -> tuple[str, list[str]]:
    """What follows the reasoning, and what to note."""
    # An answer that begins with its JSON has no reasoning before it: the tag is then part of what it quotes.
    if text.startswith(("{", "[", "`")):
        return text, []
    *_, end = [0, *(match.end() for match in _CLOSED.finditer(text))]
    if _OPEN.match(text) and not end:
        return "", []
    return text[end:].strip(), ["reasoning left out"] if end else []


def _search(text: str, notes: list[str]) -> Parsed:
    """The object among other text.

    What begins like an object and cannot be read spoils the answer: to look for another one inside it could find one
    that the answer merely quotes.
    """
    found: list[tuple[Object, list[str]]] = []
    at, left = 0, text
    while (beginning := _BEGINNING.search(text, at)) is not None:
        end = _end(text, beginning.start())
        if end is None:
            return Parsed(None, "rejected", "The JSON does not end, or is nested too deeply.")
        try:
            found.append(_mended(text[beginning.start() : end]))
        except (ValueError, RecursionError) as error:
            return Parsed(None, "rejected", _complaint(error))
        if found[-1][0] != found[0][0] or len(found) > SAME:
            return Parsed(None, "rejected", "The answer holds several JSON objects.")
        left, at = left if len(found) > 1 else text[: beginning.start()] + text[end:], end
    if not found:
        return Parsed(None, "rejected", "The answer holds no JSON object.")
    around = ["other text left out"] if left.strip() else []
    return Parsed(found[0][0], "repaired", ", ".join([*notes, *around, *found[0][1]]) or "blanks")


def _end(text: str, start: int) -> int | None:
    """Where the brackets that open at ``start`` are closed; None where never, crosswise, or too deep."""
    open_ones: list[str] = []
    for token in _TOKEN.finditer(text, start):
        char = token[0]
        if char in "{[":
            open_ones.append("}" if char == "{" else "]")
        elif char in "}]" and open_ones.pop() != char:
            return None
        if len(open_ones) > DEEP:
            return None
        if not open_ones:
            return token.end()
    return None


def _mended(text: str) -> tuple[Object, list[str]]:
    """The value of JSON that may have trailing commas, Python's words, raw line breaks or one pair twice."""
    notes: list[str] = []

    def fixed(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        notes.append("trailing comma removed" if match[0] == "," else "Python word replaced")
        return _PYTHON.get(match[0], "")

    def pairs(some: list[tuple[str, Any]]) -> Object:
        value = dict(some)
        if any(value[key] != each for key, each in some):
            raise UnusableError("The JSON names a key twice with different values.")
        notes.extend(["key named twice"] * (len(value) < len(some)))
        return value

    mended = _FIXABLE.sub(fixed, text)
    value = json.loads(mended, strict=False, object_pairs_hook=pairs, parse_constant=_not_finite)
    paired = _paired(value)
    notes += ["unpaired surrogates replaced"] * (paired is not value)
    return paired if isinstance(paired, dict) else {"items": paired}, list(dict.fromkeys(notes))


def _paired(value: Any) -> Any:
    """The value itself, or a copy without unpaired surrogates: those cannot be written to any file."""
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(_SURROGATE.sub("\ufffd", text)) if _SURROGATE.search(text) else value


def _unique(pairs: list[tuple[str, Any]]) -> Object:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise UnusableError("The JSON names a key twice.")
    return value


def _not_finite(word: str) -> Any:
    raise UnusableError(f"The JSON holds {word}, which is no number.")


def _complaint(error: Exception) -> str:
    if isinstance(error, UnusableError):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"The JSON cannot be read: {error.msg.lower()} at its character {error.pos}."
    return "The JSON cannot be read."
