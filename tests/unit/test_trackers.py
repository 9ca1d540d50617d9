"""A tracker that raises, ends the program or hangs is told of once, and neither stops nor delays a run."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest

from rapo import trackers
from rapo.trackers import Trackers

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


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs the extra tensorboard")
def test_tensorboard_itself(tmp_path: Path) -> None:
    told, _ = log_three(tmp_path, ("tensorboard",))
    assert told == [] and list((tmp_path / "tensorboard").iterdir())
