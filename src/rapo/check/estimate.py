"""How many calls a run will make, and what they cost in tokens, money and hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rapo.check.findings import Finding
from rapo.check.roles import used_models
from rapo.config import WORLDS, RunConfig
from rapo.interact.roles import chain
from rapo.models.journal import Average, Role


@dataclass(frozen=True, slots=True)
class Expected:
    """Calls to language models over a whole run, by role: fewer where talks end early, more after failures."""

    user: int
    judge: int
    evaluation_user: int
    evaluation_judge: int


def expected_calls(config: RunConfig) -> Expected:
    """What the config asks for; roles played without a language model make no calls."""
    c = config
    replies = c.play.dialogues * c.play.turns
    groups = min(max(1, round(c.select.share * replies)), c.play.dialogues * c.select.per_dialogue)
    corrections = min(c.correct.per_group, c.branch.candidates) * c.correct.verify if c.update.micro > 0 else 0.0
    echoes = replies + groups * (c.branch.candidates + corrections)
    per_echo = len(chain(c.users.domain, c.users.mode)) if c.users.kind == "llm" else 0
    evaluated = 2 * c.eval.dialogues * (len(c.eval.populations) if c.users.kind in WORLDS else 1)
    return Expected(
        user=round(c.train.steps * echoes) * per_echo,
        judge=c.train.steps * groups * c.judge.permutations * (c.judge.kind == "llm"),
        evaluation_user=evaluated * c.eval.turns * per_echo,
        evaluation_judge=evaluated * (c.eval.judge is not None),
    )


def estimate(config: RunConfig, measured: Mapping[tuple[Role, str], Average]) -> Iterator[Finding]:
    """Calls, tokens, cost and hours of the whole run, beside its budget.

    Args:
        config: the run's.
        measured: what one call took by role and purpose, as far as it was tried.
    """
    calls, users = expected_calls(config), measured.get(("user", "user"))
    by_role = {
        "user": (calls.user, users),
        "judge": (calls.judge, measured.get(("judge", "judge"))),
        # Without models of their own they are asked what the users are asked.
        "user of the evaluation": (calls.evaluation_user, measured.get(("evaluation", "user")) or users),
        "evaluation judge": (calls.evaluation_judge, measured.get(("evaluation", "rate"))),
    }
    total = sum(count for count, _ in by_role.values())
    if not total:
        return
    words = ", ".join(f"{count:,} as {role}" for role, (count, _) in by_role.items() if count)
    yield Finding("calls", "ok", f"about {total:,}: {words}")
    if any(count and each is None for count, each in by_role.values()):
        yield Finding("cost", "warn", "not known: not every role gave an answer to measure", "mend the lines above")
        return
    used = [(count, each) for count, each in by_role.values() if each is not None]
    tokens = sum(count * (each.prompt_tokens + each.completion_tokens) for count, each in used)
    cost = sum(count * each.cost for count, each in used)
    side_by_side = min((config.models[name].concurrency for name in used_models(config)), default=1)
    hours = sum(count * each.seconds for count, each in used) / side_by_side / 3600
    yield Finding("cost", "ok", f"about {tokens / 1e6:.1f}M tokens, {cost:.2f} at the prices given")
    yield Finding("time", "ok", f"about {hours:.1f} hours of calls, {side_by_side} side by side, if speed keeps up")
    c = config.calls
    limits = {"max_calls": (total, c.max_calls), "max_tokens": (tokens, c.max_tokens), "max_cost": (cost, c.max_cost)}
    for key, (need, limit) in limits.items():
        if limit is not None and need > limit:
            fix = f"raise calls.{key}, or lower train.steps; rapo resume goes on with a raised budget"
            found = f"calls.{key}={limit:g} ends the run early: about {need:,.0f} are needed"
            yield Finding("budget", "warn", found, fix)
