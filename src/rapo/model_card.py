"""The model card beside a checkpoint: what the model learnt from, whom it was measured with, and what it is not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rapo.config import WORLDS, RunConfig
from rapo.evals.suite import Result
from rapo.optimize.checkpoint import CARD
from rapo.records import atomic_write, disk_errors
from rapo.show import printable

NOTICE = """\
Research software for studying dialogue models. Not a medical device, not therapy or advice, and no replacement for
human help: the model may miss that somebody is in danger, and may say what harms. A measured gain is one with the
simulated users named above; they are not people."""


def card(
    config: RunConfig,
    *,
    step: int,
    metrics: Mapping[str, float],
    calls: Mapping[str, float],
    results: Sequence[Result] = (),
) -> str:
    """The card as Markdown with the head that model hubs read.

    Args:
        config: of the run.
        step: training steps behind the checkpoint.
        metrics: of the newest step.
        calls: how often the run asked whom, by name.
        results: evaluations before and after; none yet in the middle of a run.
    """
    base = config.policy.path
    head = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["rapo", "dialogue"]}
    # JSON is YAML, and a path can then hold what it likes.
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in (head | _base(base)).items()), "---", ""]
    lines += [f"# Trained on reactions: step {step}", "", NOTICE, "", "## What it learnt from", ""]
    lines += _table({**_origins(config), "training steps": str(step), **{k: f"{v:,.0f}" for k, v in calls.items()}})
    lines += ["", "## Results", "", *_results(results)]
    if metrics:
        shown = ("state_change", "teacher_lift", "entropy", "kl_to_start")
        known = {name.replace("_", " "): f"{metrics[name]:.3f}" for name in shown if name in metrics}
        lines += ["", f"At step {step}:", "", *_table(known)]
    lines += ["", "## Limits", "", *_limits(config), "", "The whole config is in config.yaml of the run.", ""]
    return "\n".join(lines)


def write_card(folder: Path, text: str) -> None:
    """Put a card beside a checkpoint; raises RunError."""
    with disk_errors(folder / CARD):
        atomic_write(folder / CARD, text)


def _base(path: str | None) -> dict[str, str]:
    return {} if path is None or Path(path).exists() else {"base_model": path}


def _origins(config: RunConfig) -> dict[str, str]:
    users, judge = config.users, config.judge
    data = ", ".join(map(str, users.files)) or ("embedded world" if users.kind in WORLDS else "-")
    judged = f"{judge.kind} {judge.model or ''}".strip()
    return {
        "base model": str(config.policy.path or "made from scratch, fine-tuned on an embedded or given corpus"),
        "users": " ".join([users.kind, *users.models]) + (f", {users.population}" if users.kind in WORLDS else ""),
        "their data": data,
        "judge": judged if judge.permutations == 1 else f"{judged}, in {judge.permutations} orders",
        "weights of ranks and critiques": f"{config.update.macro:g} and {config.update.micro:g}",
    }


def _results(results: Sequence[Result]) -> list[str]:
    shown = [each for each in results if each.kind == "policy"]
    if not shown:
        return ["Not measured at this step; the run measures its start and its end."]
    lines = ["| suite | users | model | main score [95%] | items |", "|---|---|---|---|---|"]
    for each in shown:
        cells = (each.suite, each.users, each.speaker, f"{each.main} {each.outcome:+.2f}", str(len(each.items)))
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return lines


def _limits(config: RunConfig) -> list[str]:
    limits = ["- A policy learns what pleases its simulated users, and may have found what pleases nobody else."]
    if config.users.kind in WORLDS:
        limits.append("- Its users were scripts: this says that the machinery learns, not that the model helps anyone.")
    if config.policy.path is None:
        limits.append("- A small model made from scratch, which knows the words of one scripted world.")
    return limits


def _table(rows: Mapping[str, str]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items())]


def _cell(text: str) -> str:
    """Text that ends no cell and begins no markup."""
    return "".join(f"\\{c}" if c in "|\\`*_[]<>" else c for c in printable(text))
