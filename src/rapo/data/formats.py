"""The one way in: files, folders and globs to conversations, each file's format recognised by what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from glob import has_magic
from itertools import chain
from pathlib import Path
from typing import Any

from rapo.data import chatlog, esconv
from rapo.data.conversation import MIDDLE, RATING, Conversation, Loaded, Problem, RowError
from rapo.data.rows import Row, json_rows, read_text
from rapo.errors import DataError
from rapo.types import Message, Scenario

SUFFIXES = (".json", ".jsonl", ".txt")
EXPECTED = "ESConv, MultiESC, PPDPP, a chat log with one conversation per line, or *Situation.txt"
CONVERT = 'convert it to lines of {"messages": [{"role": "user", "content": "..."}, ...]}'
_ROOMS: tuple[tuple[Callable[[Any], str | None], Callable[[Any, str, str], Conversation]], ...] = (
    (esconv.recognise, esconv.parse),
    (chatlog.recognise, chatlog.parse),
)


class UnrecognisedError(DataError):
    """A file is in none of the known formats."""


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """One file: where it lies, its format (esconv, multiesc, esconv-lines, chat log, situations), what it holds."""

    path: Path
    format: str
    loaded: Loaded


def load_conversations(paths: Sequence[str | Path]) -> Loaded:
    """Everything in the given files, folders (searched recursively) and globs, in the order given, sorted within each.

    A row that cannot be used becomes a problem and the rest is used; so does a file of no known format that was met
    while searching a folder. An id met twice gets ``#2``, ``#3``, ... appended.

    Raises:
        DataError: nothing was found, or a file is missing, unreadable, not UTF-8, of no known format or without one
            usable row.
    """
    found = [
        item.loaded if isinstance(item, LoadedFile) else Loaded((), problems=(item,)) for item in load_files(paths)
    ]
    return Loaded(
        tuple(_unique(chain.from_iterable(one.conversations for one in found))),
        tuple(chain.from_iterable(one.situations for one in found)),
        tuple(chain.from_iterable(one.problems for one in found)),
    )


def load_files(paths: Sequence[str | Path]) -> Iterator[LoadedFile | Problem]:
    """The files one by one; a problem in place of a file that a folder holds and no format fits. Raises as above."""
    seen: set[Path] = set()
    for given in paths:
        for path in _expand(str(given)):
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                yield _load(path)
            except UnrecognisedError as error:
                if not Path(given).is_dir():
                    raise
                yield Problem(str(path), error.what)


def _expand(given: str) -> list[Path]:
    path = Path(given)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    elif has_magic(given) and not path.exists():
        anchor = Path(path.anchor)
        found = sorted(p for p in anchor.glob(str(path.relative_to(anchor))) if p.is_file())
    else:
        return [path]
    if not found:
        raise DataError(f"no data file at {given}", expected="*.json, *.jsonl or *.txt", fix="check the path")
    return found


def _load(path: Path) -> LoadedFile:
    text = read_text(path)
    if text.lstrip()[0] in "{[":
        return _load_json(path, list(json_rows(path, text)))
    if path.suffix.lower() == ".txt" and "situation" in path.stem.lower():
        return LoadedFile(path, "situations", Loaded((), _situations(path, text)))
    raise UnrecognisedError(f"the format of {path} is not known", expected=EXPECTED, fix=CONVERT)


def _load_json(path: Path, rows: list[Row]) -> LoadedFile:
    name, parse = _recognise(path, rows)
    talks, problems = [], []
    for row in rows:
        source = f"{path}:{row.line}"
        try:
            if row.error:
                raise RowError(row.error)
            talks.append(parse(row.value, f"{path.name}:{row.line}", source))
        except RowError as error:
            problems.append(Problem(source, str(error)))
    if not talks:
        raise DataError(
            f"{path} has no usable row ({name})", got=str(problems[0]), expected=EXPECTED, fix="repair the file"
        )
    return LoadedFile(path, name, Loaded(tuple(_unique(talks)), problems=tuple(problems)))


def _recognise(path: Path, rows: list[Row]) -> tuple[str, Callable[[Any, str, str], Conversation]]:
    """The format of the first row that any format claims."""
    for row in rows:
        for recognise, parse in _ROOMS:
            if name := recognise(row.value):
                return name, parse
    first = next((f"line {row.line}: {row.error}" for row in rows if row.error), None)
    raise UnrecognisedError(f"the format of {path} is not known", got=first, expected=EXPECTED, fix=CONVERT)


def _situations(path: Path, text: str) -> tuple[Scenario, ...]:
    """One scenario per distinct line: the user opens by telling the situation; start is the middle of the scale."""
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            lines.setdefault(line.strip(), number)
    return tuple(
        Scenario(f"{path.name}:{number}", line, (Message("user", line),), MIDDLE, RATING)
        for line, number in lines.items()
    )


def _unique(talks: Iterable[Conversation]) -> Iterator[Conversation]:
    taken: set[str] = set()
    for talk in talks:
        ident, count = talk.id, 1
        while ident in taken:
            count += 1
            ident = f"{talk.id}#{count}"
        taken.add(ident)
        yield talk if ident == talk.id else replace(talk, id=ident)
