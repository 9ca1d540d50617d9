"""One self-contained HTML file that shows a run: ``rapo view`` and the last act of ``rapo train``.

reading.py    the records of a run directory, also of one that is still being written
overview.py   its status, curves, alarms, phases, calls and versions
columns.py    what lists and plots need of every dialogue, group and evaluation, apart from their texts
page.py       the file: a content security policy, compressed data, and report.css, *.js beside it

``rapo report --plots`` draws runs for a paper (``plots.py``; ``plot_style.py`` has what all plots share).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rapo.errors import RunError
from rapo.records import atomic_write, disk_errors
from rapo.report.page import html_page

NAME = "report.html"


def write_report(runs: list[Path], out: Path) -> Path:
    """Write the report of one run, or of two to compare, whole or not at all.

    Raises:
        RunError: a folder holds no run, a record cannot be read, or ``out`` cannot be written.
    """
    if not out.parent.is_dir() and out.parent not in runs:
        raise RunError(f"{out} cannot be written", got=f"no folder {out.parent}", fix="make it first")
    with disk_errors(out):
        atomic_write(out, html_page(runs))
    return out


def write_plots(runs: list[Path], out: Path) -> list[Path]:
    """Draw the plots of some runs into a folder; the files.

    Raises:
        RunError: matplotlib is missing, a folder holds no run or nothing to draw, or ``out`` cannot be written.
    """
    try:
        from rapo.report.plots import draw
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        fix = "pip install 'rapo-rl[plots]'"
        raise RunError("plots need matplotlib", expected="the extra plots", fix=fix) from error
    with disk_errors(out):
        files = list(draw(runs, out))
    if not files:
        raise RunError("there is nothing to draw", got="runs without a step or an evaluation", fix="let one go on")
    return files


def leave_report(run: Path, warn: Callable[[str], None]) -> None:
    """Write the report of a run into its folder; whatever goes wrong is told and stops nothing."""
    try:
        write_report([run], run / NAME)
    except Exception as error:
        warn(f"no {NAME} was written: {error}")
