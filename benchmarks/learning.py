"""The learning study: what teaches, at equal simulator calls? SFT, GRPO, distillation, RAPO and parts of it.

    python benchmarks/learning.py                    # all main arms, 5 seeds, support then bargaining: hours
    python benchmarks/learning.py --sweeps lambda G --worlds support --seeds 0 1
    python benchmarks/learning.py --report           # tables of the runs that are there
    python benchmarks/learning.py --report --write docs/results.md docs/images     # into the document, and plots

All arms of a world start from one policy (made first, by ``rapo sft``), are the product's own training step with other
settings (``learning_arms.py``), and stop at the same number of simulator calls: play, branch and verification. Every
finished run is a line of ``runs/study/runs.jsonl``; called again, the command does what is missing. Probes of the
learning curve and the final evaluation use seekers that training never meets and are not counted as calls.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from learning_arms import ARMS, CRITIQUES, MAIN, SWEEPS, Reworded
from rapo.config import load_config
from rapo.recipes import recipe_path

if TYPE_CHECKING:
    from rapo.models.policy import Policy
    from rapo.parts import Parts

RECIPES = {"support": "demo", "bargaining": "bargaining"}
CALLS = {"support": 6400, "bargaining": 12800}
PROBES = 16  # of the learning curve, evenly over the calls
PROBED = 24  # seekers per population at each
LOGGED = (
    *("state_change", "candidate_change", "teacher_lift", "lift_by_chance", "divergence", "entropy", "kl_to_start"),
    *("distinct_2", "most_common_share", "degenerate_share", "corrections", "micro_tokens", "macro_tokens"),
    *("tied_groups", "missing_feedback", "replay_loss", "pivotal_share", "judge_calls"),
)


@dataclass(frozen=True)
class Job:
    """One run of the study; ``changes`` are config overrides for every arm."""

    world: str
    arm: str
    seed: int
    calls: int
    changes: tuple[str, ...] = ()

    @property
    def settings(self) -> list[str]:
        """What the run's config differs in from the recipe."""
        threads = ["run.threads=1", "eval.exploits=false"]
        return [f"run.seed={self.seed}", *threads, *self.changes, *ARMS[self.arm].settings]

    @property
    def key(self) -> str:
        """Equal for two runs that would be the same."""
        return json.dumps([self.world, self.arm, self.calls, self.settings, ARMS[self.arm].critiques])


def run(job: Job, start: str, made: Mapping[str, str]) -> dict[str, Any]:
    """Train one arm until its simulator calls are used up; its learning curve and final evaluation."""
    from rapo.parts import Parts
    from rapo.stages import make_trainer, prepare
    from rapo.supervised import load_policy

    arm = ARMS[job.arm]
    config = load_config(recipe_path(RECIPES[job.world]), job.settings)
    prepare(config)
    policy = load_policy(config, start)
    policy.model.requires_grad_(False)
    parts = Parts(config, config.run.dir, print)
    curve = [{"step": 0, "calls": 0.0, "scores": _figures(parts, policy, PROBED)}]
    steps: list[dict[str, float]] = []
    used, clock = 0.0, Stopwatch()
    if arm.trains:
        trainer = make_trainer(parts, policy)
        trainer.judge = Reworded(trainer.judge, CRITIQUES[arm.critiques])
        policy = trainer.policy
        while used < job.calls:
            with clock:
                metrics = trainer.step(len(steps) + 1).metrics
            before, used = used, used + metrics["simulator_calls"]
            steps.append({"calls": used, **{name: _known(metrics.get(name)) for name in LOGGED}})
            if used * PROBES // job.calls > before * PROBES // job.calls:
                curve.append({"step": len(steps), "calls": used, "scores": _figures(parts, policy, PROBED)})
    return {
        "v": 1,
        "key": job.key,
        **asdict(job),
        "settings": job.settings,
        "critiques": arm.critiques,
        **made,
        "steps": steps,
        "used": used,
        "seconds": clock.wall,
        "processor_seconds": clock.processor,
        "curve": curve,
        "final": _figures(parts, policy, config.eval.dialogues, items=True),
    }


def _known(value: float | None) -> float | None:
    """None where there was nothing to measure: JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None


class Stopwatch:
    """Adds up the seconds, and the processor's, of what is done in it."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.processor += time.process_time() - self._began[1]


def _figures(parts: Parts, policy: Policy, seekers: int, *, items: bool = False) -> dict[str, Any]:
    """How a policy does with each population; with ``items`` also for each seeker, the same ones for all arms."""
    from rapo.evals.interactive import change, resolved
    from rapo.evals.variety import distinct_n, most_common_share, opening_entropy
    from rapo.interact.play import play
    from rapo.models.memory import Memory
    from rapo.models.speaker import PolicySpeaker
    from rapo.seeds import derive_seed
    from rapo.suites import own

    c, figures = parts.config, {}
    seed = derive_seed("suite", c.run.seed)  # as rapo eval
    for population, users in own(parts).users.items():
        speaker = PolicySpeaker(policy, c.policy.system_prompt, c.policy.max_tokens, c.eval.temperature, Memory())
        talks = play(speaker, users, users.scenarios(seekers, seed), turns=c.eval.turns, seed=seed)
        replies = [turn.reply for talk in talks for turn in talk.turns]
        changes, helped = [change(talk) for talk in talks], [resolved(talk) for talk in talks]
        figures[population] = {
            "change": fmean(changes),
            "resolved": fmean(helped),
            "turns": len(replies) / len(talks),
            "distinct_2": distinct_n(replies, 2),
            "most_common_share": most_common_share(replies),
            "opening_entropy": opening_entropy(replies),
            **({"changes": changes, "ids": [talk.scenario.id for talk in talks]} if items else {}),
        }
    return figures


def start_policy(world: str, out: Path) -> str:
    """The folder of a world's start policy, made now if it is not there."""
    folder = out / f"start-{world}"
    if not (folder / "sft").is_dir():
        recipe = str(recipe_path(RECIPES[world]))
        subprocess.run([sys.executable, "-m", "rapo.cli", "sft", recipe, f"run.dir={folder}"], check=True)
    return str(folder / "sft")


def provenance(start: str) -> dict[str, str]:
    """The start policy's digest and the commit of the code: what a run's settings do not tell."""
    weights = (Path(start) / "model.safetensors").read_bytes()
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {"start": hashlib.sha256(weights).hexdigest()[:16], "commit": commit or "unknown"}


def read(path: Path) -> list[dict[str, Any]]:
    """Every run that is there; a line that was cut off while it was written is none."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: a line is broken and its run will be done again", file=sys.stderr)
    return rows


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line, floats to five digits, to what is there, which may end in a line that was cut off."""
    cut = path.is_file() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * cut + json.dumps(_rounded(row), allow_nan=False) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def work_through(jobs: Sequence[Job], starts: Mapping[str, str], path: Path, workers: int) -> int:
    """Do the jobs in order, some at a time, and add a line for each to ``path``; how many failed."""
    began, failed, processor = time.monotonic(), 0, 0.0
    os.environ["OMP_NUM_THREADS"] = "1"
    made = {world: provenance(start) for world, start in starts.items()}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run, job, starts[job.world], made[job.world]): job for job in jobs}
        for done, future in enumerate(as_completed(futures), 1):
            job = futures[future]
            try:
                found = future.result()
            except Exception as error:
                failed += 1
                print(f"FAILED {job.world} {job.arm} seed {job.seed}: {error!r}", flush=True)
                continue
            append(path, found)
            processor += found["processor_seconds"]
            left = (time.monotonic() - began) / done * (len(jobs) - done)
            print(f"{done}/{len(jobs)}  {describe(found)}  {left / 60:.0f} min left", flush=True)
    return failed


def describe(row: Mapping[str, Any]) -> str:
    """One finished run in a line."""
    scores = "  ".join(f"{name} {s['change']:+.2f} ({s['resolved']:.0%})" for name, s in row["final"].items())
    took = f"{len(row['steps'])} steps {row['seconds']:.0f}s"
    return f"{row['world']} {row['arm']:<26} seed {row['seed']}  {took}  {scores}"


def jobs_of(args: argparse.Namespace) -> Iterable[Job]:
    """All runs that are asked for: worlds in order, arms interleaved seed by seed, so that part of them is balanced."""
    sweeps = [name for sweep in args.sweeps for name in SWEEPS[sweep]]
    for world in args.worlds:
        for seed in args.seeds:
            for arm in [*args.arms, *sweeps]:
                yield Job(world, arm, seed, args.calls or CALLS[world], tuple(args.set))


def report(args: argparse.Namespace) -> None:
    """Print the tables of the runs that are there and keep them as JSON; with ``--write`` in a document, with plots."""
    from learning_figures import worlds_of
    from learning_report import blocks, fill, write_json

    calls = {world: args.calls or CALLS[world] for world in args.worlds}
    worlds = worlds_of(read(args.out / "runs.jsonl"), calls, args.set, PROBES)
    parts = blocks(worlds)
    write_json(args.out / "report.json", worlds)
    if not args.write:
        print("\n\n".join(f"{name}\n\n{text}" for name, text in parts.items()))
        return
    from learning_plots import draw  # matplotlib is in the extra bench

    document, folder = map(Path, args.write)
    document.write_text(fill(document.read_text(encoding="utf-8"), parts), encoding="utf-8")
    for image in draw(worlds, folder):
        print(image)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument(
        "--arms", nargs="*", default=list(MAIN), choices=list(ARMS), metavar="ARM", help=", ".join(ARMS)
    )
    parser.add_argument("--sweeps", nargs="*", default=[], choices=list(SWEEPS), help="and the arms of these sweeps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--calls", type=int, help=f"simulator calls of each run; default {CALLS}")
    parser.add_argument("--set", nargs="*", default=[], help="config changes for all arms")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--report", action="store_true", help="run nothing; print what the runs say")
    parser.add_argument(
        "--write", nargs=2, metavar=("FILE", "FOLDER"), help="fill in the report's FILE, draw to FOLDER"
    )
    args = parser.parse_args()
    if args.report:
        report(args)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "runs.jsonl"
    rows = read(path)
    known = {row["key"] for row in rows}
    jobs = [job for job in jobs_of(args) if job.key not in known]
    print(f"{len(jobs)} runs to do, {len(known)} are there", flush=True)
    starts = {world: start_policy(world, args.out) for world in dict.fromkeys(job.world for job in jobs)}
    for world, start in starts.items():
        others = {str(row.get("start")) for row in rows if row["world"] == world} - {provenance(start)["start"]}
        if others:
            sys.exit(f"{path} holds runs from another start policy of {world} ({others}): give another --out")
    if work_through(jobs, starts, path, args.jobs):
        sys.exit("some runs failed; give the command again to try them again")


if __name__ == "__main__":
    main()
