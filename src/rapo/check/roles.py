"""What a run needs of its language models in their roles: answers it can use to its own questions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rapo.check.data import said, scenarios, tokens
from rapo.check.findings import Finding, tried
from rapo.check.hurry import HurriedParts, LateError
from rapo.check.remote import unknown
from rapo.config import RunConfig
from rapo.errors import RapoError
from rapo.evals.llm_judge import rate
from rapo.hindsight.feedback import JudgeRequest
from rapo.interact.llm_user import LLMUser
from rapo.models.journal import Role as Ledger
from rapo.parts import Parts
from rapo.types import Dialogue, EchoRequest, Message, Reaction, Scenario

INSTRUCTIONS, PROFILE, REACTION = 600, 900, 120  # tokens
REPLY = "What goes through your mind at night?"


@dataclass(frozen=True, slots=True)
class Role:
    """What a model is to be tried as.

    Attributes:
        what: in words.
        model: its name in the config.
        usable: whether it gave an answer the run can use.
    """

    what: str
    model: str
    usable: Callable[[], bool]


def used_models(config: RunConfig) -> list[str]:
    """The names of the models a run asks, each once."""
    named = [*config.users.models, *config.eval.models] if config.users.kind == "llm" else []
    named += [config.judge.model or ""] if config.judge.kind == "llm" else []
    named += [config.eval.judge or ""]
    return [name for name in dict.fromkeys(named) if name]


def workers(config: RunConfig) -> int:
    """How many models are asked side by side: those in this process would only get into each other's way."""
    used = used_models(config)
    return 1 if any(config.models[name].path for name in used) else 2 * len(used) + 1


def needed_context(config: RunConfig, parts: Parts, name: str) -> int:
    """About the longest prompt a model will get, in tokens: instructions and profile, the talk, the candidates."""
    try:
        told = max(tokens(json.dumps(dict(s.profile)) + s.situation) + said(s) for s in scenarios(config, parts))
    except (RapoError, ValueError):
        # What is wrong with them has been told.
        told = PROFILE
    turn = config.policy.max_tokens + REACTION
    group = config.branch.candidates * turn if config.judge.model == name else 0
    return INSTRUCTIONS + told + max(config.play.turns, config.eval.turns) * turn + group


def check_roles(config: RunConfig, parts: HurriedParts, lost: Set[str]) -> Iterator[Finding]:
    """Whether users, judge and evaluation judge give answers the run can use; models that are ``lost`` are not asked.

    Side by side; users each by themselves, and those of the evaluation in its name.
    """
    roles = [role for role in _roles(config, parts) if role.model not in lost]
    with ThreadPoolExecutor(workers(config)) as pool:
        found = [pool.submit(tried, role.what, lambda role=role: _timed(role)) for role in roles]  # type: ignore[misc]
        for each in found:
            yield from each.result()


def _roles(config: RunConfig, parts: HurriedParts) -> list[Role]:
    c, roles = config, list[Role]()
    try:
        scenario = parts.users().scenarios(1, 0)[0]
    except (RapoError, IndexError):
        return roles
    if c.users.kind == "llm":
        roles += [Role(f"{name}: an echo", name, _echoes(parts, name, "user", scenario)) for name in c.users.models]
        roles += [
            Role(f"{name}: evaluation echo", name, _echoes(parts, name, "evaluation", scenario))
            for name in c.eval.models
        ]
    if c.judge.kind == "llm":
        roles.append(Role(f"{c.judge.model}: a verdict", str(c.judge.model), lambda: _judges(parts)))
    if c.eval.judge:
        roles.append(Role(f"{c.eval.judge}: a rating", c.eval.judge, lambda: _rates(parts, scenario)))
    return roles


def _echoes(parts: HurriedParts, name: str, ledger: Ledger, scenario: Scenario) -> Callable[[], bool]:
    users = parts.config.users
    player = LLMUser([scenario], [parts.model(name, ledger)], domain=users.domain, mode=users.mode)
    # Another seed for the evaluation: the journal knows every answer once.
    request = EchoRequest(Dialogue(scenario), REPLY, int(ledger == "evaluation"))
    return lambda: player.react([request])[0] is not None


def _judges(parts: HurriedParts) -> bool:
    size = parts.config.branch.candidates
    context = (Message("user", "I lost my job last week and I can not sleep."),)
    replies = (REPLY, "Everything happens for a reason.")
    echoes = (Reaction("That I am no use to anyone.", 6.0), Reaction("That does not help me.", 2.0))
    request = JudgeRequest(context, (replies * size)[:size], (echoes * size)[:size])
    return parts.judge().judge([request])[0] is not None


def _rates(parts: HurriedParts, scenario: Scenario) -> bool:
    c, talk = parts.config, Dialogue(scenario)
    for _ in range(c.eval.turns):
        talk = talk.then(REPLY, Reaction("That I am no use to anyone.", scenario.start))
    return rate(parts.model(str(c.eval.judge), "evaluation"), [talk], c.users.domain, seed=0)[0] is not None


def _timed(role: Role) -> Iterator[Finding]:
    started = time.perf_counter()
    try:
        usable = role.usable()
    except LateError as late:
        yield unknown(role.what, late)
        return
    if usable:
        yield Finding(role.what, "ok", f"usable, in {time.perf_counter() - started:.1f} s")
    else:
        fix = "take a stronger model for this role"
        yield Finding(role.what, "fail", "no usable answer, also when its error was shown", fix)
