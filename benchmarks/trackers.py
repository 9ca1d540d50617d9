"""Twenty runs, each with a tracker that fails in another way: does every run finish, with every line of its records?

    python benchmarks/trackers.py [START]

A stand-in for wandb raises, ends the program, interrupts or hangs, while it is imported, begun, logged to for the first
or second time, or finished. Each run is `rapo train` in a process of its own, two steps from the policy START (made
first, if none is given). Prints a line per run and a table; writes JSON. Ends with code 1 unless all runs finish whole.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = ("import", "init", "first", "second", "finish")
ACTS = {
    "raises": "raise RuntimeError('no network')",
    "exits": "raise SystemExit(3)",
    "interrupts": "raise KeyboardInterrupt",
    "hangs": "import time; time.sleep(3600)",
}
WANDB = """
def at(stage):
    if stage == {stage!r}:
        {act}
class Run:
    steps = 0
    def log(self, scalars, step):
        self.steps += 1
        at({{1: "first", 2: "second"}}.get(self.steps))
    def finish(self):
        at("finish")
def init(**settings):
    at("init")
    return Run()
at("import")
"""
SMALL = [
    *("policy.hidden=32", "policy.layers=1", "policy.heads=2", "policy.max_tokens=24", "run.threads=1"),
    *("sft.practice=20", "sft.dialogues=100", "sft.corrections=50", "sft.batch_tokens=384", "sft.lr=0.02"),
    *("teacher.replay=0", "train.steps=2", "play.dialogues=4", "branch.candidates=3", "gate.enabled=false"),
    *("eval.dialogues=2", "eval.turns=1", "eval.bootstrap=50", "eval.exploits=false"),
]


def rapo(*words: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; ``path`` holds modules that come first."""
    env = os.environ | ({"PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])} if path else {})
    command = [sys.executable, "-m", "rapo.cli", *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


def case(folder: Path, start: str, stage: str, act: str) -> dict[str, object]:
    """One run with one failure: how it ended and what is on disk."""
    modules, run = folder / "modules", folder / "run"
    modules.mkdir(parents=True)
    (modules / "wandb.py").write_text(WANDB.format(stage=stage, act=ACTS[act]))
    began = time.perf_counter()
    done = rapo(
        "train",
        "recipes/demo.yaml",
        *SMALL,
        f"policy.path={start}",
        f"run.dir={run}",
        "run.trackers=[wandb]",
        path=modules,
    )
    lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    steps = [json.loads(line)["step"] for line in lines]
    whole = done.returncode == 0 and steps == [1, 2] and (run / "summary.json").is_file()
    told = done.stderr.count("warning: tracker wandb")
    return {"stage": stage, "act": act, "whole": whole, "told": told, "seconds": round(time.perf_counter() - began, 1)}


def main() -> int:
    """Run every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", nargs="?", help="folder of a start policy")
    parser.add_argument("--json", type=Path, default=Path("runs/trackers.json"))
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        start = args.start or str(Path(name) / "start" / "sft")
        if not args.start:
            print("making a start policy", flush=True)
            rapo("sft", "recipes/demo.yaml", *SMALL, f"run.dir={Path(name) / 'start'}")
        for stage in STAGES:
            for act in ACTS:
                found.append(case(Path(name) / f"{stage}-{act}", start, stage, act))
                each = found[-1]
                print(
                    f"{stage:<8} {act:<11} whole {each['whole']}  told {each['told']}x  {each['seconds']} s", flush=True
                )
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"v": 1, "cases": found}, indent=1) + "\n")
    whole = sum(bool(each["whole"]) for each in found)
    print(
        f"{whole} of {len(found)} runs finished with whole records; told once in {sum(e['told'] == 1 for e in found)}"
    )
    return 0 if whole == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
