"""A training step against an endpoint with log-normal latency: wall time over the critical path.

    python benchmarks/overlap.py [--groups 32 --concurrency 64 --cohort 2 --runs 3]

Users and judge are language models behind one fake endpoint on this machine (real HTTP, a process of its own). A
request's latency (median 0.3 s, 3 s at the 99th percentile) is a function of its seed, so every contender meets the
same ones. Contenders, alternating, each with an empty journal:

- overlapped: the trainer as it is;
- in phases: the same trainer with users and judge that do not say they may be asked from several threads, so that each
  phase waits for the last answer of the one before.

Rulers, all from the latencies of that very step and the local computing that it takes when nobody is waited for:

- critical path: an ideal executor with the same slots and one processor, simulated event by event. Every reply is
  sampled and every group learnt from as soon as its own answers are in, at the price that this has in the largest
  batches; only selection waits for all dialogues, and the optimizer for all groups.
- critical path in parts: the same with the parts of replies that the trainer samples together.
- bound: the longest chain, the sum of latencies over the slots, or all computing, whichever is longest.

A table and JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from overlap_rulers import CANDIDATES, TURNS, Graph, Local, latency

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fake_llm import fake_llm  # noqa: E402
from fault_server import FaultServer  # noqa: E402
from rapo.config import RunConfig  # noqa: E402
from rapo.hindsight.feedback import JudgeRequest, RewardModel, Verdict  # noqa: E402
from rapo.interact.users import UserSimulator  # noqa: E402
from rapo.models.scratch import new_policy  # noqa: E402
from rapo.parts import Parts  # noqa: E402
from rapo.trainer import Step, Trainer  # noqa: E402
from rapo.types import EchoRequest, Reaction, Scenario  # noqa: E402
from rapo.worlds import load_world  # noqa: E402


def main() -> None:
    """Run every contender and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("groups", 32), ("concurrency", 64), ("cohort", 2), ("runs", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, default=Path("runs/overlap.json"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder, endpoint() as url:
        bench = Bench(Path(folder), url, args)
        runs = [bench.run(seed) for seed in range(args.runs)]
    print(table(runs, args))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"v": 1, "shape": vars(args) | {"json": str(args.json)}, "runs": runs}) + "\n")


# ---- the endpoint


def answer(body: dict[str, Any]) -> str:
    """What the fake model answers; where it reports a state, one that depends on what was said and on nothing else."""
    found = json.loads(fake_llm(body))
    if "state" in found:
        before, last = found["state"] - found["change"], body["messages"][-1]["content"]
        found["state"] = int.from_bytes(blake2b(last.encode(), digest_size=2).digest()) / 6553.6
        found["change"] = found["state"] - before
    return json.dumps(found)


def serve() -> None:
    """Be the endpoint until killed."""
    with FaultServer(reply=answer, delay=lambda body: latency(body["seed"]), keep_hits=False) as server:
        print(server.url, flush=True)
        threading.Event().wait()


@contextmanager
def endpoint() -> Iterator[str]:
    """The url of the endpoint."""
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


# ---- the contenders


class InPhases:
    """Users and judge without a word on threads, so that everything that is there comes in one call.

    Attributes:
        asking: seconds of every call of the users.
    """

    def __init__(self, users: UserSimulator, judge: RewardModel) -> None:
        self.inner, self.grm, self.asking = users, judge, list[float]()

    def scenarios(self, number: int, seed: int) -> list[Scenario]:
        """The inner users'."""
        return self.inner.scenarios(number, seed)

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """The inner users'."""
        began = time.perf_counter()
        found = self.inner.react(requests)
        self.asking.append(time.perf_counter() - began)
        return found

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        """The inner judge's."""
        return self.grm.judge(requests)


class Bench:
    """A small policy, scenarios and a config."""

    def __init__(self, folder: Path, url: str, args: argparse.Namespace) -> None:
        self.folder, self.args = folder, args
        files = folder / "scenarios.jsonl"
        rows = (
            {"id": f"s{i}", "situation": f"Case {i}.", "opening": f"I lost job {i}.", "start": 5} for i in range(99)
        )
        files.write_text("".join(json.dumps(row) + "\n" for row in rows))
        model = {"url": url, "name": "fake", "concurrency": args.concurrency}
        self.config = RunConfig.model_validate(
            {
                "run": {"cohort": args.cohort, "threads": args.threads},
                "policy": {"max_tokens": 24},
                "models": {"fake": model},
                "users": {"kind": "llm", "files": [str(files)], "models": ["fake"]},
                "judge": {"kind": "llm", "model": "fake"},
                "play": {"dialogues": args.groups, "turns": TURNS},
                "select": {"share": 1 / TURNS, "floor": 0.0},
                "branch": {"candidates": CANDIDATES},
                "teacher": {"replay": 0},
            }
        )
        texts = [m.content for d in load_world("support").dialogues(200, 0) for m in d]
        p = self.config.policy
        self.policy = new_policy(
            texts,
            vocab_size=p.vocab_size,
            hidden=p.hidden,
            layers=p.layers,
            heads=p.heads,
            max_context=p.max_context,
            seed=0,
        )

    def run(self, seed: int) -> dict[str, Any]:
        """One step by each contender, what it computes, and the rulers."""
        config = self.config.model_copy(update={"run": self.config.run.model_copy(update={"seed": seed})})
        walls, steps, journals = {}, {}, {}
        contenders = ("overlapped", "in phases")
        for name in contenders if seed % 2 else contenders[::-1]:
            journals[name] = self.folder / f"{seed}-{name}"
            walls[name], steps[name], _ = self.step(config, journals[name], in_phases=name == "in phases")
        # All answers are there: what is left is computing.
        _, replayed, asking = self.step(config, journals["in phases"], in_phases=True)
        local = Local.of(replayed, asking)
        step = steps["overlapped"]
        graph = Graph(config, step, local)
        found = {
            "wall": walls["overlapped"],
            "in phases": walls["in phases"],
            "critical path": graph.free(),
            "critical path in parts": graph.in_parts(),
            "bound": graph.bound(),
            **{name: value for name, value in step.metrics.items() if name.startswith("seconds_")},
            "computing alone": local.total(replayed),
            "calls": len(graph.latencies),
            "groups": len(step.groups),
            "same talks": step.dialogues == steps["in phases"].dialogues,
        }
        print(row(found), flush=True)
        return found

    def step(self, config: RunConfig, folder: Path, *, in_phases: bool) -> tuple[float, Step, list[float]]:
        """A first training step: seconds, its result, and in phases the seconds of every call of the users."""
        with Parts(config, folder, print) as parts:
            users, judge = parts.users(), parts.judge()
            wrapped = InPhases(users, judge)
            policy = self.policy.clone(trainable=True)
            trainer = Trainer(
                config,
                policy,
                start=self.policy,
                users=wrapped if in_phases else users,
                judge=wrapped if in_phases else judge,
            )
            began = time.perf_counter()
            step = trainer.step(1)
            return time.perf_counter() - began, step, wrapped.asking


# ---- the table


def row(found: dict[str, Any]) -> str:
    """One run in a line."""
    names = ("wall", "in phases", "critical path", "critical path in parts", "bound")
    seconds = "   ".join(f"{name} {found[name]:.2f}" for name in names)
    return f"{seconds}   ratio {found['wall'] / found['critical path']:.3f}"


def table(runs: Sequence[dict[str, Any]], args: argparse.Namespace) -> str:
    """Medians over the runs."""
    lines = [
        "",
        f"{args.groups} groups of {CANDIDATES}, {args.concurrency} calls at once, cohorts of {args.cohort} replies,"
        f" {len(runs)} steps: medians",
        f"{'':<28}{'seconds':>9}{'overlapped / this':>20}",
    ]
    for name in ("wall", "in phases", "critical path", "critical path in parts", "bound"):
        ratio = statistics.median(run["wall"] / run[name] for run in runs)
        label = "overlapped" if name == "wall" else name
        lines.append(f"{label:<28}{statistics.median(run[name] for run in runs):>9.2f}{ratio:>20.3f}")
    for name in ("computing alone", *(name for name in runs[0] if name.startswith("seconds_")), "calls"):
        lines.append(f"{name:<28}{statistics.median(run[name] for run in runs):>9.2f}")
    lines.append(f"{'same talks in both orders':<28}{sum(run['same talks'] for run in runs):>6} of {len(runs)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
