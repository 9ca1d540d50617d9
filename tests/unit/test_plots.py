"""Plots of runs for a paper: what is drawn is what was recorded, whatever runs and users are called."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from made_run import MadeRun
from rapo.errors import RunError
from rapo.report import write_plots

NAMES = {f"{name}.{kind}" for name in ("learning", "teacher-lift", "before-after", "phases") for kind in ("svg", "png")}


def texts(file: Path) -> list[str]:
    return [text for each in ET.fromstring(file.read_text()).iter() if (text := (each.text or "").strip())]


def test_every_plot_of_two_runs_as_svg_and_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    # Names that mathematics, markup or a terminal would read in their own way.
    names = ["a $x_1$ <b>&", "b \x1b[31m\u202e"]
    runs = [MadeRun(seed=seed).write(tmp_path / name) for seed, name in enumerate(names)]
    files = write_plots(runs, tmp_path / "out")
    assert {file.name for file in files} == NAMES
    for file in files:
        if file.suffix == ".svg":
            assert "a $x_1$ <b>&" in " ".join(texts(file))
            assert not {"\x1b", "\u202e"} & set(file.read_text())
        assert file.stat().st_size > 2000
    first = {file: file.read_bytes() for file in files}
    assert {file: file.read_bytes() for file in write_plots(runs, tmp_path / "out")} == first


def test_the_numbers_are_those_of_the_run(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from rapo.report.plots import _before_after, _learning, _phases, _runs

    runs = _runs([MadeRun().write(tmp_path / "run")])
    (curve,) = [line for line in _learning(runs).axes[0].lines if len(line.get_xdata()) == 4]  # type: ignore[union-attr]
    assert list(curve.get_ydata()) == [row["state_change"] for row in runs[0].files.metrics]
    # Before, then after: an interval and a dot each; then the line at zero.
    lines = _before_after(runs).axes[0].lines  # type: ignore[union-attr]
    before, after = (result["figures"]["change"] for result in runs[0].files.results)
    assert list(lines[0].get_xdata()) == [before["low"], before["high"]]
    assert list(lines[1].get_xdata()) == [before["mean"]]
    assert list(lines[3].get_xdata()) == [after["mean"]]
    # Play and update are all that a made run has; bars follow each other.
    play, *_, update, idle = _phases(runs).axes[0].patches  # type: ignore[union-attr]
    means = [sum(row[f"seconds_{name}"] for row in runs[0].files.metrics) / 4 for name in ("play", "update")]
    assert [play.get_width(), update.get_x(), update.get_width(), idle.get_width()] == pytest.approx(
        [means[0], means[0], means[1], 0]
    )


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from rapo.report.plots import _runs

    made = MadeRun(steps=1)
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
    found = _runs([made.write(tmp_path / "a" / "run"), made.write(tmp_path / "b" / "run"), made.write(tmp_path / "c")])
    assert [run.name for run in found] == ["a/run", "b/run", "c"]


def test_without_matplotlib_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("rapo.report.plot")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        RunError, match=r"plots need matplotlib; expected the extra plots; pip install 'rapo-rl\[plots\]'"
    ):
        write_plots([tmp_path], tmp_path / "out")


def test_what_holds_no_run_or_nothing_yet_is_said(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(RunError, match="holds no run"):
        write_plots([tmp_path], tmp_path / "out")
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(RunError, match="nothing to draw"):
        write_plots([tmp_path], tmp_path / "out")
