"""Learning at equal simulator calls: GRPO only, distillation only, RAPO, and RAPO with shuffled critiques.

    python benchmarks/learning.py START [--calls 6400] [--seeds 0 1 2] [--jobs 2]

START is the folder of a start policy: runs/start/sft after ``rapo sft recipes/demo.yaml run.dir=runs/start``. All
variants start from it, are the same code with one weight at zero (or one shuffled input), and stop at the same number
of simulator calls, verification included. Distillation and RAPO replay 16 supervised correction examples per step;
"GRPO and replay" shows what these do without critiques. Prints a table; writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from rapo.config import load_config
from rapo.hindsight.feedback import JudgeRequest, RewardModel, Verdict
from rapo.recipes import recipe_path
from rapo.seeds import derive_seed

VARIANTS: dict[str, list[str]] = {
    "GRPO only": ["update.micro=0", "teacher.replay=0"],
    "GRPO and replay": ["update.micro=0"],
    "distillation only": ["update.macro=0"],
    "distillation, own tokens": ["update.macro=0", "update.along=own"],
    "RAPO": [],
    "RAPO, shuffled critiques": [],
}


class ShuffledCritiques:
    """A judge whose critiques are dealt out at random over all groups of a step; ranks stay."""

    def __init__(self, judge: RewardModel) -> None:
        self.inner = judge

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        """As the inner judge, critiques shuffled over all groups of the call."""
        verdicts = self.inner.judge(requests)
        critiques = [text for verdict in verdicts if verdict for text in verdict.critiques]
        Random(derive_seed("shuffle", *critiques[:3])).shuffle(critiques)
        deck = iter(critiques)
        return [v and replace(v, critiques=tuple(next(deck) for _ in v.critiques)) for v in verdicts]


def train_variant(start: str, variant: str, seed: int, calls: int, changes: Sequence[str]) -> dict[str, Any]:
    """Train one variant until its simulator calls are used up; its evaluation and learning curve."""
    from rapo.measure import measure
    from rapo.parts import Parts
    from rapo.progress import Terminal
    from rapo.stages import make_trainer, prepare
    from rapo.supervised import load_policy

    settings = [f"run.seed={seed}", "run.threads=1", "eval.exploits=false", *changes, *VARIANTS[variant]]
    config = load_config(recipe_path("demo"), settings)
    prepare(config)
    policy = load_policy(config, start)
    policy.model.requires_grad_(False)
    parts = Parts(config, config.run.dir, print)
    trainer = make_trainer(parts, policy)
    if "shuffled" in variant:
        trainer.judge = ShuffledCritiques(trainer.judge)
    used, number, curve, began = 0.0, 0, [], time.perf_counter()
    while used < calls:
        number += 1
        metrics = trainer.step(number).metrics
        used += metrics["simulator_calls"]
        curve.append({"calls": used, **{k: metrics.get(k) for k in ("candidate_change", "teacher_lift", "entropy")}})
    seconds = time.perf_counter() - began
    rows = measure(parts, {variant: trainer.policy}, Terminal(quiet=True), title="", battery=False)
    scores = {
        row.population: {
            "change": row.outcome.change.mean,
            "resolved": row.outcome.resolved,
            "distinct_2": row.outcome.distinct_2,
        }
        for row in rows
    }
    return {
        "variant": variant,
        "seed": seed,
        "steps": number,
        "calls": used,
        "seconds": seconds,
        "scores": scores,
        "curve": curve,
    }


def main() -> None:
    """Run every variant and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", help="folder of the start policy")
    parser.add_argument("--calls", type=int, default=6400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--set", nargs="*", default=[], dest="changes", help="config changes for all variants")
    parser.add_argument("--json", type=Path, default=Path("runs/learning.json"))
    args = parser.parse_args()
    work = [(variant, seed) for seed in args.seeds for variant in args.variants]
    results = []
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(train_variant, args.start, *each, args.calls, args.changes) for each in work]
        for future in as_completed(futures):
            results.append(result := future.result())
            print(describe(result), flush=True)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(
        json.dumps({"v": 1, "results": sorted(results, key=lambda r: (r["variant"], r["seed"]))}, indent=1)
    )
    print(table(results, args.variants))


def describe(result: dict[str, Any]) -> str:
    """One finished run in a line."""
    scores = "  ".join(f"{name} {s['change']:+.2f} ({s['resolved']:.0%})" for name, s in result["scores"].items())
    return f"{result['variant']:<26} seed {result['seed']}  {result['steps']} steps  {result['seconds']:.0f}s  {scores}"


def table(results: list[dict[str, Any]], variants: Sequence[str]) -> str:
    """Mean over seeds, and the range, per variant and population."""
    lines = ["", f"{'variant':<26} {'population':<10} {'change (min..max over seeds)':<32} resolved  distinct-2"]
    for variant in variants:
        mine = [r["scores"] for r in results if r["variant"] == variant]
        for population in mine[0]:
            some = [scores[population] for scores in mine]
            changes = [s["change"] for s in some]
            spread = f"{statistics.mean(changes):+.2f} ({min(changes):+.2f} .. {max(changes):+.2f})"
            resolved, distinct = (statistics.mean(s[k] for s in some) for k in ("resolved", "distinct_2"))
            lines.append(f"{variant:<26} {population:<10} {spread:<32} {resolved:>7.0%}  {distinct:>9.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
