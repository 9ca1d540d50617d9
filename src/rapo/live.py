"""The training steps while they happen: a board where a person watches, plain lines or events where none does.

A board is a frozen value that each event replaces, so that the thread that draws it needs no lock, and drawing is a
function of that value, the time and the width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rapo.progress import Bar, Events, Terminal
from rapo.show import printable
from rapo.types import Candidate, Group

TITLE = "reinforce"
FIGURES = {
    "state change": "state_change",
    "teacher lift": "teacher_lift",
    "entropy": "entropy",
    "KL to start": "kl_to_start",
    "variety": "distinct_2",
}
LEVELS = "▁▂▃▄▅▆▇"  # a full block would touch the line above
PHASES = ("play", "branch", "judge", "correct", "update")
FRAMES = 4  # a second
NARROW = 64  # columns below which ranges and clocks are left out
HISTORY = 1000  # steps that are drawn


class Watcher(Protocol):
    """Hears of every step."""

    def phase(self, name: str) -> None:
        """A phase of a step begins, or goes on where phases take turns."""
        ...

    def alarm(self, number: int, text: str) -> None:
        """Something became alarming with a step, before that step is told."""
        ...

    def step(self, number: int, metrics: Mapping[str, float], groups: Sequence[Group], standing: Sequence[str]) -> None:
        """A step is done; ``standing`` names what is alarming now."""
        ...


@contextmanager
def watch(terminal: Terminal, steps: int, history: Sequence[Mapping[str, float]] = ()) -> Iterator[Watcher]:
    """Show the training steps in the way of the terminal; ``history`` are the metrics of the steps already done."""
    if isinstance(terminal, Events):
        yield _Told(terminal, steps)
    elif terminal.live:
        shown = _Shown(terminal, begin(steps, history))
        with Live(get_renderable=shown.draw, console=terminal.console, refresh_per_second=FRAMES):
            yield shown
    else:
        with terminal.stage(TITLE, steps) as bar:
            bar(len(history))
            yield _Lines(terminal, bar)


@dataclass(frozen=True, slots=True)
class _Lines:
    terminal: Terminal
    bar: Bar

    def phase(self, name: str) -> None:
        pass

    def alarm(self, number: int, text: str) -> None:
        self.terminal.warn(f"step {number}: {text}")

    def step(self, number: int, metrics: Mapping[str, float], groups: Sequence[Group], standing: Sequence[str]) -> None:
        shown = {"change": "state_change", "lift": "teacher_lift", "kl": "kl_to_start"}
        known = {label: metrics.get(name, math.nan) for label, name in shown.items()}
        self.bar(number, {label: f"{value:.2f}" for label, value in known.items() if math.isfinite(value)})


@dataclass(frozen=True, slots=True)
class _Told:
    terminal: Events
    steps: int

    def phase(self, name: str) -> None:
        pass

    def alarm(self, number: int, text: str) -> None:
        self.terminal.event("alarm", step=number, text=text)

    def step(self, number: int, metrics: Mapping[str, float], groups: Sequence[Group], standing: Sequence[str]) -> None:
        if self.terminal.quiet:
            return
        said = {name: told.as_json() for name, told in (extremes(groups) or {}).items()}
        self.terminal.event(
            "step", step=number, steps=self.steps, metrics=metrics, standing_alarms=standing, last_group=said
        )


@dataclass(frozen=True, slots=True)
class Said:
    """A candidate in one line: what it said, what came back, and how the user's state changed."""

    reply: str
    echo: str
    change: float

    def as_json(self) -> dict[str, str | float]:
        """For programs."""
        return {"reply": self.reply, "echo": self.echo, "change": self.change}


def extremes(groups: Sequence[Group]) -> dict[str, Said] | None:
    """The best and the worst candidate of the last group, by rank or, without feedback, by state; None for no group."""
    group = next((group for group in reversed(groups) if group.candidates), None)
    if group is None:
        return None
    before = group.pivot.dialogue.trajectory[-1]

    def said(candidate: Candidate) -> Said:
        reaction = candidate.reaction
        return Said(candidate.completion.text, reaction.text, reaction.state - before)

    ranks = [each.rank for each in group.feedback or ()] or [-each.reaction.state for each in group.candidates]
    ordered = [
        candidate for _, candidate in sorted(zip(ranks, group.candidates, strict=True), key=lambda pair: pair[0])
    ]
    return {"best": said(ordered[0]), "worst": said(ordered[-1])}


@dataclass(frozen=True, slots=True)
class Board:
    """What is shown.

    Attributes:
        steps: of the whole run.
        done: how many of them.
        began, at_first: when this process began (seconds), and how many were done then.
        phase, since: the phase under way and when it began.
        seconds: of each phase in the last step.
        history: the values of each metric of ``FIGURES``, step by step; NaN where there was none.
        standing: names of what is alarming.
        said: the best and the worst candidate of the last group.
    """

    steps: int
    done: int
    began: float
    at_first: int
    phase: str = ""
    since: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    standing: tuple[str, ...] = ()
    said: Mapping[str, Said] = field(default_factory=dict)

    def after(
        self, number: int, metrics: Mapping[str, float], groups: Sequence[Group], standing: Sequence[str]
    ) -> Board:
        """The board one step later."""
        return replace(
            self,
            done=number,
            phase="",
            seconds={name: metrics.get(f"seconds_{name}", 0.0) for name in PHASES},
            history={
                name: (*self.history.get(name, ()), metrics.get(name, math.nan))[-HISTORY:] for name in FIGURES.values()
            },
            standing=tuple(standing),
            said=extremes(groups) or self.said,
        )


def begin(steps: int, history: Sequence[Mapping[str, float]]) -> Board:
    """The board before the first step of this process."""
    known = {name: tuple(row.get(name, math.nan) for row in history)[-HISTORY:] for name in FIGURES.values()}
    return Board(steps, len(history), time.monotonic(), len(history), history=known)


class _Shown:
    """The board on the screen."""

    def __init__(self, terminal: Terminal, board: Board) -> None:
        self.terminal, self.board = terminal, board

    def draw(self) -> RenderableType:
        return draw(self.board, time.monotonic(), self.terminal.console.width)

    def phase(self, name: str) -> None:
        self.board = replace(self.board, phase=name, since=time.monotonic())

    def alarm(self, number: int, text: str) -> None:
        self.terminal.warn(f"step {number}: {text}")

    def step(self, number: int, metrics: Mapping[str, float], groups: Sequence[Group], standing: Sequence[str]) -> None:
        self.board = self.board.after(number, metrics, groups, standing)


def draw(board: Board, now: float, width: int) -> RenderableType:
    """The board at a time, for a terminal of ``width`` columns; no line is longer."""
    parts = [_bar(board, now, width), _phases(board, now, width), Text(""), _figures(board, width), _alarms(board)]
    if board.said:
        parts += [
            Text(""),
            Text("last group: reply → what the user said", style="dim", no_wrap=True, overflow="ellipsis"),
            _said(board),
        ]
    return Stack(*parts)


def _bar(board: Board, now: float, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    passed, fresh = now - board.began, board.done - board.at_first
    clock = _clock(passed)
    if fresh and board.done < board.steps:
        clock += f", {_clock(passed / fresh * (board.steps - board.done))} left"
    told = f"{board.done}/{board.steps}" + (f"  {clock}" if width >= NARROW else "")
    bar = ProgressBar(total=max(1, board.steps), completed=board.done, complete_style="cyan", finished_style="green")
    grid.add_row(Text(TITLE, style="bold"), bar, Text(told, style="cyan"))
    return grid


def _phases(board: Board, now: float, width: int) -> Text:
    """The phases in their order, with the seconds of the last step; the one under way with its own."""
    line = Text(no_wrap=True, overflow="ellipsis")
    for name in PHASES:
        mine = name == board.phase
        seconds = now - board.since if mine else board.seconds.get(name, 0.0)
        told = f" {seconds:.1f}s" if width >= NARROW and (mine or board.seconds) else ""
        line.append(f"{name}{told}", style="reverse" if mine else "dim")
        line.append("  " if width >= NARROW else " ")
    return line


def _figures(board: Board, width: int) -> RenderableType:
    """Per figure the newest value, on wide terminals the lowest and highest, and all as a line of blocks."""
    wide = width >= NARROW
    grid = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right", "left") if wide else ("left", "right", "left"):
        grid.add_column(no_wrap=True, justify=justify)
    for label, name in FIGURES.items():
        values = board.history.get(name, ())
        known = [value for value in values if math.isfinite(value)]
        span = [Text(f"{min(known):.2f} to {max(known):.2f}" if known else "", style="dim")] if wide else []
        newest = Text(f"{known[-1]:.2f}" if known else "-", style="bold")
        grid.add_row(Text(label), newest, *span, Text(spark(values, width - (44 if wide else 24)), style="cyan"))
    return grid


def _alarms(board: Board) -> Text:
    line = Text("alarms        ", no_wrap=True, overflow="ellipsis")
    if board.standing:
        return line.append(", ".join(board.standing), style="bold yellow")
    return line.append("none", style="green")


def _said(board: Board) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, None, 1, None, 1):
        grid.add_column(no_wrap=True, ratio=ratio, overflow="ellipsis")
    for name, said in board.said.items():
        change = Text(f"{said.change:+.1f}", style="green" if said.change > 0 else "red")
        grid.add_row(
            Text(name), change, Text(printable(said.reply)), Text("→", style="dim"), Text(printable(said.echo))
        )
    return grid


def spark(values: Sequence[float], width: int) -> str:
    """A line of at most ``width`` columns: a block per value, or per mean of neighbours where there are more.

    The lowest and highest twentieths of a long line are drawn as their ends, so that one outlier does not flatten the
    rest. A value that is not there is a gap.
    """
    size = math.ceil(len(values) / max(1, width)) or 1
    means = [_mean(values[start : start + size]) for start in range(0, len(values), size)]
    known = sorted(value for value in means if math.isfinite(value))
    if not known:
        return " " * len(means)
    cut = len(known) // 20
    low, high = known[cut], known[-1 - cut]
    return "".join(_level(value, low, high) for value in means)


def _level(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    if high <= low:
        return LEVELS[len(LEVELS) // 2]
    share = (min(high, max(low, value)) - low) / (high - low)
    return LEVELS[min(len(LEVELS) - 1, int(share * len(LEVELS)))]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
