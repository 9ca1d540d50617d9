"""A tracker that raises, ends the program or hangs is told of once, and neither stops nor delays a run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rapo import trackers
from rapo.trackers import Trackers

KEPT = [(step, 0.5 / step) for step in (1, 2, 3)]
STAGES = ("import", "init", "first", "second", "finish")
ACTS = {
    "raises": "raise RuntimeError('no network')",
    "exits": "raise SystemExit(3)",
    "interrupts": "raise KeyboardInterrupt",
    "hangs": "import time; time.sleep(3600)",
}
WANDB = """
from pathlib import Path
LOG = Path(__file__).with_name("log")
def at(stage):
    if stage == {stage!r}:
        {act}
class Run:
    steps = 0
    def log(self, scalars, step):
        self.steps += 1
        at({{1: "first", 2: "second"}}.get(self.steps))
        LOG.open("a").write(f"{{step}} {{sorted(scalars.items())}}\\n")
    def finish(self):
        at("finish")
        LOG.open("a").write("end\\n")
def init(**settings):
    at("init")
    return Run()
at("import")
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, stage: str, act: str) -> None:
    (folder / "wandb.py").write_text(WANDB.format(stage=stage, act=act))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)


def log_three(tmp_path: Path, names: tuple[str, ...] = ("wandb",)) -> tuple[list[str], float]:
    told: list[str] = []
    started = time.monotonic()
    some = Trackers(names, tmp_path, {"run.seed": 0}, told.append)
    for step in (1, 2, 3):
        some.log(step, {"loss": 0.5, "missing": float("nan")})
        time.sleep(0.01)
    some.close()
    return told, time.monotonic() - started


def test_finite_numbers_arrive_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "never", "pass")
    told, _ = log_three(tmp_path)
    assert told == []
    assert (tmp_path / "log").read_text().splitlines() == [f"{n} [('loss', 0.5)]" for n in (1, 2, 3)] + ["end"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("act", ACTS)
def test_a_failing_tracker_is_told_of_once(
    act: str, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "PATIENCE", 0.3)
    install(tmp_path, monkeypatch, stage, ACTS[act])
    told, seconds = log_three(tmp_path)
    (line,) = told
    assert line.startswith("tracker wandb: ") and ("still busy" in line) == (act == "hangs")
    assert seconds < 30


def test_one_that_is_far_behind_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "PATIENCE", 0.1)
    monkeypatch.setattr(trackers, "WAITING", 1)
    install(tmp_path, monkeypatch, "init", ACTS["hangs"])
    told, _ = log_three(tmp_path)
    assert told == [
        "tracker wandb: 1 steps behind; some are left out (the run goes on; its numbers are in metrics.jsonl)"
    ]


def log_three_apart(name: str, folder: Path, **env: str) -> None:
    """Log to a real package in a program of its own, as a run does, with time enough for a busy machine."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the extra {name}")
    script = f"""
import sys
from pathlib import Path
from rapo import trackers
trackers.PATIENCE = 300
some = trackers.Trackers(({name!r},), Path(sys.argv[1]), {{"run.seed": 0}}, sys.exit)
for step in (1, 2, 3):
    some.log(step, {{"loss": 0.5 / step, "missing": float("nan")}})
some.close()
"""
    subprocess.run([sys.executable, "-c", script, folder], env=os.environ | env, cwd=folder, check=True)


def test_tensorboard_itself(tmp_path: Path) -> None:
    log_three_apart("tensorboard", tmp_path)
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    kept = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, pytest.approx(each.value)) for each in kept.Scalars("loss")] == KEPT
    assert "run.seed: 0" in str(kept.Tensors("config/text_summary"))


def test_mlflow_itself(tmp_path: Path) -> None:
    log_three_apart("mlflow", tmp_path, MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
    kept = sqlite3.connect(tmp_path / "mlflow.db")
    assert kept.execute("select step, value from metrics where key = 'loss' order by step").fetchall() == KEPT
    assert kept.execute("select key, value from params").fetchall() == [("run.seed", "0")]
    assert kept.execute("select name, status from runs").fetchall() == [(tmp_path.name, "FINISHED")]


def test_trackio_itself(tmp_path: Path) -> None:
    log_three_apart("trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "kept"))
    kept = sqlite3.connect(tmp_path / "kept" / "rapo.db")
    told = kept.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert [(name, step, json.loads(text)) for name, step, text in told] == [
        (tmp_path.name, step, {"loss": loss}) for step, loss in KEPT
    ]


def test_wandb_itself(tmp_path: Path) -> None:
    log_three_apart("wandb", tmp_path, WANDB_MODE="offline")
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    kept = file.read_bytes()  # protobuf that is not compressed; the package has no reader for it
    assert {*re.findall(rb"_step.{3}(\d)", kept, re.S)} == {b"1", b"2", b"3"}
    assert {float(loss) for loss in re.findall(rb"loss.{3}([\d.]+)", kept, re.S)} == {loss for _, loss in KEPT}
    assert b"run.seed" in kept and b"missing" not in kept
