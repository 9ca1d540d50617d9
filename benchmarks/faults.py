"""Every kind of fault, at users, judge and evaluation judge, once and for ever: what becomes of a training run.

    python benchmarks/faults.py [--only hang drip] [--json runs/faults.json]

Each cell is a whole ``rapo train`` of a tiny policy against a real HTTP server on this machine. "same": the run ended
with the same bits as one without faults. "stop, same": it ended in one line and exit code 2, and, the fault gone,
``rapo resume`` ended with the same bits. Anything else (a hang, a traceback, other bits: a silent zero) is a defect and
makes the program end with code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fake_llm import fake_llm  # noqa: E402
from fault_server import CONTENT, FaultServer, always, closed_url, never, once  # noqa: E402
from rapo.cli import main as rapo  # noqa: E402
from rapo.recipes import recipe_path  # noqa: E402

FAULTS = (
    *("429", "429-after", "500", "502", "503", "reset", "hang", "drip", "slow headers", "empty", "truncated", "huge"),
    *("malformed", "wrong type", "wrong count", "duplicate ranks", "nan", "whitespace", "wrong model", "redirect"),
    "closed port",
)
ROLES = ("user", "judge", "rater")
LIMIT = 120  # seconds until a cell counts as hanging
TINY = (
    *("policy.hidden=32", "policy.layers=1", "policy.heads=2", "policy.max_tokens=16", "run.threads=1"),
    *("sft.practice=20", "sft.dialogues=100", "sft.corrections=50", "sft.batch_tokens=384", "sft.lr=0.02"),
    *("teacher.replay=0", "train.steps=2", "train.save_every=1", "play.dialogues=3", "play.turns=2"),
    *("branch.candidates=3", "eval.dialogues=2", "eval.turns=1", "eval.bootstrap=50"),
    "run.cohort=1",  # so that parts of a step take turns
)


def main() -> None:
    """Run every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=FAULTS, choices=FAULTS, metavar="FAULT")
    parser.add_argument("--json", type=Path, default=Path("runs/faults.json"))
    args = parser.parse_args()
    # One reply ranked twice and another not at all.
    twice = [{"id": i, "rank": i, "critique": "Ask."} for i in (1, 1, 2)]
    CONTENT["duplicate ranks"] = json.dumps({"verdicts": twice})
    with tempfile.TemporaryDirectory() as name:
        campaign = Campaign(Path(name))
        print(f"{'fault':<16}" + "".join(f"{role} {when:<14}" for role in ROLES for when in ("once", "for ever")))
        cells: dict[str, dict[str, Any]] = {}
        for fault in args.only:
            cells[fault] = {
                f"{role} {when}": campaign.cell(fault, role, when) for role in ROLES for when in ("once", "for ever")
            }
            print(f"{fault:<16}" + "".join(f"{cell['end']:<19}" for cell in cells[fault].values()), flush=True)
    every = [cell for row in cells.values() for cell in row.values()]
    bad = sum(cell["end"] not in ("same", "stop, same") for cell in every)
    slowest = max(cell["seconds"] for cell in every)
    print(f"\n{len(every)} cells, {bad} defects, slowest {slowest:.0f} s")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"v": 1, "cells": cells}, indent=1) + "\n")
    sys.exit(1 if bad else 0)


class Campaign:
    """A start policy, scenarios, and the result of a run without faults."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.scenarios = folder / "scenarios.jsonl"
        rows = [
            {
                "id": f"s{i}",
                "situation": f"Case {i}.",
                "opening": f"I lost job {i}.",
                "start": 5,
                "profile": {"need": "x"},
            }
            for i in range(20)
        ]
        self.scenarios.write_text("".join(json.dumps(row) + "\n" for row in rows))
        code, _, err = run("sft", str(recipe_path("demo")), f"run.dir={folder / 'start'}", *TINY)
        if code:
            sys.exit(err)
        with FaultServer(reply=fake_llm) as server:
            code, _, err = self.train(folder / "healthy", dict.fromkeys(ROLES, server.url))
        if code:
            sys.exit(err)
        self.healthy = result(folder / "healthy")

    def train(self, path: Path, urls: dict[str, str]) -> tuple[int, str, str]:
        """``rapo train`` with each role's model at a url."""
        models = [
            f"models.{role}.{key}"
            for role, url in urls.items()
            for key in (f"url={url}", f"name={role}", "timeout=0.5", "attempts=3", "max_tokens=200")
        ]
        users = ["users.kind=llm", f"users.files=[{self.scenarios}]", "users.models=[user]", "users.mode=one_call"]
        judges = ["judge.kind=llm", "judge.model=judge", "eval.judge=rater"]
        calls = ["calls.patience=1.5", "calls.breaker=6"]
        start = f"policy.path={self.folder / 'start' / 'sft'}"
        return run("train", str(recipe_path("demo")), f"run.dir={path}", start, *TINY, *users, *judges, *calls, *models)

    def cell(self, fault: str, role: str, when: str) -> dict[str, Any]:
        """One run, and its resumption where it stopped."""
        self.number += 1
        path, began = self.folder / f"run-{self.number}", time.perf_counter()
        try:
            with alarm(LIMIT), self.servers(fault, role, when) as (urls, heal):
                code, out, err = self.train(path, urls)
                end = self.compare(path) if code == 0 else self.resume(path, heal, code, out, err)
        except TimeoutError:
            end, err = "HANGS", ""
        return {"end": end, "seconds": time.perf_counter() - began, "said": err.strip().splitlines()[-1:]}

    def resume(self, path: Path, heal: Callable[[], list[str]], code: int, out: str, err: str) -> str:
        lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
        if code != 2 or len(lines) != 1 or not lines[0].startswith("rapo: ") or "Traceback" in out + err:
            return "NO CLEAN STOP"
        code, _, _ = run("resume", str(path), *heal())
        return f"stop, {self.compare(path)}" if code == 0 else "NO RESUME"

    def compare(self, path: Path) -> str:
        return "same" if result(path) == self.healthy else "OTHER BITS"

    @contextlib.contextmanager
    def servers(self, fault: str, role: str, when: str) -> Iterator[tuple[dict[str, str], Callable[[], list[str]]]]:
        """A server for the role that goes wrong, one for the others; a function that ends the fault."""
        with FaultServer(reply=fake_llm) as good, FaultServer(reply=fake_llm, slow=3.0, retry_after=0.3) as bad:
            urls = dict.fromkeys(ROLES, good.url)
            if fault != "closed port":
                # A retry that shows the error is a longer conversation: the model does better then.
                passing = (
                    (lambda _, body: fault if len(body["messages"]) == 2 else None) if fault in CONTENT else once(fault)
                )
                bad.faults = passing if when == "once" else always(fault)
                yield urls | {role: bad.url}, lambda: setattr(bad, "faults", never) or []
            elif when == "for ever":
                yield urls | {role: closed_url()}, lambda: [f"models.{role}.url={good.url}"]
            else:
                url = closed_url()
                late = FaultServer(reply=fake_llm, port=int(url.split(":")[2].split("/")[0]))
                timer = threading.Timer(2.0, late.__enter__)
                timer.start()
                try:
                    yield urls | {role: url}, list
                finally:
                    timer.join()
                    late.__exit__()


def run(*args: str) -> tuple[int, str, str]:
    """The command line in this process: exit code, output, errors."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["rapo", *args]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            rapo()
        code: object = 0
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = before
    return code if isinstance(code, int) else 0, out.getvalue(), err.getvalue()


def result(path: Path) -> list[bytes]:
    """The bits of the trained policy, and both evaluations."""
    newest = max((path / "checkpoints").glob("step-*"))
    files: Sequence[Path] = [newest / "model.safetensors", *sorted(path.glob("evaluation-*.json"))]
    return [file.read_bytes() for file in files]


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the main thread after some seconds."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
