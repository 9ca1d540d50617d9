"""A training step, ours against TRL 1.16: seconds of sampling, update and whole step, and peak memory.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/step.py               # one point: P=512 C=64 G=8, 8,192 tokens of vocabulary, 6.0M parameters
    python benchmarks/step.py --sweep --runs 3                            # P x G x vocabulary; 24 points, hours
    python benchmarks/step.py --contenders rapo-grpo rapo-grpo-plain      # what sharing the prefix is worth
    python benchmarks/step.py --device cuda --dtype bfloat16 --shape 0.6b --prompt 1024 --reply 128 \\
        --vocabulary 151936 --peak-tflops 989                             # an H100; also --shape 4b

Every contender runs in a process of its own with the same weights, prompts (another one at every step), reply length,
dtype and threads, and does one optimizer step per step: sample G replies to each context, give them fixed rewards,
learn from them, AdamW. The end token cannot be drawn, so all replies have length C. Contenders take turns step by step,
or, where memory does not hold them together, run alone one after another and that twice; medians after a warm-up.

"sample" is what the policy (and the teacher) decodes, "update" is loss, backward pass, clipping, optimizer and the
teacher's moving average, "step" is everything, rewards and prompts included, "cpu" the processor's seconds in it, which
other processes hardly change. "peak" is the most memory the process ever held during the steps, "above" that less what
it held before the first one (imports and weights).

Ours, as ``rapo.trainer.Trainer.step`` does it:
  rapo-grpo          the macro term
  rapo-grpo-plain    the same with one ordinary row per reply: prefixes are not shared in the update
  rapo-own           macro and micro 0.5 each, the micro term along the replies: an EMA teacher reads context, failed
                     reply and critique, then scores every reply against the whole vocabulary. Compare with trl-sdpo
  rapo-corrections   the micro term along corrections that the EMA teacher writes (4 of a group: ``correct.per_group``);
                     "sample" includes writing them

Rivals, at their best settings; time counts against the fastest of a kind, memory against the leanest:
  trl-grpo           GRPOTrainer. No KL term and so no reference model (beta 0), no gradient checkpointing (TRL's
                     default; a fifth slower), all rows in one forward pass, fused AdamW, no logging, saving or progress
                     bar, sdpa attention that skips the mask of full rows, and ``generate`` with a growing cache: a
                     static cache is about as fast (TRL rules its compilation out), and continuous batching is several
                     times slower on a CPU (trl-grpo-static, trl-grpo-continuous). No vLLM: in-process only
  trl-grpo-split     one row per forward and backward pass (``--rival-rows``): as fast with a small vocabulary, and lean
  trl-grpo-compact   patched: on a CPU TRL projects the prompt's positions to the vocabulary too, on a GPU the replies'
                     only. This is what the rival would be without that; also trl-grpo-compact-split
  trl-sdpo           trl.experimental.sdpo with weight 0.5 and an EMA teacher, in its default and cheapest mode
                     (reverse KL on the sampled token). Every reply gets feedback, so that the teacher's forward pass
                     happens; its prompt is context and feedback, without the failed reply that ours reads
  trl-sdpo-split     one row per pass
  trl-sdpo-full      with our objective: forward KL over the whole vocabulary
  ...-checkpointing  with gradient checkpointing

Times are taken with a C library that keeps freed memory, which halves the time of trl-grpo and changes ours little;
memory is measured in another run with the system's settings, under which all hold least (Linux and glibc; on a GPU it
is torch's allocator, in the same run). ``--peak-tflops`` adds the share of that peak which the floating-point
operations of each phase reach, counted in a step of its own as matrix products and unmasked attention.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from harness import Channel, Outcome, Worker, alternate, free_memory, table, write_json
from workload import SHAPES, Point, write_model

GRPO = (
    *("trl-grpo", "trl-grpo-split", "trl-grpo-compact", "trl-grpo-compact-split"),
    *("trl-grpo-checkpointing", "trl-grpo-static", "trl-grpo-continuous"),
)
SDPO = ("trl-sdpo", "trl-sdpo-split", "trl-sdpo-full", "trl-sdpo-checkpointing")
RIVALS = {"rapo-grpo": ("rapo-grpo-plain", *GRPO), "rapo-own": SDPO, "rapo-corrections": SDPO}
EVERYBODY = (*RIVALS, "rapo-grpo-plain", *GRPO, *SDPO)
USUAL = (*RIVALS, *GRPO[:4], *SDPO[:2])
SWEEP: dict[str, Sequence[int]] = {"prompt": (128, 512, 1024, 2048), "group": (4, 8, 16), "vocabulary": (8192, 151936)}
SECONDS = ("sample", "update", "step", "cpu")
FIGURES = (*SECONDS, "peak", "above")


def main() -> None:
    """Measure every point, print its tables, and keep what is known after each."""
    args = _parse()
    if args.work:
        _work(**args.work)
    lists = {name: SWEEP[name] if args.sweep else getattr(args, name) for name in SWEEP}
    fixed = Point(**{name: getattr(args, name) for name in asdict(Point()) if name not in SWEEP})
    points: list[dict[str, Any]] = []
    for vocabulary in lists["vocabulary"]:
        with tempfile.TemporaryDirectory() as folder:
            size = write_model(Path(folder), fixed.shape, vocabulary, dtype=fixed.dtype)
            for prompt, group in product(lists["prompt"], lists["group"]):
                point = replace(fixed, vocabulary=vocabulary, prompt=prompt, group=group)
                timed, lean = measure(point, folder, args)
                figures = {name: _figures(timed[name], lean[name]) for name in timed}
                print(f"\n{size / 1e6:.1f}M parameters, {point}\n", flush=True)
                print(report(point, figures, args.peak_tflops), flush=True)
                for name in (name for name, found in figures.items() if not found):
                    print(f"{name} failed: {timed[name].failure or lean[name].failure}", flush=True)
                runs = {name: {"timed": asdict(timed[name]), "lean": asdict(lean[name])} for name in timed}
                points.append({"point": asdict(point), "parameters": size, "figures": figures, "runs": runs})
                write_json(args.json, {"points": points})


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in asdict(Point()).items():
        many = {"nargs": "+", "default": [default]} if name in SWEEP else {"default": default}
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), **many)
    parser.add_argument("--contenders", nargs="+", choices=EVERYBODY, default=USUAL, metavar="NAME")
    parser.add_argument(
        "--sweep", action="store_true", help="all of " + ", ".join(f"{k} {v}" for k, v in SWEEP.items())
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, help="of the machine, in the dtype measured")
    parser.add_argument("--json", type=Path, default=Path("runs/step.json"))
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.shape not in SHAPES:
        parser.error(f"--shape is one of {', '.join(SHAPES)}")
    return args


def _work(point: dict[str, Any], folder: str, contender: str) -> None:
    """Be a contender; does not return."""
    channel = Channel()
    if contender.startswith("trl"):
        from step_trl import run
    else:
        from step_ours import run
    run(Point(**point), Path(folder), contender, channel)


def measure(point: Point, folder: str, args: argparse.Namespace) -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """The outcomes of the timed run, and of the run whose memory counts; on a GPU that is the same run."""

    def begin(malloc: str, contender: str) -> Worker:
        task = {"point": asdict(point), "folder": folder, "contender": contender}
        return Worker(__file__, task, threads=point.threads, malloc=malloc)

    names, first = list(args.contenders), "count" if args.peak_tflops else "step"
    apart = [[name] for name in names]
    if point.device != "cpu":
        timed = alternate(apart * 2, partial(begin, "keep"), warmup=2, runs=-(-args.runs // 2), first=first)
        return timed, timed
    lean = alternate(apart, partial(begin, "system"), warmup=1, runs=2)
    # Kept blocks fragment, so that a process holds more of them than it ever uses at once.
    need = 1.5 * sum(_peak(outcome) for outcome in lean.values())
    if need < free_memory():
        return alternate([names], partial(begin, "keep"), warmup=1, runs=args.runs, first=first), lean
    return alternate(apart * 2, partial(begin, "keep"), warmup=1, runs=-(-args.runs // 2), first=first), lean


def _peak(lean: Outcome) -> float:
    return max((each["peak"] for each in lean.reports), default=0.0)


def _figures(timed: Outcome, lean: Outcome) -> dict[str, float]:
    """Seconds and MiB of a contender; empty when it failed."""
    if timed.failure or lean.failure:
        return {}
    seconds = {name: timed.median(name) for name in SECONDS}
    memory = {name: max(each[name] for each in lean.reports) for name in ("peak", "above")}
    return seconds | memory | {name: value for name, value in timed.first.items() if name.endswith("_tflop")}


def report(point: Point, figures: dict[str, dict[str, float]], peak_tflops: float | None) -> str:
    """The tables of a point: figures, ours against each rival, and the share of the machine's peak."""
    tokens = point.groups * point.group * point.reply
    rows = [
        [
            name,
            *(f"{found[each]:.3f}" for each in SECONDS),
            *(f"{tokens / found[each]:.0f}" for each in ("sample", "update")),
            *(f"{found[each]:.0f}" for each in ("peak", "above")),
        ]
        for name, found in figures.items()
        if found
    ]
    head = ["", "sample s", "update s", "step s", "cpu s", "sampled/s", "learnt/s", "peak MiB", "above MiB"]
    parts = [table(head, rows), table(["times ours", *FIGURES], _ratios(figures))]
    if peak_tflops:
        parts.append(table(["share of peak", "sample", "update"], _shares(figures, peak_tflops)))
    return "\n\n".join(parts)


def _ratios(figures: dict[str, dict[str, float]]) -> list[list[str]]:
    return [
        [f"{rival} / {ours}", *(f"{figures[rival][each] / figures[ours][each]:.2f}" for each in FIGURES)]
        for ours, rivals in RIVALS.items()
        for rival in rivals
        if figures.get(ours) and figures.get(rival)
    ]


def _shares(figures: dict[str, dict[str, float]], peak_tflops: float) -> list[list[str]]:
    return [
        [name, *(f"{found[f'{each}_tflop'] / found[each] / peak_tflops:.1%}" for each in ("sample", "update"))]
        for name, found in figures.items()
        if found
    ]


if __name__ == "__main__":
    main()
