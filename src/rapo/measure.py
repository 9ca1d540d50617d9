"""Measuring speakers suite by suite, and what an embedded world has to say beside them."""

from __future__ import annotations

from collections.abc import Mapping

from rapo.config import WORLDS, RunConfig
from rapo.evals.battery import scripted
from rapo.evals.interactive import Talks
from rapo.evals.results import read_results, write_results
from rapo.evals.suite import Result, Suite, after
from rapo.interact.play import Speaker
from rapo.models.memory import Memory
from rapo.models.policy import Policy
from rapo.models.speaker import PolicySpeaker
from rapo.parts import Parts
from rapo.progress import Terminal
from rapo.records import RunDirectory
from rapo.suites import default_suites, make_suites


def evaluate(
    run: RunDirectory,
    parts: Parts,
    name: str,
    policies: Mapping[str, Policy],
    terminal: Terminal,
    *,
    battery: bool = False,
) -> list[Result]:
    """Evaluate policies on users and scenarios that training never meets; kept in ``evaluation-NAME.json``."""
    path = run.path / f"evaluation-{name}.json"
    if (found := read_results(path)) is not None:
        return found
    results: list[Result] = []
    for suite in make_suites(parts, default_suites(parts.config)):
        for label, policy in policies.items():
            speaker = policy_speaker(policy, parts.config)
            results += measure(suite, {label: speaker}, terminal, title=f"evaluate {name}")
        results += measure_battery(suite, terminal) if battery else []
    write_results(path, results)
    return results


def policy_speaker(policy: Policy, config: RunConfig) -> Speaker:
    """A policy as it speaks in evaluations."""
    p = config.policy
    return PolicySpeaker(policy, p.system_prompt, p.max_tokens, config.eval.temperature, Memory())


def measure(suite: Suite, speakers: Mapping[str, Speaker], terminal: Terminal, *, title: str) -> list[Result]:
    """What speakers do in a suite."""
    results: list[Result] = []
    with terminal.stage(title, len(speakers) * suite.total) as bar:
        for place, (name, speaker) in enumerate(speakers.items()):
            results += suite.run(name, speaker, after(place * suite.total, bar))
    return results


def has_battery(suite: Suite) -> bool:
    """Whether there are scripted speakers for a suite."""
    return suite.name in WORLDS


def measure_battery(suite: Suite, terminal: Terminal) -> list[Result]:
    """What the scripted speakers of a suite's world do in it; none where it is no world's."""
    if not isinstance(suite, Talks) or not has_battery(suite):
        return []
    results: list[Result] = []
    for kind, speakers in scripted(suite.name):
        with terminal.stage(f"{suite.name}, {kind}s", len(speakers) * suite.total) as bar:
            for place, (name, speaker) in enumerate(speakers.items()):
                results += suite.run(name, speaker, after(place * suite.total, bar), kind=kind)
    return results
