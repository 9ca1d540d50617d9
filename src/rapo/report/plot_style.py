"""How plots for print look: the colours of Okabe and Ito, names beside the lines, bands that are 95% intervals.

Needs matplotlib (extra ``plots``). The learning study of ``benchmarks/`` draws with it, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

GREY = "#6b6b6b"
BLUE, RED, GREEN, PURPLE, ORANGE, SKY, OCHRE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#8a6d00",  # darker than their yellow, which is hard to see on white
)
PALETTE = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, OCHRE, "#000000")
Point = tuple[float, float, float, float]  # where, mean, low, high
STYLE: Any = {
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "rapo",  # the same plot is the same file
    "svg.fonttype": "none",  # a third of the size; whatever font stands in is narrower
    "text.parse_math": False,  # a name with dollars in it is a name
}


def save(figure: Figure, folder: Path, name: str, *, dpi: int) -> Iterator[Path]:
    """Write a figure as PNG and SVG without a date or a program's name; the files."""
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        path = folder / f"{name}.{kind}"
        # The style holds from here on as well: some of it is read when a figure is written.
        with mpl.rc_context(STYLE):
            figure.savefig(path, dpi=dpi, metadata=metadata)
        yield path


def band(axes: Axes, line: Sequence[Point], colour: str, *, dashed: bool = False) -> None:
    """A line of means in the band of its intervals."""
    at, mean, low, high = ([point[i] for point in line] for i in range(4))
    axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(at, mean, color=colour, linewidth=1.6, linestyle="--" if dashed else "-")


def name_ends(
    axes: Axes, ends: Mapping[str, float], colours: Mapping[str, str], *, bold: Collection[str] = (), gap: float = 0.08
) -> None:
    """Name lines beside the height at which each ends, names at least ``gap`` of the axis apart."""
    low, high = axes.get_ylim()
    for name, height in apart(ends, gap * (high - low)).items():
        axes.annotate(
            name,
            (1.0, height),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            color=colours[name],
            va="center",
            fontweight="bold" if name in bold else "normal",
            annotation_clip=False,
        )


def apart(heights: Mapping[str, float], least: float) -> dict[str, float]:
    """The heights of labels, moved until neighbours are ``least`` apart; their order stays."""
    names = sorted(heights, key=heights.__getitem__)
    placed = [heights[name] for name in names]
    for _ in range(100):
        for i in range(len(placed) - 1):
            short = least - (placed[i + 1] - placed[i])
            if short > 0:
                placed[i], placed[i + 1] = placed[i] - short / 2, placed[i + 1] + short / 2
    return dict(zip(names, placed, strict=True))


def dot(axes: Axes, place: float, point: tuple[float, float, float], colour: str, *, full: bool) -> None:
    """A mean with its interval (mean, low, high) on the line ``place``; a hollow dot is not ``full``."""
    mean, low, high = point
    axes.plot([low, high], [place, place], color=colour, linewidth=1.3, solid_capstyle="butt")
    axes.plot([mean], [place], "o", color=colour, markersize=5, markerfacecolor=colour if full else "white")
