"""What a data file holds and what it is good for, in figures and as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from rapo.data import sotopia, sotopia_cast
from rapo.data.conversation import Conversation, Loaded, Piece, Problem, RowError
from rapo.data.formats import LoadedFile, Unknown, id_lists, load_files
from rapo.errors import DataError
from rapo.types import Dialogue, Scale

if TYPE_CHECKING:
    from rich.console import Console

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Movement:
    """How the users' states lie and move in logged dialogues, in units of ``scale``.

    Attributes:
        scale: of the first dialogue.
        mean: mean state, the starts included.
        spread: standard deviation of the states.
        change: mean change per turn.
        up: share of turns that raised the state, 0-1.
        down: share of turns that lowered it, 0-1.
        moved: share of turns that changed it by a twentieth of the scale or more, 0-1.
        leapt: share of turns that changed it by a tenth of the scale or more, 0-1.
        least: the lowest change.
        most: the highest change.
    """

    scale: Scale
    mean: float
    spread: float
    change: float
    up: float
    down: float
    moved: float
    leapt: float
    least: float
    most: float

    def __str__(self) -> str:
        width = self.scale.high - self.scale.low
        return (
            f"{self.scale.name} {self.scale.low:g}-{self.scale.high:g}: {self.mean:.1f} on average, "
            f"spread {self.spread:.1f}; a reply changes it by {self.change:+.1f} on average, {self.least:+g} to "
            f"{self.most:+g}; {self.up:.0%} raise it, {self.down:.0%} lower it; "
            f"{self.moved:.0%} by {width / 20:g} or more, {self.leapt:.0%} by {width / 10:g} or more"
        )


@dataclass(frozen=True, slots=True)
class FileSummary:
    """The figures of one file.

    Attributes:
        path: the file.
        format: the format it was recognised as; "unknown" for a file of no known format.
        dialogues: usable conversations and logged dialogues.
        turns: replies that a user answered, a greeting included.
        histogram: how many turns were rated 1, 2, 3, 4, 5 (a fraction counts for the nearest); where the user told its
            state, how many lie in each fifth of the scale.
        mean: mean rating or state, None without any.
        situations: distinct situations.
        words: mean words per message; per situation where there are no conversations. A character of an unspaced script
            counts as a word.
        problems: rows left out, all of them.
        uses: what RAPO can do with it: "sft" (learn the replies), "replay" (react as the rated people did), "study"
            (selection and calibration on told states), "scenarios" (start a dialogue); () where nothing.
        rows: usable rows.
        notes: what else there is to say, one line each.
        movement: how states move, None without told states.
    """

    path: Path
    format: str
    dialogues: int = 0
    turns: int = 0
    histogram: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    mean: float | None = None
    situations: int = 0
    words: float = 0.0
    problems: tuple[Problem, ...] = ()
    uses: tuple[str, ...] = ()
    rows: int = 0
    notes: tuple[str, ...] = ()
    movement: Movement | None = None

    @property
    def rated(self) -> float:
        """Share of turns with a rating, 0-1."""
        return sum(self.histogram) / self.turns if self.turns else 0.0


def describe(paths: Sequence[str | Path]) -> list[FileSummary]:
    """One summary per file, a file of no known format included.

    Raises:
        DataError: as ``load_conversations`` does, or no file at all is of a known format.
    """
    files = list(load_files(paths))
    strange = [file for file in files if isinstance(file, Unknown)]
    if len(strange) == len(files) and not all(file.searched for file in strange):
        raise strange[0].error
    found = [
        _summary(file)
        if isinstance(file, LoadedFile)
        else FileSummary(file.path, "unknown", problems=(Problem(str(file.path), file.error.what),))
        for file in files
    ]
    pieces = [piece for file in files if isinstance(file, LoadedFile) for piece in file.loaded.pieces]
    return _with_pieces(found, pieces, id_lists(paths)) if pieces else found


def _with_pieces(found: Sequence[FileSummary], pieces: Sequence[Piece], wanted: Sequence[str]) -> list[FileSummary]:
    """The summaries, those of files with pieces saying what the pieces of all files make together."""
    try:
        opened, problems = sotopia_cast.join(pieces, wanted)
    except RowError as error:
        raise DataError(str(error), fix="give the folder that holds env_id_lists.json") from None
    names = sotopia_cast.list_names(pieces)
    lists = ", ".join(f"{len(sotopia_cast.join(pieces, [name])[0]):,} in {name}" for name in names)
    note = f"{len(opened):,} scenarios{f' ({lists})' if lists else ''}"
    owners = {piece.source.rpartition(":")[0] for piece in pieces}
    result = []
    for one in found:
        own = tuple(problem for problem in problems if problem.source.rpartition(":")[0] == str(one.path))
        if str(one.path) in owners and opened:
            one = replace(one, uses=("scenarios",), notes=(note,) if one.format == sotopia.COMBINATIONS else ())
        result.append(replace(one, problems=one.problems + own))
    return result


def _summary(file: LoadedFile) -> FileSummary:
    loaded = file.loaded
    talks, dialogues = loaded.conversations, loaded.dialogues
    ratings = [rating for talk in talks for rating in _turn_ratings(talk) if rating is not None]
    states = [turn.reaction.state for dialogue in dialogues for turn in dialogue.turns]
    fifths = [_fifth(turn.reaction.state, one.scenario.scale) for one in dialogues for turn in one.turns]
    counts = [int(rating + 0.5) - 1 for rating in ratings] + fifths
    one, two, three, four, five = (counts.count(level) for level in range(5))
    return FileSummary(
        path=file.path,
        format=file.format,
        dialogues=len(talks) + len(dialogues),
        turns=sum(len(_turn_ratings(talk)) for talk in talks) + len(states),
        histogram=(one, two, three, four, five),
        mean=fmean(ratings + states) if ratings or states else None,
        situations=len({scenario.situation for scenario in loaded.scenarios if scenario.situation}),
        words=_words(loaded),
        problems=loaded.problems,
        uses=_uses(loaded, bool(ratings)),
        rows=len(talks) + len(dialogues) + len(loaded.situations) + len(loaded.negotiations) + len(loaded.pieces),
        notes=_domains(loaded),
        movement=_movement(dialogues),
    )


def _uses(loaded: Loaded, rated: bool) -> tuple[str, ...]:
    uses = {
        "sft": bool(loaded.conversations),
        "replay": rated,
        "study": bool(loaded.dialogues),
        "scenarios": bool(loaded.scenarios),
    }
    return tuple(name for name, fits in uses.items() if fits)


def _domains(loaded: Loaded) -> tuple[str, ...]:
    """How many scenarios of each kind, for a file that holds both."""
    support, negotiations = len(loaded.situations), len(loaded.negotiations)
    return (f"{support:,} of support, {negotiations:,} of negotiation",) if support and negotiations else ()


def _words(loaded: Loaded) -> float:
    said = [talk.messages for talk in loaded.conversations] + [dialogue.messages for dialogue in loaded.dialogues]
    texts = [message.content for messages in said for message in messages if message.role != "system"]
    texts = texts or list({scenario.situation for scenario in loaded.scenarios})
    return sum(len(_WORD.findall(text)) for text in texts) / max(1, len(texts))


def _turn_ratings(talk: Conversation) -> tuple[float | None, ...]:
    """The ratings of the user messages that answer a reply: all, or all but the one that opens the talk."""
    return talk.ratings[1:] if talk.messages[0].role == "user" else talk.ratings


def _fifth(state: float, scale: Scale) -> int:
    """Which fifth of the scale a state lies in, 0-4."""
    return min(4, int(5 * (state - scale.low) / (scale.high - scale.low)))


def _movement(dialogues: Sequence[Dialogue]) -> Movement | None:
    states = [state for dialogue in dialogues for state in dialogue.trajectory]
    changes = [after - before for dialogue in dialogues for before, after in pairwise(dialogue.trajectory)]
    if not changes:
        return None
    scale = dialogues[0].scenario.scale
    width = scale.high - scale.low
    return Movement(
        scale=scale,
        mean=fmean(states),
        spread=pstdev(states),
        change=fmean(changes),
        up=fmean(change > 0 for change in changes),
        down=fmean(change < 0 for change in changes),
        moved=fmean(abs(change) >= width / 20 for change in changes),
        leapt=fmean(abs(change) >= width / 10 for change in changes),
        least=min(changes),
        most=max(changes),
    )


def print_summary(summaries: Sequence[FileSummary], console: Console, named: int = 3) -> None:
    """A table with a row per file, then what else there is to say of each file and its first ``named`` problems."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("file", overflow="fold")
    table.add_column("format", no_wrap=True)
    for name in ("rows", "turns", "rated", "mean", "words"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("1..5", no_wrap=True)
    table.add_column("use as", no_wrap=True)
    for one in summaries:
        table.add_row(*(Text(cell) for cell in _cells(one)))
    console.print(table)
    for one in summaries:
        notes = [*one.notes, *([str(one.movement)] if one.movement else [])]
        for note in notes:
            console.print(Text(f"{_plain(one.path.name)}  {_plain(note)}"))
        lines = [f"left out  {_plain(str(problem))}" for problem in one.problems[:named]]
        if len(one.problems) > named:
            lines.append(f"left out  {len(one.problems) - named:,} more in {_plain(one.path.name)}")
        for line in lines:
            console.print(Text(line, style="yellow"))


def _cells(one: FileSummary) -> tuple[str, ...]:
    """The row of a file."""
    turns = f"{one.turns:,}" if one.turns else "-"
    rated = f"{one.rated:.0%}" if one.turns else "-"
    mean = "-" if one.mean is None else f"{one.mean:.2f}"
    words = f"{one.words:.0f}" if one.words else "-"
    uses = ", ".join(use for use in one.uses if use != "scenarios" or len(one.uses) == 1) or "nothing"
    return (
        _plain(one.path.name),
        one.format,
        f"{one.rows:,}",
        turns,
        rated,
        mean,
        words,
        _bars(one.histogram),
        uses,
    )


def _bars(histogram: Sequence[int]) -> str:
    """The histogram as five bars of eight heights; a dot where nothing was counted."""
    top = max(histogram)
    return "".join("▁▂▃▄▅▆▇█"[(8 * count - 1) // top] if count else "·" for count in histogram)


def _plain(text: str) -> str:
    """``text`` on one line without terminal sequences and control characters."""
    text = " ".join(_ANSI.sub("", text).split())
    return "".join(char for char in text if char.isprintable())
