"""The one way in: files, folders, globs and tables, each one's format recognised by what it holds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import has_magic
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from rapo.data import chatlog, esconv, sage, scenarios, sotopia, sotopia_cast
from rapo.data.conversation import Conversation, Domain, Loaded, Opened, Piece, Problem, RowError
from rapo.data.rows import Row, json_rows, read_text
from rapo.data.tables import is_table, table_rows
from rapo.errors import DataError
from rapo.types import Dialogue, Scenario

SUFFIXES = (".json", ".jsonl", ".txt")
EXPECTED = "scenarios or chat logs (one per line), ESConv, MultiESC, PPDPP, SOTOPIA, SAGE or *Situation.txt"
CONVERT = 'convert it to lines of {"messages": [{"role": "user", "content": "..."}, ...]} or {"situation": "...", ...}'
SIDES = ("first", "second")  # of a SOTOPIA scenario: whom the policy plays
Parsed = Conversation | Opened | Dialogue | Piece
Reader = Callable[[Path], Iterable[Any]]
Named = TypeVar("Named", Conversation, Scenario)
_ROOMS: tuple[tuple[Callable[[Any], str | None], Callable[[Any, str, str], Parsed]], ...] = (
    (esconv.recognise, esconv.parse),
    (chatlog.recognise, chatlog.parse),
    (sage.recognise_log, sage.parse_log),
    (sage.recognise_profile, sage.parse_profile),
    (sotopia.recognise, sotopia.parse),
    (scenarios.recognise, scenarios.parse),
)


class UnrecognisedError(DataError):
    """A file is in none of the known formats."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A file of no known format: where it lies, why, and whether it was met while searching a folder."""

    path: Path
    error: UnrecognisedError
    searched: bool


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """One file or table: where it lies, its format in words (esconv, chat log, scenarios, ...), what it holds."""

    path: Path
    format: str
    loaded: Loaded


def load_conversations(paths: Sequence[str | Path], read: Reader | None = None) -> Loaded:
    """Everything in the given files, folders (searched recursively) and globs, in the order given, sorted within each.

    ``hf:NAME`` or ``hf:NAME:SPLIT`` is a table on the Hugging Face hub, and so is a folder written by
    ``datasets.save_to_disk``; ``FOLDER#LIST`` uses only those SOTOPIA environments that an id list names. A row that
    cannot be used becomes a problem and the rest is used; so does a file of no known format that was met while
    searching a folder. An id met twice gets ``#2``, ``#3``, ... appended; a scenario met twice counts once.

    Args:
        paths: files, folders, globs, tables.
        read: an importer of the user's own: turns a file into rows of any format known here.

    Raises:
        DataError: nothing was found, or a file is missing, unreadable, not UTF-8, of no known format or without one
            usable row, or a table cannot be read.
    """
    found = list(load_files(paths, read))
    for item in found:
        if isinstance(item, Unknown) and not item.searched:
            raise item.error
    return join_files(found, id_lists(paths))


def load_scenarios(paths: Sequence[str | Path], domain: Domain | None = None, read: Reader | None = None) -> Loaded:
    """Every scenario in ``paths`` (see ``load_conversations``), as ``situations`` and ``negotiations`` only.

    Conversations and dialogues give the scenario they start from. Where a conversation's situation is a note that the
    supporter never saw (ESConv), it is the user's private fact here and not the public situation.

    Args:
        paths: files, folders, globs, tables.
        domain: use only scenarios of this kind; None uses all.
        read: as in ``load_conversations``.

    Raises:
        DataError: as ``load_conversations``, or there is no scenario of that domain.
    """
    loaded = load_conversations(paths, read)
    logged = chain(
        (played_scenario(talk) for talk in loaded.conversations), (talk.scenario for talk in loaded.dialogues)
    )
    support = tuple(_unique(_distinct([*logged, *loaded.situations]))) if domain != "negotiation" else ()
    negotiations = loaded.negotiations if domain != "support" else ()
    if not support and not negotiations:
        kind = f"{domain} scenario" if domain else "scenario"
        why = f" ({loaded.problems[0]})" if loaded.problems else ""
        where = ", ".join(map(str, paths))
        raise DataError(f"there is no {kind} in {where:.200}{why:.400}", fix="see docs/scenarios.md")
    return Loaded((), support, loaded.problems, negotiations)


def load_sotopia(paths: Sequence[str | Path], only: Sequence[str] = ()) -> list[Scenario]:
    """Every SOTOPIA combination twice, the policy as its first and as its second character, to measure a policy on.

    Ids end in ``/first`` and ``/second``. Any beginning of the list holds as many environments as it can: both sides of
    the first pair of characters of each, then of the second pair, and so on.

    Args:
        paths: the folder or files; ``FOLDER#LIST`` uses only the environments that an id list names.
        only: names of id lists to use in the place of those in ``paths``.

    Raises:
        DataError: as ``load_conversations``, or a row cannot be used or a combination not be played: what is measured
            must not depend on what happens to be broken.
    """
    found = [one for one in load_files(paths) if isinstance(one, LoadedFile)]
    pieces = sotopia_cast.spread(piece for one in found for piece in one.loaded.pieces)
    wanted = only or id_lists(paths)
    sides, problems = zip(*(_joined(pieces, wanted, side) for side in (0, 1)), strict=True)
    if broken := [*chain.from_iterable(one.loaded.problems for one in found), *problems[0]]:
        raise DataError(f"{len(broken)} rows of SOTOPIA cannot be used, the first is {broken[0]}", fix="mend the files")
    if not sides[0]:
        raise DataError(
            f"there is no SOTOPIA scenario in {', '.join(map(str, paths)):.200}", fix="see docs/scenarios.md"
        )
    return [
        replace(one.scenario, id=f"{one.scenario.id}/{side}")
        for pair in zip(*sides, strict=True)
        for one, side in zip(pair, SIDES, strict=True)
    ]


def load_files(paths: Sequence[str | Path], read: Reader | None = None) -> Iterator[LoadedFile | Unknown]:
    """The files one by one.

    Raises:
        DataError: as ``load_conversations``, but for files of no known format.
    """
    seen: set[Path] = set()
    for given, _ in map(_split, paths):
        if is_table(given):
            yield _load_rows(Path(given), table_rows(given))
            continue
        for path in _expand(given):
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                yield _load_rows(path, _own_rows(path, read)) if read else _load(path)
            except UnrecognisedError as error:
                yield Unknown(path, error, Path(given).is_dir())


def fingerprint(paths: Sequence[str | Path]) -> str:
    """A hash of all files in ``paths`` (see ``load_conversations``), another one when any of them changes.

    What is not there counts by its name, and so does a table on the hub.
    """
    hashed = sha256()
    for given in map(str, paths):
        hashed.update(f"{given}\n".encode())
        place, _ = _split(given)
        with suppress(DataError):
            for file in sorted(Path(place).rglob("*")) if is_table(place) else _expand(place):
                if file.is_file():
                    hashed.update(f"{file} {file.stat().st_size}\n".encode() + file.read_bytes())
    return hashed.hexdigest()


def id_lists(paths: Sequence[str | Path]) -> list[str]:
    """The SOTOPIA id lists that paths name after ``#``."""
    return [name for given in paths if (name := _split(given)[1])]


def join_files(files: Sequence[LoadedFile | Unknown], wanted: Sequence[str] = ()) -> Loaded:
    """What files hold together, the pieces of scenarios joined.

    Args:
        files: in order; a problem stands for each of no known format.
        wanted: names of SOTOPIA's id lists; only their environments are used, all where there is no name.

    Raises:
        DataError: no such id list was found.
    """
    found = [
        item.loaded
        if isinstance(item, LoadedFile)
        else Loaded((), problems=(Problem(str(item.path), item.error.what),))
        for item in files
    ]
    joined, problems = _joined(chain.from_iterable(one.pieces for one in found), wanted)
    return Loaded(
        conversations=tuple(_unique(chain.from_iterable(one.conversations for one in found))),
        situations=tuple(_unique(_distinct(chain.from_iterable(one.situations for one in found)))),
        problems=(*chain.from_iterable(one.problems for one in found), *problems),
        negotiations=tuple(
            _unique(_distinct([*chain.from_iterable(one.negotiations for one in found), *(o.scenario for o in joined)]))
        ),
        dialogues=tuple(chain.from_iterable(one.dialogues for one in found)),
    )


def _joined(pieces: Iterable[Piece], wanted: Sequence[str], side: int = 0) -> tuple[list[Opened], list[Problem]]:
    try:
        return sotopia_cast.join(pieces, wanted, side)
    except RowError as error:
        raise DataError(str(error), fix="give the folder that holds env_id_lists.json") from None


def _split(given: str | Path) -> tuple[str, str]:
    """A path and the id list named after ``#``, "" without one."""
    text = str(given)
    path, mark, name = text.rpartition("#")
    return (path, name) if mark and path and not Path(text).exists() else (text, "")


def _expand(given: str) -> list[Path]:
    path = Path(given)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    elif has_magic(given) and not path.exists():
        anchor = Path(path.anchor)
        try:
            found = sorted(p for p in anchor.glob(str(path.relative_to(anchor))) if p.is_file())
        except ValueError as error:
            raise DataError(f"{given} is no pattern", got=str(error), fix="write ** between slashes") from None
    else:
        return [path]
    if not found:
        raise DataError(f"no data file at {given}", expected="*.json, *.jsonl or *.txt", fix="check the path")
    return found


def _load(path: Path) -> LoadedFile:
    text = read_text(path)
    if text.lstrip()[0] in "{[":
        return _load_rows(path, list(json_rows(path, text)))
    if path.suffix.lower() == ".txt" and "situation" in path.stem.lower():
        return LoadedFile(path, "situations", Loaded((), _situations(path, text)))
    raise UnrecognisedError(f"the format of {path} is not known", expected=EXPECTED, fix=CONVERT)


def _own_rows(path: Path, read: Reader) -> list[Row]:
    try:
        return [Row(number, value) for number, value in enumerate(read(path), start=1)]
    except Exception as error:  # whatever somebody else's importer meets in their file
        raise DataError(f"the importer cannot read {path}", got=f"{type(error).__name__}: {error}") from error


def _load_rows(path: Path, rows: list[Row]) -> LoadedFile:
    name, parse = _recognise(path, rows)
    found: list[Parsed] = []
    problems = []
    for row in rows:
        source = f"{path}:{row.line}"
        try:
            if row.error:
                raise RowError(row.error)
            found.append(parse(row.value, f"{path.name}:{row.line}", source))
        except RowError as error:
            problems.append(Problem(source, str(error)))
    if not found:
        raise DataError(
            f"{path} has no usable row ({name})", got=str(problems[0]), expected=EXPECTED, fix="repair the file"
        )
    return LoadedFile(path, name, _sorted_out(found, problems))


def _sorted_out(found: Sequence[Parsed], problems: Sequence[Problem]) -> Loaded:
    opened = [one for one in found if isinstance(one, Opened)]
    return Loaded(
        conversations=tuple(_unique(one for one in found if isinstance(one, Conversation))),
        situations=tuple(_unique(one.scenario for one in opened if one.domain == "support")),
        problems=tuple(problems),
        negotiations=tuple(_unique(one.scenario for one in opened if one.domain == "negotiation")),
        dialogues=tuple(one for one in found if isinstance(one, Dialogue)),
        pieces=tuple(one for one in found if isinstance(one, Piece)),
    )


def _recognise(path: Path, rows: list[Row]) -> tuple[str, Callable[[Any, str, str], Parsed]]:
    """The format of the first row that any format claims."""
    for row in rows:
        for recognise, parse in _ROOMS:
            if name := recognise(row.value):
                return name, parse
    first = next((f"line {row.line}: {row.error}" for row in rows if row.error), None)
    raise UnrecognisedError(f"the format of {path} is not known", got=first, expected=EXPECTED, fix=CONVERT)


def _situations(path: Path, text: str) -> tuple[Scenario, ...]:
    """One scenario per distinct line: the user opens by telling the situation, and nothing is left to hide."""
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            lines.setdefault(line.strip(), number)
    return tuple(
        scenarios.parse({"situation": line}, f"{path.name}:{number}", "").scenario for line, number in lines.items()
    )


def played_scenario(talk: Conversation) -> Scenario:
    """The scenario a conversation starts from, for a user who is played and not replayed: on the scale of ease."""
    scale, start = scenarios.SCALES["support"], scenarios.STARTS["support"]
    ease = scale.low + start * (scale.high - scale.low)
    if talk.start is not None:
        # Ease is 10 - distress, and distress was told on 1-5; a user at the very end of the scale could not fall.
        ease = max(1.0, scale.high - 2 * talk.start)
    scenario = replace(talk.to_scenario(), start=ease, scale=scale)
    if not (talk.private and talk.situation):
        return scenario
    return replace(scenario, situation=esconv.SITUATION, profile={"facts": [talk.situation]})


def _distinct(found: Iterable[Scenario]) -> Iterator[Scenario]:
    """Every scenario once; two are the same when all of them is."""
    seen: dict[Hashable, list[Scenario]] = {}
    for scenario in found:
        # A profile cannot be hashed.
        alike = seen.setdefault((scenario.id, scenario.situation, scenario.opening), [])
        if scenario not in alike:
            alike.append(scenario)
            yield scenario


def _unique(found: Iterable[Named]) -> Iterator[Named]:
    taken: dict[str, int] = {}
    for one in found:
        ident, count = one.id, taken.get(one.id, 1)
        while ident in taken:
            count += 1
            ident = f"{one.id}#{count}"
        taken[one.id] = count
        taken.setdefault(ident, 1)
        yield one if ident == one.id else replace(one, id=ident)
