"""Plots of runs for a paper: one column wide, as SVG and PNG, drawn from the run directories alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rapo.report.overview import Samples, add_dialogue
from rapo.report.plot_style import GREY, PALETTE, STYLE, Point, band, dot, name_ends, save
from rapo.report.reading import Json, RunFiles, read_run
from rapo.show import printable

COLUMN = 3.35  # inches: a column of most two-column papers
DPI = 300
PHASES = ("play", "branch", "judge", "correct", "update", "idle")
Line = Sequence[Point]


@dataclass(frozen=True, slots=True)
class Run:
    """A run and how it is drawn.

    Attributes:
        name: of its folder; with the folder above it where another run is called the same.
        files: what it holds.
        changes: step, mean change of state over a talk, and its 95% interval.
        state: what the state is called.
    """

    name: str
    files: RunFiles
    changes: Line
    state: str

    def metric(self, name: str) -> list[tuple[float, float]]:
        """Step and value wherever a metric was measured."""
        return [(row["step"], row[name]) for row in self.files.metrics if row.get(name) is not None]


def draw(folders: Sequence[Path], out: Path) -> Iterator[Path]:
    """Draw every plot that the runs have data for into a folder; the files. Raises RunError for what is no run."""
    runs = _runs(folders)
    plots: dict[str, Callable[[Sequence[Run]], Figure | None]] = {
        "learning": _learning,
        "teacher-lift": _teacher_lift,
        "before-after": _before_after,
        "phases": _phases,
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, plot in plots.items():
        with mpl.rc_context(STYLE):
            figure = plot(runs)
        if figure is not None:
            yield from save(figure, out, name, dpi=DPI)


def _runs(folders: Sequence[Path]) -> list[Run]:
    resolved = [folder.resolve() for folder in folders]
    seen = Counter(path.name for path in resolved)
    names = [path.name if seen[path.name] == 1 else f"{path.parent.name}/{path.name}" for path in resolved]
    return [_run(printable(name), read_run(folder)) for name, folder in zip(names, folders, strict=True)]


def _run(name: str, files: RunFiles) -> Run:
    samples, state = Samples(), "state"
    for row in files.records("dialogues"):
        add_dialogue(samples, row["step"], row["dialogue"])
        state = row["dialogue"]["scenario"]["scale"]["name"]
    means = {row["step"]: row.get("state_change") for row in files.metrics}
    found = samples.intervals().get("state_change", [])
    changes = [(step, float(mean), low, high) for step, low, high in found if (mean := means.get(step)) is not None]
    return Run(name, files, changes, printable(state))


def _learning(runs: Sequence[Run]) -> Figure | None:
    """Per step the mean change of state over a talk of training, with its interval over talks."""
    shown = [run for run in runs if run.changes]
    if not shown:
        return None
    figure, axes = _figure(2.1)
    colours = _colours(runs)
    for run in shown:
        band(axes, run.changes, colours[run.name])
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="step", ylabel=f"{shown[0].state} gained over a talk")
    _steps(axes, {run.name: run.changes[-1][1] for run in shown} if len(shown) > 1 else {}, colours)
    return figure


def _teacher_lift(runs: Sequence[Run]) -> Figure | None:
    """How often a correction's echo beats the reply's; dashed, how often another sample does."""
    shown = [run for run in runs if run.metric("teacher_lift")]
    if not shown:
        return None
    figure, axes = _figure(2.1)
    colours = _colours(runs)
    for run in shown:
        for metric, look in (("lift_by_chance", "--"), ("teacher_lift", "-")):
            if line := run.metric(metric):
                width = 1.6 if look == "-" else 1.0
                steps, values = zip(*line, strict=True)
                axes.plot(steps, values, color=colours[run.name], linestyle=look, linewidth=width)
    axes.set(xlabel="step", ylabel="echo beats the reply's", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter("{x:.0%}")
    _steps(axes, {run.name: run.metric("teacher_lift")[-1][1] for run in shown} if len(shown) > 1 else {}, colours)
    told = Line2D([], [], color=GREY, label="critique read")
    _key(figure, told, Line2D([], [], color=GREY, linestyle="--", linewidth=1.0, label="sampled again"))
    return figure


def _before_after(runs: Sequence[Run]) -> Figure | None:
    """The main score of every evaluation by users, before (hollow) and after (full) training, with intervals."""
    colours, rows = _colours(runs), list[tuple[str, str, Mapping[str, Json]]]()
    for run in runs:
        results = [
            each for each in run.files.results if each["kind"] == "policy" and each["moment"] in ("before", "after")
        ]
        for suite, users in dict.fromkeys((each["suite"], each["users"]) for each in results):
            pair = {each["moment"]: each for each in results if (each["suite"], each["users"]) == (suite, users)}
            whose = printable(users).replace("_", " ")
            label = whose if len(runs) == 1 else f"{run.name}: {whose}"
            rows.append((label, colours[run.name], pair))
    if not rows:
        return None
    figure, axes = _figure(0.75 + 0.3 * len(rows))
    for place, (_, colour, mine) in enumerate(rows):
        for moment, shift in (("before", -0.13), ("after", 0.13)):
            if moment in mine:
                dot(axes, place + shift, _point(mine[moment]), colour, full=moment == "after")
    axes.axvline(0, color=GREY, linewidth=0.8)
    mains = dict.fromkeys(each["main"] for _, _, mine in rows for each in mine.values())
    states = dict.fromkeys(run.state for run in runs)
    unit = f"{'/'.join(states)} gained over a talk" if list(mains) == ["change"] else " / ".join(mains)
    axes.set(yticks=range(len(rows)), yticklabels=[label for label, _, _ in rows], xlabel=unit)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor="black")
    axes.grid(axis="y", visible=False)
    _key(figure, _mark("before", "o", GREY, "white"), _mark("after", "o", GREY))
    return figure


def _phases(runs: Sequence[Run]) -> Figure | None:
    """Mean seconds of a step in each phase, one bar per run."""
    shown = [run for run in runs if run.files.metrics]
    means = [{name: _mean_seconds(run, name) for name in PHASES} for run in shown]
    names = [name for name in PHASES if any(mean[name] > 0 for mean in means)]
    if not names:
        return None
    figure, axes = _figure(0.95 + 0.28 * len(shown))
    for place, mean in enumerate(means):
        left = 0.0
        for name, colour in zip(PHASES, (*PALETTE[:5], GREY), strict=True):
            axes.barh(place, mean[name], 0.6, left=left, color=colour, edgecolor="white", linewidth=0.6)
            left += mean[name]
    axes.set(yticks=range(len(shown)), yticklabels=[run.name for run in shown], xlabel="seconds per step")
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor="black")
    axes.grid(axis="y", visible=False)
    looks = zip(PHASES, (*PALETTE[:5], GREY), strict=True)
    bars = [_mark(name, "s", colour) for name, colour in looks if name in names]
    _key(figure, *bars, columnspacing=0.7, handletextpad=0.0, fontsize=7)
    return figure


def _mean_seconds(run: Run, phase: str) -> float:
    return fmean(row.get(f"seconds_{phase}") or 0.0 for row in run.files.metrics)


def _point(result: Json) -> tuple[float, float, float]:
    figure = result["figures"][result["main"]]
    return (figure["mean"], figure["low"], figure["high"]) if isinstance(figure, dict) else (figure, figure, figure)


def _colours(runs: Sequence[Run]) -> dict[str, str]:
    return {run.name: PALETTE[place % len(PALETTE)] for place, run in enumerate(runs)}


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    return figure, figure.subplots()


def _steps(axes: Axes, ends: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Whole steps on the axis, and each line's name at its end."""
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    name_ends(axes, ends, colours, gap=0.1)


def _mark(name: str, marker: str, colour: str, face: str | None = None) -> Line2D:
    return Line2D(
        [], [], linestyle="", marker=marker, markersize=5, color=colour, markerfacecolor=face or colour, label=name
    )


def _key(figure: Figure, *handles: Line2D, fontsize: float = 7.5, **spaces: Any) -> None:
    """What the marks are, above the axes."""
    where: Any = {"loc": "outside upper right", "ncols": len(handles), "frameon": False, "fontsize": fontsize}
    figure.legend(handles=handles, **where, **spaces)
