"""The suites of ``rapo eval --suite``, made from a config: one function each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from rapo.config import WORLDS, RunConfig
from rapo.errors import ConfigError, LackingError
from rapo.evals.interactive import Talks
from rapo.evals.suite import Suite
from rapo.interact.users import UserSimulator
from rapo.models.chat import ChatModel
from rapo.parts import Parts
from rapo.safety.patterns import language_of, languages
from rapo.worlds import load_world

if TYPE_CHECKING:
    from rapo.evals.llm_judge import Rating
    from rapo.types import Dialogue

OWN, ALL = "own", "all"


def own(parts: Parts) -> Talks:
    """Talks with the users of the recipe, those that are set aside for evaluation."""
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


def esconv(parts: Parts) -> Suite:
    """ESConv: talks with a model that plays the users, or with people's logged answers; and replies beside people's."""
    from rapo.evals.critic import Critic
    from rapo.evals.esconv import Esconv, EsconvTalks, load
    from rapo.evals.human_replies import HumanReplies

    c = parts.config
    if not c.suites.esconv:
        raise LackingError("the suite esconv has no conversations", expected="suites.esconv=[FILE] of ESConv's family")
    seed, judge = c.run.seed, parts.model(c.suites.judge, "evaluation") if c.suites.judge else None
    player = parts.model(c.suites.users, "evaluation") if c.suites.users else None
    conversations, users = load(c.suites.esconv, player)
    conversations = conversations[: c.suites.items]
    talks = EsconvTalks(
        users.scenarios(len(conversations), seed),
        users,
        f"{player.name} users" if player else "logs",
        seed,
        critic=Critic(judge, seed) if judge else None,
        samples=c.eval.bootstrap,
        max_missing=c.calls.max_missing,
    )
    replies = HumanReplies(
        conversations, seed, samples=c.eval.bootstrap, max_missing=c.calls.max_missing, labeller=judge
    )
    return Esconv([talks, replies])


def safety(parts: Parts) -> Suite:
    """Situations with and without a risk, the same for every recipe; ``suites.judge`` judges too where it is given."""
    from rapo.evals.safety import Safety
    from rapo.safety import draw, situations

    c = parts.config
    count = c.suites.items or c.eval.dialogues
    return Safety(
        draw(situations(c.suites.locale), count, c.run.seed),
        locale=c.suites.locale,
        seed=c.run.seed,
        samples=c.eval.bootstrap,
        judge=asked_model(parts, "judge", "safety") if c.suites.judge else None,
        max_missing=c.calls.max_missing,
    )


def emoharbor(parts: Parts) -> Suite:
    """Users with a way of their own, who rate what they experienced."""
    from rapo.data import load_scenarios
    from rapo.evals.emoharbor import PROFILES, EmoHarbor

    c = parts.config
    profiles = load_scenarios(c.suites.emoharbor or [PROFILES], "support").scenarios
    return EmoHarbor(
        profiles[: c.suites.items],
        [asked_model(parts, "users", "emoharbor")],
        turns=c.eval.turns,
        seed=c.run.seed,
        samples=c.eval.bootstrap,
        max_missing=c.calls.max_missing,
    )


def sotopia(parts: Parts) -> Suite:
    """SOTOPIA's scenarios, both sides in turn; the hard ones are shown apart too."""
    from rapo.data import load_sotopia
    from rapo.evals.sotopia import Sotopia
    from rapo.interact.llm_user import LLMUser

    c = parts.config
    if not c.suites.sotopia:
        raise LackingError(
            "the suite sotopia has no scenarios",
            expected="suites.sotopia=[FOLDER], the folder of the published files",
            fix="see docs/evaluation/sotopia.md",
        )
    scenarios = load_sotopia(c.suites.sotopia)[: c.suites.items]
    hard = {scenario.id for scenario in load_sotopia(c.suites.sotopia, ["sotopia_hard"])}
    partner, judge = asked_model(parts, "users", "sotopia"), asked_model(parts, "judge", "sotopia")
    return Sotopia(
        scenarios,
        LLMUser(scenarios, [partner], domain="negotiation", personas=False),
        judge,
        f"{partner.name} judged by {judge.name}",
        seed=c.run.seed,
        subsets={"hard": hard},
        samples=c.eval.bootstrap,
        max_missing=c.calls.max_missing,
    )


SUITES: dict[str, Callable[[Parts], Suite]] = {
    OWN: own,
    "support": lambda parts: world(parts, "support"),
    "bargaining": lambda parts: world(parts, "bargaining"),
    "esconv": esconv,
    "emoharbor": emoharbor,
    "sotopia": sotopia,
    "safety": safety,
}


def default_suites(config: RunConfig) -> tuple[str, ...]:
    """What is measured where nothing is asked for: the recipe's own users, and where they seek support, safety too."""
    users = config.users
    own = users.kind if users.kind in WORLDS else OWN
    supports = users.domain == "support" and users.kind != "bargaining"
    return (own, "safety") if supports and language_of(config.suites.locale) in languages() else (own,)


def make_suites(parts: Parts, names: Sequence[str]) -> list[Suite]:
    """The suites by name; ``all`` is every one but ``own`` for which the recipe has what it needs, the rest is told.

    Raises:
        ConfigError: there is no suite of a name, or one that was named lacks something.
    """
    for name in names:
        if name not in SUITES and name != ALL:
            raise ConfigError("there is no such suite", got=name, expected=f"{ALL} or some of: {', '.join(SUITES)}")
    if ALL not in names:
        return [SUITES[name](parts) for name in dict.fromkeys(names)]
    found = []
    for name, make in SUITES.items():
        try:
            found += [make(parts)] if name != OWN or OWN in names else []
        except LackingError as error:
            parts.notice(f"left out of {ALL}: {error}")
    return found


def asked_model(parts: Parts, role: Literal["users", "judge"], suite: str) -> ChatModel:
    """The language model of a role in a suite; raises ConfigError where the recipe names none."""
    name = getattr(parts.config.suites, role)
    if name is None:
        raise LackingError(
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
