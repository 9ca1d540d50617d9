"""Measuring policies with users that training never meets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from rapo.config import WORLDS
from rapo.evals.battery import scripted
from rapo.evals.interactive import Row, Suite
from rapo.evals.stats import bootstrap_mean
from rapo.interact.play import Speaker
from rapo.missing import CountingUsers, demand
from rapo.models.memory import Memory
from rapo.models.policy import Policy
from rapo.models.speaker import PolicySpeaker
from rapo.parts import Parts
from rapo.progress import Bar, Terminal
from rapo.records import RunDirectory, atomic_write, from_json, to_json


def evaluate(
    run: RunDirectory,
    parts: Parts,
    name: str,
    policies: Mapping[str, Policy],
    terminal: Terminal,
    *,
    battery: bool = False,
) -> list[Row]:
    """Evaluate policies on users and scenarios that training never meets; kept in ``evaluation-NAME.json``."""
    path = run.path / f"evaluation-{name}.json"
    if path.is_file():
        return [from_json(Row, row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    rows = measure(parts, policies, terminal, title=f"evaluate {name}", battery=battery)
    atomic_write(path, json.dumps({"v": 1, "rows": to_json(rows)}) + "\n")
    return rows


def measure(
    parts: Parts, policies: Mapping[str, Policy], terminal: Terminal, *, title: str, battery: bool
) -> list[Row]:
    """The rows of an evaluation: every policy, and with ``battery`` the scripted speakers of an embedded world."""
    config, c = parts.config, parts.config.eval
    users = eval_users(parts)
    suite = Suite(users, c.dialogues, c.turns, config.run.seed, c.bootstrap)
    speakers: dict[str, Speaker] = {
        label: PolicySpeaker(policy, config.policy.system_prompt, config.policy.max_tokens, c.temperature, Memory())
        for label, policy in policies.items()
    }
    work: list[tuple[str, Mapping[str, Speaker]]] = [("policy", speakers)]
    if battery and config.users.kind in WORLDS:
        work += scripted(config.users.kind)
    rows: list[Row] = []
    with terminal.stage(title, sum(len(some) for _, some in work) * len(suite.users) * c.turns) as bar:
        count = _TurnCount(c.turns, bar)
        for kind, some in work:
            rows += suite.run(some, kind, count)
    for name, each in users.items():
        what = f"reactions of {name} users"
        demand(what, missing=each.missing, asked=each.calls, limit=config.calls.max_missing)
    return [_rated(parts, row) for row in rows] if c.judge else rows


def _rated(parts: Parts, row: Row) -> Row:
    """The row with what the evaluation judge thinks of its dialogues; missing ratings are left out, never zero."""
    from rapo.evals.llm_judge import rate

    c = parts.config
    if row.kind != "policy":
        return row
    model = parts.model(str(c.eval.judge), "evaluation")
    ratings = rate(model, row.dialogues, domain=c.users.domain, seed=c.run.seed)
    scores = [rating.score for rating in ratings if rating is not None]
    missing = len(ratings) - len(scores)
    demand("ratings", missing=missing, asked=len(ratings), limit=c.calls.max_missing)
    rating = bootstrap_mean(scores, seed=c.run.seed, samples=c.eval.bootstrap)
    return replace(row, outcome=replace(row.outcome, rating=rating))


class _TurnCount:
    """Moves a bar turn by turn; a row that its users ended early counts in full."""

    def __init__(self, turns: int, bar: Bar) -> None:
        self.turns, self.bar, self.done, self.rows = turns, bar, 0, 0

    def __call__(self, row: Row | None) -> None:
        self.rows += row is not None
        self.done = self.done + 1 if row is None else self.rows * self.turns
        self.bar(self.done)


def eval_users(parts: Parts) -> dict[str, CountingUsers]:
    """The users of an evaluation by the name of their population, which training never meets."""
    kind = parts.config.users.kind
    if kind in WORLDS:
        return {name: CountingUsers(parts.users(name, evaluation=True)) for name in parts.config.eval.populations}
    # Nobody but its author knows whether a class of one's own keeps users for evaluation.
    name = {"replay": "logs", "llm": "held out"}.get(kind, "own")
    return {name: CountingUsers(parts.users(evaluation=True))}
