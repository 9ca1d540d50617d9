"""``rapo check``: everything a run will need, looked at in half a minute, a verdict and a way out per line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from rapo.check.estimate import estimate
from rapo.check.findings import Finding
from rapo.check.local import check_machine
from rapo.check.remote import check_model, check_roles, impatient
from rapo.config import RunConfig
from rapo.models.journal import Journal
from rapo.parts import Parts

__all__ = ["Finding", "check"]


def check(config: RunConfig) -> Iterator[Finding]:
    """The findings on a run of ``config``, as they come; nothing is written but in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="rapo-check-") as name:
        folder = Path(name)
        calls = config.calls.model_copy(update={"journal": folder / "journal.sqlite", "breaker": 1, "patience": 0.2})
        models = {name: impatient(spec) for name, spec in config.models.items()}
        quick = config.model_copy(update={"calls": calls, "models": models})
        with Parts(quick, folder, notice=lambda text: None) as parts:
            yield from check_machine(config, parts)
            if used := used_models(config):
                yield from _models(config, used, parts, folder)
                yield from estimate(config, parts.journal.averages())


def _models(config: RunConfig, used: Sequence[str], parts: Parts, folder: Path) -> Iterator[Finding]:
    """All models side by side, then each role in the run's own words where its models can be asked."""
    lost: set[str] = set()
    with closing(Journal(folder / "probes.sqlite")) as journal, ThreadPoolExecutor(len(used)) as pool:
        asked = {
            name: pool.submit(check_model, name, config.models[name], journal, needed_context(config, name))
            for name in used
        }
        for name, future in asked.items():
            found = future.result()
            yield from found
            if any(each.level == "fail" for each in found):
                lost.add(name)
    yield from check_roles(config, parts, lost)


def used_models(config: RunConfig) -> list[str]:
    """The names of the models a run asks, each once."""
    named = [*config.users.models, *config.eval.models] if config.users.kind == "llm" else []
    named += [config.judge.model or ""] if config.judge.kind == "llm" else []
    named += [config.eval.judge or ""]
    return [name for name in dict.fromkeys(named) if name]


def needed_context(config: RunConfig, name: str) -> int:
    """About the longest prompt a model will get, in tokens: instructions and profile, the talk, the candidates."""
    instructions, reaction = 1500, 120
    turn = config.policy.max_tokens + reaction
    group = config.branch.candidates * turn if config.judge.model == name else 0
    turns = config.users.max_opening // 2 + max(config.play.turns, config.eval.turns)
    return instructions + turns * turn + group
