"""Plots of the learning study: the colours of Okabe and Ito, names beside the lines, bands that are 95% intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from learning_arms import MAIN, SWEEPS
from learning_figures import AWAY, HOME, World
from rapo.evals.stats import Interval
from rapo.report.plot_style import BLUE, GREEN, GREY, OCHRE, ORANGE, PURPLE, RED, SKY, STYLE, band, dot, name_ends, save

COLOURS: Mapping[str, str] = {
    "SFT": GREY,
    "GRPO": RED,
    "GRPO and replay": ORANGE,
    "distillation, own tokens": PURPLE,
    "distillation, corrections": GREEN,
    "RAPO": BLUE,
    "RAPO, random turns": SKY,
    "RAPO, largest changes": "#7a4a2b",
    "RAPO, no echoes": "#000000",
    "RAPO, all verified": OCHRE,
}
SHORT = {"distillation, own tokens": "distil own tokens", "distillation, corrections": "distil corrections"}
PANELS: Mapping[str, Sequence[str]] = {
    "whole and halves": ("GRPO", "distillation, own tokens", "distillation, corrections", "RAPO"),
    "parts": (
        "GRPO and replay",
        "RAPO, random turns",
        "RAPO, largest changes",
        "RAPO, no echoes",
        "RAPO, all verified",
        "RAPO",
    ),
}
UNITS = {"support": "ease gained over a talk", "bargaining": "surplus gained, tenths"}
Line = Sequence[tuple[float, Interval]]


def draw(worlds: Sequence[World], folder: Path) -> Iterator[Path]:
    """Draw every plot that there are runs for, one of each world, as PNG and SVG; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"learning": _learning, "final": _final, "teacher": _teacher, "sweeps": _sweeps}
    for world in worlds:
        for name, plot in plots.items():
            if name == "sweeps" and not _swept(world):
                continue
            with mpl.rc_context(STYLE):
                figure = plot(world)
            yield from save(figure, folder, f"study-{name}-{world.name}", dpi=130)


def _learning(world: World) -> Figure:
    figure = Figure(figsize=(4.6 * len(PANELS), 2.9), layout="constrained")
    for axes, (name, arms) in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS.items(), strict=True):
        axes.set_title(name)
        best = [world.best("GRPO", SWEEPS["rival"])] if "GRPO" in arms else []
        lines = {arm: world.curve(arm) for arm in dict.fromkeys((*best, *arms)) if arm in world.runs}
        _lines(axes, world, lines)
        if "SFT" in world.runs:
            _level(axes, world.score("SFT", HOME).mean, "start policy")
    figure.axes[0].set_ylabel(f"{UNITS[world.name]}, familiar")
    return figure


def _teacher(world: World) -> Figure:
    figure = Figure(figsize=(9.2, 2.7), layout="constrained")
    lift, variety = figure.subplots(1, 2)
    if "RAPO" in world.runs:
        lines = {"critique": "teacher_lift", "sampling again": "lift_by_chance"}
        colours = {"critique": COLOURS["RAPO"], "sampling again": GREY}
        _lines(lift, world, {name: world.logged("RAPO", key) for name, key in lines.items()}, colours)
    lift.set(ylim=(0, 1), ylabel="better than the reply\n(share of echoes)")
    arms = [arm for arm in ("GRPO", "GRPO and replay", "distillation, corrections", "RAPO") if arm in world.runs]
    _lines(variety, world, {arm: world.logged(arm, "distinct_2") for arm in arms})
    variety.set_ylabel("distinct-2 of the\ncandidates of a step")
    variety.set_ylim(bottom=0)
    return figure


def _final(world: World) -> Figure:
    return _dots(world, list(MAIN), lambda arm, population: world.score(arm, population), UNITS[world.name])


def _sweeps(world: World) -> Figure:
    def less(arm: str, population: str) -> Interval:
        return world.against(arm, "RAPO", population).difference

    arms = _swept(world)
    figure = _dots(world, arms, less, f"{UNITS[world.name]}, less RAPO")
    figure.axes[0].axvline(0, color=GREY, linewidth=0.8)
    # The interval of two seeds may be wider than all that is found together: it runs off the plot.
    means = [0.0, *(less(arm, population).mean for arm in arms for population in (HOME, AWAY))]
    margin = (max(means) - min(means)) / 3
    figure.axes[0].set_xlim(min(means) - margin, max(means) + margin)
    return figure


def _dots(world: World, arms: Iterable[str], value: Callable[[str, str], Interval], label: str) -> Figure:
    """A line per arm that the world has, with a dot and its interval for each population."""
    arms = [arm for arm in arms if arm in world.runs]
    figure = Figure(figsize=(6.6, 1.0 + 0.23 * len(arms)), layout="constrained")
    axes = figure.subplots()
    for place, arm in enumerate(arms):
        for population, shift in ((HOME, -0.14), (AWAY, 0.14)):
            found = value(arm, population)
            colour = COLOURS.get(arm, COLOURS["RAPO"])
            dot(axes, place + shift, (found.mean, found.low, found.high), colour, full=population == HOME)
    axes.set(xlabel=label, yticks=range(len(arms)), yticklabels=arms)
    axes.set_ylim(len(arms) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor="black")
    axes.grid(axis="y", visible=False)
    _key(figure)
    return figure


def _swept(world: World) -> list[str]:
    """The arms of sweeps that can be set beside RAPO."""
    return [arm for sweep in SWEEPS.values() for arm in sweep if world.seeds(arm, "RAPO")]


def _lines(axes: Axes, world: World, lines: Mapping[str, Line], colours: Mapping[str, str] = COLOURS) -> None:
    """Means with bands, each named at its right end; a line without a colour is GRPO with other settings."""
    other = dict.fromkeys(lines, COLOURS["GRPO"])
    colours = {**other, **colours}
    for name, line in lines.items():
        points = [(at, value.mean, value.low, value.high) for at, value in line]
        band(axes, points, colours[name], dashed=name in SWEEPS["rival"])
    axes.set_xlim(0, world.calls * 1.02)
    axes.set_xlabel("simulator calls")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.autoscale_view()
    ends = {SHORT.get(name, name): line[-1][1].mean for name, line in lines.items() if line}
    shown = {SHORT.get(name, name): colour for name, colour in colours.items()}
    name_ends(axes, ends, shown, bold=("RAPO",))


def _level(axes: Axes, height: float, name: str) -> None:
    axes.axhline(height, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        name,
        (0.99, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=GREY,
        ha="right",
    )


def _key(figure: Figure) -> None:
    """What full and hollow dots are."""
    dots = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=GREY, markerfacecolor=face, label=name)
        for face, name in ((GREY, "familiar"), ("white", "held out"))
    ]
    figure.legend(handles=dots, loc="outside lower right", ncols=2, frameon=False, handletextpad=0.1)
