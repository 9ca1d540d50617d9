"""The card beside a checkpoint says what is known, and nothing in it can pass for markup."""

from __future__ import annotations

import re

import yaml

from rapo.config import RunConfig
from rapo.evals.stats import Interval
from rapo.evals.suite import Item, Result
from rapo.model_card import NOTICE, card

HOSTILE = "x | <script>alert(1)</script> [a](javascript:b) \x1b[31m"


def test_a_card_in_the_middle_of_a_run() -> None:
    text = card(RunConfig(), step=3, metrics={"state_change": -0.25}, calls={"simulator calls": 1234.0})
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "transformers"
    for part in (NOTICE, "| simulator calls | 1,234 |", "| state change | -0.250 |", "Not measured at this step"):
        assert part in body


def test_results_and_a_base_model_of_any_name() -> None:
    config = RunConfig(policy={"path": HOSTILE})  # type: ignore[arg-type]
    result = Result(
        "talks", HOSTILE, "held_out", "change", (Item("a", {"change": 1.0}),), {"change": Interval(1, 0.5, 2)}
    )
    text = card(config, step=1, metrics={}, calls={}, results=[result])
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == HOSTILE
    assert "change +1.00 [+0.50, +2.00] | 1 |" in body.replace("\\", "")
    assert not re.search(r"(?<!\\)[<>`]|(?<!\\)\](?=\()|\x1b", body.partition("## What")[2])


def test_the_orders_of_a_judge_are_named_once() -> None:
    config = RunConfig(judge={"permutations": 3})  # type: ignore[arg-type]
    (line,) = [line for line in card(config, step=1, metrics={}, calls={}).splitlines() if line.startswith("| judge")]
    assert line == f"| judge | {config.judge.kind}, in 3 orders |"
