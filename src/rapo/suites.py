"""The suites of ``rapo eval --suite``, made from a config: one function each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from rapo.config import WORLDS, RunConfig
from rapo.errors import ConfigError
from rapo.evals.interactive import Talks
from rapo.evals.suite import Suite
from rapo.interact.users import UserSimulator
from rapo.models.chat import ChatModel
from rapo.parts import Parts
from rapo.worlds import load_world

if TYPE_CHECKING:
    from rapo.evals.llm_judge import Rating
    from rapo.types import Dialogue

OWN = "own"


def own(parts: Parts) -> Talks:
    """Talks with the users of the recipe, which training never meets."""
    kind = parts.config.users.kind
    if kind in WORLDS:
        return world(parts, kind)
    # Nobody but its author knows whether a class of one's own keeps users for evaluation.
    name = {"replay": "logs", "llm": "held out"}.get(kind, "own")
    return _talks(parts, OWN, {name: parts.users(evaluation=True)})


def world(parts: Parts, name: str) -> Talks:
    """Talks with the users of an embedded world, whatever users the recipe has."""
    found = load_world(name)
    populations = parts.config.eval.populations
    return _talks(parts, name, {each: found.users(each, evaluation=True) for each in populations})


SUITES: dict[str, Callable[[Parts], Suite]] = {
    OWN: own,
    "support": lambda parts: world(parts, "support"),
    "bargaining": lambda parts: world(parts, "bargaining"),
}


def default_suites(config: RunConfig) -> tuple[str, ...]:
    """What is measured where nothing is asked for: the recipe's own users."""
    return (config.users.kind if config.users.kind in WORLDS else OWN,)


def make_suites(parts: Parts, names: Sequence[str]) -> list[Suite]:
    """The suites by name; ``all`` is every one but ``own``. Raises ConfigError for a name there is none of."""
    for name in names:
        if name not in SUITES and name != "all":
            raise ConfigError("there is no such suite", got=name, expected=f"all or some of: {', '.join(SUITES)}")
    wanted = [name for name in SUITES if name != OWN] if "all" in names else list(dict.fromkeys(names))
    return [SUITES[name](parts) for name in wanted]


def asked_model(parts: Parts, role: Literal["users", "judge"], suite: str) -> ChatModel:
    """The language model of a role in a suite; raises ConfigError where the recipe names none."""
    name = getattr(parts.config.suites, role)
    if name is None:
        raise ConfigError(
            f"the suite {suite} needs a language model for its {role}",
            expected=f"suites.{role}=NAME, one of models",
            fix="to try it offline: models.m.path=rapo.models.stand_in:answer suites.users=m suites.judge=m",
        )
    return parts.model(name, "evaluation")


def _talks(parts: Parts, name: str, users: dict[str, UserSimulator]) -> Talks:
    c = parts.config
    return Talks(
        name,
        users,
        count=c.suites.items or c.eval.dialogues,
        turns=c.eval.turns,
        seed=c.run.seed,
        samples=c.eval.bootstrap,
        max_missing=c.calls.max_missing,
        rate=_rater(parts) if c.eval.judge else None,
    )


def _rater(parts: Parts) -> Callable[[Sequence[Dialogue]], list[Rating | None]]:
    from rapo.evals.llm_judge import rate

    c = parts.config
    model = parts.model(str(c.eval.judge), "evaluation")
    return lambda dialogues: rate(model, dialogues, domain=c.users.domain, seed=c.run.seed)
