"""Files to rows: every row with the line it starts on, a broken row in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapo.errors import DataError

_BLANK = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line it starts on (from 1), and its JSON value or why it has none."""

    line: int
    value: Any = None
    error: str = ""


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: the file is missing, unreadable, empty or not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line} is not UTF-8", expected="a UTF-8 text file", fix="convert it with iconv -t utf-8"
        ) from None
    except OSError as error:
        raise DataError(
            f"cannot read {path}", got=error.strerror, expected="a data file", fix="check the path and its permissions"
        ) from None
    if not text.strip():
        raise DataError(f"{path} is empty", expected="at least one conversation or situation", fix="check the file")
    return text


def json_rows(path: Path, text: str) -> Iterator[Row]:
    """The rows of a JSON array, of JSON lines, or the one row of a file that is a single object."""
    if _is_array(path, text):
        return _array_rows(text)
    return _line_rows(text) if (whole := _object_row(text)) is None else iter([whole])


def _object_row(text: str) -> Row | None:
    """The object that is the whole text, spread over lines or not; None for any other text."""
    start = _skip(text, 0)
    if text[start] != "{":
        return None
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return Row(text.count("\n", 0, start) + 1, value) if _skip(text, end) == len(text) else None


def _is_array(path: Path, text: str) -> bool:
    """Whether the text is one array of conversations, rather than lines of which each may be a list of messages."""
    start = _BLANK.match(text).end()  # type: ignore[union-attr]
    if text[start] != "[":
        return False
    try:
        first, _ = _DECODER.raw_decode(text, _skip(text, start + 1))
    except (ValueError, RecursionError):
        return path.suffix == ".json"
    return not (isinstance(first, dict) and "role" in first)


def _line_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield Row(number, json.loads(line))
        except (ValueError, RecursionError) as error:
            yield Row(number, error=_why(error))


def _array_rows(text: str) -> Iterator[Row]:
    at = _skip(text, text.index("[") + 1)
    line, counted = 1, 0
    while at < len(text) and text[at] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = _DECODER.raw_decode(text, at)
            yield Row(line, value)
        except (ValueError, RecursionError) as error:
            end = _next_element(text, at)
            lost = " (the rest of the array is lost)" if end == len(text) else ""
            yield Row(line, error=_why(error) + lost)
        at = _skip(text, end)
    if text[at + 1 :].strip() or at >= len(text):
        yield Row(line, error="bad JSON: the array does not end the file after this row")


def _next_element(text: str, at: int) -> int:
    """Where the element after a broken one starts: the next line that opens like the broken one did, else the end."""
    indent = text[text.rfind("\n", 0, at) + 1 : at]
    if indent.strip():
        return len(text)
    found = text.find(f"\n{indent}{text[at]}", at)
    return len(text) if found < 0 else found + 1


def _skip(text: str, at: int) -> int:
    return _BLANK.match(text, at).end()  # type: ignore[union-attr]


def _why(error: Exception) -> str:
    return (
        f"bad JSON: {error.msg}"
        if isinstance(error, json.JSONDecodeError)
        else "bad JSON: nested too deep or a number too long"
    )
