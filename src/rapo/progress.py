"""Progress of long work: a bar where a person watches, plain lines where none does, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rapo.records import to_json

FIGURES_WIDTH = 74  # of everything beside the bar, at its longest


class Bar(Protocol):
    """One stage's progress."""

    def __call__(self, done: int, figures: Mapping[str, str] | None = None) -> None:
        """``done`` units are done; ``figures`` are shown beside the bar."""
        ...


class Terminal:
    """Where a run tells how it is going; ``quiet`` keeps it to results and warnings."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self.errors = Console(stderr=True, highlight=False, markup=False, emoji=False)
        if self.console.is_terminal and self.errors.is_terminal:
            # Two consoles on one screen would write into each other's moving parts.
            self.errors = self.console

    @property
    def live(self) -> bool:
        """Whether a person watches a terminal that can redraw."""
        able = self.console.is_terminal and not self.console.is_dumb_terminal and not self.console.options.ascii_only
        return able and not self.quiet

    def say(self, text: str, style: str | None = None) -> None:
        """A line on how it is going."""
        if not self.quiet:
            self.report(text, style)

    def report(self, text: str, style: str | None = None) -> None:
        """A line of the result."""
        # Lines are left whole, so that a command in one can be copied.
        self.console.print(text, style=style, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that is shown even when quiet."""
        self.errors.print(f"warning: {text}", style="yellow", soft_wrap=True)

    def event(self, name: str, **data: Any) -> None:
        """What happened, for programs; people are told otherwise."""

    def progress(self, title: str, done: int, total: int, seconds: float, figures: Mapping[str, str]) -> None:
        """A line on how far a stage is."""
        self.say(f"{title:<14} {done}/{total}  {seconds:.0f}s  {_text(figures)}".rstrip())

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Bar]:
        """Show the progress of ``total`` units of work."""
        if self.live:
            with self._bar(title, total) as bar:
                yield bar
        else:
            yield _Lines(self, title, total)

    @contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Bar]:
        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(
                max(4, min(28, self.console.width - FIGURES_WIDTH)), complete_style="cyan", finished_style="green"
            ),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(title, total=total, figures="")
            yield lambda done, figures=None: progress.update(task, completed=done, figures=_text(figures))


class Events(Terminal):
    """One JSON object per event and line on stdout, and nothing else there: other prints go to stderr from here on.

    Quiet keeps warnings, alarms and the result.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(quiet=quiet)
        self._out, sys.stdout = sys.stdout, sys.stderr
        self.console = Console(quiet=True)

    def event(self, name: str, **data: Any) -> None:
        """Write it; numbers that are not finite are null."""
        self._out.write(json.dumps({"event": name, **to_json(data)}, allow_nan=False) + "\n")
        self._out.flush()

    def report(self, text: str, style: str | None = None) -> None:
        """A line as an event."""
        self.event("text", text=text)

    def warn(self, text: str) -> None:
        """A warning as an event."""
        self.event("warning", text=text)

    def progress(self, title: str, done: int, total: int, seconds: float, figures: Mapping[str, str]) -> None:
        """About ten events per stage."""
        if not self.quiet:
            self.event("progress", stage=title, done=done, total=total, seconds=round(seconds, 1))


class _Lines:
    """About ten plain lines per stage."""

    def __init__(self, terminal: Terminal, title: str, total: int) -> None:
        self.terminal, self.title, self.total, self.start, self.shown = terminal, title, total, time.monotonic(), -1
        self(0)

    def __call__(self, done: int, figures: Mapping[str, str] | None = None) -> None:
        tenth = 10 * done // max(1, self.total)
        if tenth != self.shown:
            self.shown = tenth
            self.terminal.progress(self.title, done, self.total, time.monotonic() - self.start, figures or {})


def _text(figures: Mapping[str, str] | None) -> str:
    return "  ".join(f"{name} {value}" for name, value in (figures or {}).items())
