"""What a run needs of its data: texts to learn from, users and a judge, and talks that fit the policy's context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rapo import plugins
from rapo.check import weights
from rapo.check.findings import Finding, tried
from rapo.config import WORLDS, RunConfig
from rapo.data import load_conversations, load_scenarios
from rapo.data.conversation import Loaded
from rapo.parts import Parts
from rapo.types import Scenario

CHARACTERS_PER_TOKEN = 4
REACTION = {"llm": 60}  # tokens of a user's answer, about
SHORT = 10  # tokens of a message that is shorter than most
SCENARIOS = 200  # looked at where there are many


def check_data(config: RunConfig, parts: Parts) -> Iterator[Finding]:
    """Every finding on files of data, users and judge, which asks no model."""
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "training text": lambda: _text(config),
        "users": lambda: _users(config, parts),
        "evaluation users": lambda: _evaluation(config, parts),
        "room for talks": lambda: _room(config, parts),
        "judge": lambda: _judge(config, parts),
    }
    for what, look in looks.items():
        yield from tried(what, look)


def tokens(text: str) -> int:
    """About how many tokens a text takes."""
    return len(text) // CHARACTERS_PER_TOKEN


def scenarios(config: RunConfig, parts: Parts) -> list[Scenario]:
    """Scenarios of the run: all of them where they are few."""
    return parts.users().scenarios(SCENARIOS if config.users.kind == "llm" else config.play.dialogues, 0)


def said(scenario: Scenario) -> int:
    """Tokens of a scenario's opening."""
    return sum(tokens(message.content) for message in scenario.opening)


def _context(config: RunConfig) -> int | None:
    return weights.context(config.policy.path) if config.policy.path else config.policy.max_context


def _text(config: RunConfig) -> Iterator[Finding]:
    if config.policy.path is not None:
        return
    if not config.sft.files:
        if config.users.kind in WORLDS:
            yield Finding("training text", "ok", "the embedded corpus")
        else:
            fix = "give dialogues in sft.files, or a model in policy.path"
            yield Finding("training text", "fail", f"there is no corpus for users.kind={config.users.kind}", fix)
        return
    loaded = load_conversations(config.sft.files, plugins.reader(config.sft.importer, "sft.importer"))
    usable = [talk for talk in loaded.conversations if not talk.set_aside]
    yield from _rows("training text", loaded, f"{len(usable)} dialogues to learn from")
    lengths = [sum(tokens(message.content) for message in talk.messages) for talk in usable]
    if not lengths:
        yield Finding("training text", "fail", "no dialogue to learn from", "bring more dialogues in sft.files")
    elif max(lengths) > config.policy.max_context:
        found = f"a dialogue of about {max(lengths)} tokens, the context is {config.policy.max_context}"
        yield Finding("training text", "warn", found, "raise policy.max_context, or shorten the dialogues")


def _users(config: RunConfig, parts: Parts) -> Iterator[Finding]:
    kind, files = config.users.kind, config.users.files
    drawn = parts.users().scenarios(config.play.dialogues, 0)
    # A scenario that is played twice has two ids.
    distinct = len({(s.situation, s.opening) if kind == "llm" else s.id for s in drawn})
    read = plugins.reader(config.users.importer, "users.importer")
    found = f"{distinct} scenarios for a first step"
    if kind == "llm":
        yield from _rows("users", load_scenarios(files, config.users.domain, read), found)
    elif kind == "replay":
        yield from _rows("users", load_conversations(files, read), found)
    else:
        known = f"the embedded world {kind}" if kind in WORLDS else f"{kind}: {distinct} scenarios"
        yield Finding("users", "ok", known)
    if distinct < config.play.dialogues:
        fix = "bring more scenarios, or lower play.dialogues"
        yield Finding("users", "warn", f"{distinct} different scenarios for {config.play.dialogues} dialogues", fix)


def _evaluation(config: RunConfig, parts: Parts) -> Iterator[Finding]:
    # Loads torch, for which a check has to account.
    from rapo.suites import own

    counts = {name: len(users.scenarios(config.eval.dialogues, 0)) for name, users in own(parts).users.items()}
    found = ", ".join(f"{count} dialogues with {name} users" for name, count in counts.items())
    yield Finding("evaluation users", "ok", found)


def _room(config: RunConfig, parts: Parts) -> Iterator[Finding]:
    """Whether the longest talk fits the context of the policy, which reads all of it at every turn."""
    context, c = _context(config), config
    if context is None:
        return
    turns = max(c.play.turns, c.eval.turns)
    opening = max((said(s) for s in scenarios(c, parts)), default=0) + tokens(c.policy.system_prompt or "")
    least = opening + turns * 2 * SHORT
    most = opening + turns * (c.policy.max_tokens + REACTION.get(c.users.kind, 30))
    found = f"{turns} turns take about {most} tokens, the policy reads {context}"
    fix = "lower play.turns, eval.turns or policy.max_tokens, or take a policy with a longer context"
    if most <= context:
        yield Finding("room for talks", "ok", found)
    else:
        yield Finding("room for talks", "fail" if least > context else "warn", found, fix)


def _judge(config: RunConfig, parts: Parts) -> Iterator[Finding]:
    parts.judge()
    yield Finding("judge", "ok", f"{config.judge.kind}, {config.judge.permutations} order(s) per group")


def _rows(what: str, loaded: Loaded, found: str) -> Iterator[Finding]:
    """What was loaded; rows left out are a warning that names the first."""
    problems: Sequence[object] = loaded.problems
    if problems:
        yield Finding(
            what, "warn", f"{found}; {len(problems)} rows left out, first {problems[0]}", "rapo data names all"
        )
    else:
        yield Finding(what, "ok", found)
