"""The command line as a user runs it: in this process where that is the same, in one of its own where it is killed."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from rapo.cli import main
from rapo.recipes import recipe_path

DEMO = str(recipe_path("demo"))
MODEL = ("policy.hidden=32", "policy.layers=1", "policy.heads=2", "policy.max_tokens=24", "run.threads=1")
# Just enough to write sentences: the seeker takes word salad for word salad, and a group of ties teaches nothing.
CORPUS = (
    "sft.practice=20",
    "sft.dialogues=100",
    "sft.corrections=50",
    "sft.epochs=2",
    "sft.batch_tokens=384",
    "sft.lr=0.02",
)
STEPS = (
    "teacher.replay=2",
    "train.steps=4",
    "train.save_every=2",
    "play.dialogues=4",
    "branch.candidates=3",
    "gate.enabled=false",
)
EVAL = ("eval.dialogues=4", "eval.turns=2", "eval.bootstrap=50", "eval.exploits=false")
TINY = (*MODEL, *CORPUS, *STEPS, *EVAL)
ONE_STEP = (
    "train.steps=1",
    "teacher.replay=0",
    "play.dialogues=6",
    "branch.candidates=6",
    "select.share=0.7",
    "eval.dialogues=1",
    "eval.turns=1",
    "eval.populations=[familiar]",
)


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def run_rapo(*args: object) -> Result:
    """The program with these arguments, in this process; output is captured as if it were piped."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["rapo", *map(str, args)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code: object = 0
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = before
    return Result(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def one_line(result: Result) -> str:
    """The message of a command that a user's mistake ended."""
    assert result.code == 2, result
    line, end, rest = result.err.rpartition("\n")[0].rpartition("\n")[2], "\n", result.err.count("\n")
    assert line.startswith("rapo: "), result.err
    assert rest == 1, f"more than one line:\n{result.err}"
    assert "Traceback" not in result.out + result.err
    return line.removesuffix(end)


def weights(folder: Path) -> dict[str, bytes]:
    """The bytes of every tensor of a model folder, or of an adapter folder."""
    (file,) = folder.glob("*model.safetensors")
    return {name: each.numpy().tobytes() for name, each in load_file(file).items()}


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one file of a run, less what a clock wrote."""
    rows = [json.loads(line) for line in (run / f"{kind}.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("seconds_")} for row in rows]


def everything(run: Path) -> dict[str, Any]:
    """All that must be equal of two runs with one seed."""
    newest = max((run / "checkpoints").glob("step-*"))
    found: dict[str, Any] = {kind: records(run, kind) for kind in ("metrics", "dialogues", "groups")}
    found["evaluations"] = [json.loads((run / f"evaluation-{name}.json").read_text()) for name in ("before", "after")]
    return found | {"newest": newest.name, "policy": weights(newest), "teacher": weights(newest / "teacher")}


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has barely learnt to talk."""
    run = tmp_path_factory.mktemp("start") / "run"
    result = run_rapo("sft", DEMO, f"run.dir={run}", *TINY)
    assert result.code == 0, result
    return run / "sft"


@pytest.fixture
def train(start: Path, tmp_path: Path) -> Callable[..., Path]:
    """``train(*overrides, name=...)``: a tiny training run from the shared model; returns its folder."""

    def run(*overrides: str, name: str = "run") -> Path:
        folder = tmp_path / name
        result = run_rapo("train", DEMO, f"run.dir={folder}", f"policy.path={start}", *TINY, *overrides)
        assert result.code == 0, result
        return folder

    return run


@pytest.fixture(scope="session")
def trained(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed; its model is made in it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = run_rapo("train", DEMO, f"run.dir={folder}", *TINY)
    assert result.code == 0, result
    return folder


@pytest.fixture
def launch() -> Iterator[Callable[..., BaseProcess]]:
    """``launch(*args)``: the program in a process of its own, which has loaded torch already; ended after the test."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rapo.stages", "rapo.show"])
    started: list[BaseProcess] = []

    def run(*args: object) -> BaseProcess:
        before, sys.argv = sys.argv, ["rapo", *map(str, args), "--quiet"]
        try:
            started.append(context.Process(target=main))
            started[-1].start()
        finally:
            sys.argv = before
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.join()


def kill_when(process: BaseProcess, ready: Callable[[], bool], seconds: float = 60) -> None:
    """SIGKILL as soon as ``ready()``; the process must still be at work then."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.is_alive(), f"ended by itself, exit code {process.exitcode}"
        assert time.monotonic() < deadline, "never came so far"
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -9, "ended by itself before it was killed"
