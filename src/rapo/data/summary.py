"""What a data file holds and what it is good for, in figures and as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rapo.data.conversation import Conversation, Problem
from rapo.data.formats import LoadedFile, load_files

if TYPE_CHECKING:
    from rich.console import Console

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")


@dataclass(frozen=True, slots=True)
class FileSummary:
    """The figures of one file.

    Attributes:
        path: the file.
        format: the format it was recognised as; "unknown" for a file of no known format met in a folder.
        dialogues: usable conversations.
        turns: replies that a user answered, a greeting included.
        histogram: how many turns were rated 1, 2, 3, 4, 5 (a fraction counts for the nearest).
        mean: mean rating, None without ratings.
        situations: distinct situations.
        words: mean words per message; per situation where there are no conversations.
        problems: rows left out, all of them.
        uses: what RAPO can do with it: "sft" (learn the replies), "replay" (react as the rated people did),
            "scenarios" (start a dialogue); () for an unknown format.
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

    @property
    def rated(self) -> float:
        """Share of turns with a rating, 0-1."""
        return sum(self.histogram) / self.turns if self.turns else 0.0


def describe(paths: Sequence[str | Path]) -> list[FileSummary]:
    """One summary per file.

    Raises:
        DataError: as ``load_conversations`` does.
    """
    return [
        _summary(item) if isinstance(item, LoadedFile) else FileSummary(Path(item.source), "unknown", problems=(item,))
        for item in load_files(paths)
    ]


def _summary(file: LoadedFile) -> FileSummary:
    talks = file.loaded.conversations
    ratings = [rating for talk in talks for rating in _turn_ratings(talk) if rating is not None]
    situations = {scenario.situation for scenario in file.loaded.scenarios if scenario.situation}
    texts = [message.content for talk in talks for message in talk.messages] or list(situations)
    counts = [int(rating + 0.5) for rating in ratings]
    one, two, three, four, five = (counts.count(level) for level in range(1, 6))
    return FileSummary(
        path=file.path,
        format=file.format,
        dialogues=len(talks),
        turns=sum(len(_turn_ratings(talk)) for talk in talks),
        histogram=(one, two, three, four, five),
        mean=sum(ratings) / len(ratings) if ratings else None,
        situations=len(situations),
        words=sum(len(text.split()) for text in texts) / len(texts),
        problems=file.loaded.problems,
        uses=(*(["sft"] if talks else []), *(["replay"] if ratings else []), "scenarios"),
    )


def _turn_ratings(talk: Conversation) -> tuple[float | None, ...]:
    """The ratings of the user messages that answer a reply: all, or all but the one that opens the talk."""
    return talk.ratings[1:] if talk.messages[0].role == "user" else talk.ratings


def print_summary(summaries: Sequence[FileSummary], console: Console, named: int = 3) -> None:
    """A table with a row per file, then the first ``named`` problems of each file and how many more there are."""
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
        lines = [f"left out  {_plain(str(problem))}" for problem in one.problems[:named]]
        if len(one.problems) > named:
            lines.append(f"left out  {len(one.problems) - named:,} more in {_plain(one.path.name)}")
        for line in lines:
            console.print(Text(line, style="yellow"))


def _cells(one: FileSummary) -> tuple[str, ...]:
    """The row of a file; a situation counts as a row where there are no dialogues."""
    turns = f"{one.turns:,}" if one.turns else "-"
    rated = f"{one.rated:.0%}" if one.turns else "-"
    mean = "-" if one.mean is None else f"{one.mean:.2f}"
    uses = ", ".join(use for use in one.uses if use != "scenarios" or len(one.uses) == 1) or "nothing"
    rows = f"{one.dialogues or one.situations:,}"
    return _plain(one.path.name), one.format, rows, turns, rated, mean, f"{one.words:.0f}", _bars(one.histogram), uses


def _bars(histogram: Sequence[int]) -> str:
    """The histogram as five bars of eight heights; a dot where nothing was counted."""
    top = max(histogram)
    return "".join("▁▂▃▄▅▆▇█"[(8 * count - 1) // top] if count else "·" for count in histogram)


def _plain(text: str) -> str:
    """``text`` on one line without terminal sequences and control characters."""
    text = " ".join(_ANSI.sub("", text).split())
    return "".join(char for char in text if char.isprintable())
