"""Tokens per second of our sampler against ``generate`` of transformers.

    python benchmarks/sample.py [--rows 1 8 64 --prompt 512 --reply 64 --group 8 --shape 6m --vocabulary 8192]

R rows are R / G contexts of P tokens with G replies of C tokens each (one context with R replies where R < G). Same
weights, prompts, threads, temperature 1 and whole vocabulary; the end token cannot be drawn, so all replies are full.
Each contender is a process of its own; they take turns, and medians are taken after a warm-up.

  rapo       ``rapo.models.sampler.sample``; it also returns each token's log-probability, and the text
  generate   gets every context once, an attention mask and ``num_return_sequences``, and grows its cache; ids only
  static     the same with ``cache_implementation="static"``, which transformers compiles on a GPU and not on a CPU

"same" is the share of rows whose tokens are those of ours when both decode greedily, one row per reply: 100% in
float32, while a lower precision may break ties differently.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness import Channel, Clock, Outcome, Worker, alternate, table, write_json
from rapo.models.policy import Policy
from rapo.models.sampler import SampleRequest, sample
from rapo.types import Message
from workload import SHAPES, Point, dialogues, write_model


def main() -> None:
    """Time everybody for every number of rows."""
    args = _parse()
    if args.work:
        _work(**args.work)
    found: dict[int, dict[str, Outcome]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), args.shape, args.vocabulary, dtype=args.dtype)
        for rows in args.rows:
            group = min(args.group, rows)
            fixed = {name: getattr(args, name) for name in SETTINGS}
            start = partial(_start, Point(group=group, groups=rows // group, **fixed), folder)
            found[rows] = alternate(list(CONTENDERS), start, warmup=2, runs=args.runs, first="greedy")
    print(report(found, args.reply))
    runs = {rows: {name: asdict(outcome) for name, outcome in outcomes.items()} for rows, outcomes in found.items()}
    write_json(args.json, {"settings": {name: getattr(args, name) for name in SETTINGS}, "rows": runs})


SETTINGS = ("prompt", "reply", "vocabulary", "shape", "dtype", "device", "threads")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64])
    for name in ("group", *SETTINGS):
        default = getattr(Point(), name)
        parser.add_argument(
            f"--{name}", type=type(default), default=default, choices=SHAPES if name == "shape" else None
        )
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("runs/sample.json"))
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def _start(point: Point, folder: str, contender: str) -> Worker:
    task = {"point": asdict(point), "folder": folder, "contender": contender}
    return Worker(__file__, task, threads=point.threads, malloc="keep")


def _work(point: dict[str, Any], folder: str, contender: str) -> None:
    """Be a contender; does not return."""
    channel, task = Channel(), Point(**point)
    torch.set_num_threads(task.threads)
    policy = Policy.load(folder, dtype=task.dtype, device=task.device)
    prompts = [tuple(policy.render([Message("user", text)])) for text, _ in dialogues(task)]
    number = 0
    while command := channel.wait():
        first = number * task.groups % len(prompts)
        clock = Clock(task.device)
        greedy = command == "greedy"
        ids = CONTENDERS[contender](policy, prompts[first : first + task.groups], task, number, greedy)
        channel.report(clock.report() | ({"ids": ids} if greedy else {}))
        number += 1


def ours(policy: Policy, prompts: Sequence[tuple[int, ...]], task: Point, number: int, greedy: bool) -> list[list[int]]:
    """Completions of our sampler."""
    first = number * len(prompts) * task.group
    requests = [
        SampleRequest(prompt, tuple(range(first + i * task.group, first + (i + 1) * task.group)))
        for i, prompt in enumerate(prompts)
    ]
    found = sample(policy, requests, max_tokens=task.reply, temperature=0.0 if greedy else 1.0)
    return [list(each.completion.token_ids) for some in found for each in some]


@torch.inference_mode()
def theirs(
    policy: Policy, prompts: Sequence[tuple[int, ...]], task: Point, number: int, greedy: bool, **settings: Any
) -> list[list[int]]:
    """Completions of ``generate``."""
    ids = torch.tensor(prompts, device=policy.device)
    if greedy:
        ids = ids.repeat_interleave(task.group, dim=0)
    found = policy.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=task.reply,
        do_sample=not greedy,
        temperature=1.0,
        top_k=0,
        num_return_sequences=1 if greedy else task.group,
        eos_token_id=policy.tokenizer.eos_token_id,
        **settings,
    )
    rows: list[list[int]] = found[:, ids.shape[1] :].tolist()
    return rows


CONTENDERS: dict[str, Callable[..., list[list[int]]]] = {
    "rapo": ours,
    "generate": theirs,
    "static": partial(theirs, cache_implementation="static"),
}


def report(found: dict[int, dict[str, Outcome]], reply: int) -> str:
    """Tokens per second, and ours against the better of the two."""
    rivals = [name for name in CONTENDERS if name != "rapo"]
    lines = []
    for rows, outcomes in found.items():
        speeds = {name: rows * reply / outcome.median("step") for name, outcome in outcomes.items()}
        mine, theirs = (outcomes[name].first["ids"] for name in ("rapo", "generate"))
        same = sum(a == b for a, b in zip(mine, theirs, strict=True)) / rows
        best = max(speeds[name] for name in rivals)
        times = [f"{speeds[name]:.0f}" for name in CONTENDERS]
        lines.append([str(rows), *times, f"{speeds['rapo'] / best:.2f}", f"{same:.0%}"])
    return table(["rows", *(f"{name} tokens/s" for name in CONTENDERS), "times the best", "same"], lines)


if __name__ == "__main__":
    main()
