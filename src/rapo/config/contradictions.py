"""Keys that are each right and do not go together: a run would not work, or not do what its config seems to say."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rapo.config.sections import WORLDS

if TYPE_CHECKING:
    from rapo.config.run_config import RunConfig

Contradiction = tuple[bool, str, str]  # whether it is met, what it is, what was expected
# What the talks of an embedded world are to a language model that judges them.
DOMAINS = {"support": "support", "bargaining": "negotiation"}


def contradictions(c: RunConfig) -> list[Contradiction]:
    """Every contradiction that could be, the most telling first."""
    return [*_users(c), *_judges(c), *_idle(c), *_models(c), *_learning(c), *_memory(c), *_trackers(c)]


def _users(c: RunConfig) -> list[Contradiction]:
    users = c.users.kind
    return [
        (users == "replay" and not c.users.files, "users.kind=replay has no users.files", "a list of dialogue logs"),
        (users == "llm" and not c.users.files, "users.kind=llm has no users.files", "a list of scenario files"),
        (
            users == "llm" and c.users.mode == "three_roles" and c.users.domain != "support",
            f"users.mode=three_roles has no prompts for users.domain={c.users.domain}",
            "users.domain=support, or another mode",
        ),
    ]


def _judges(c: RunConfig) -> list[Contradiction]:
    users, judge, domain = c.users.kind, c.judge.kind, c.users.domain
    who = {"replay": "replayed"}.get(users, users)
    fitting = {"replay": "contrast", "llm": "llm"} | {world: world for world in WORLDS}
    return [
        (
            judge in WORLDS and judge != users,
            f"judge.kind={judge} cannot judge {who} users",
            f"judge.kind={fitting.get(users, 'contrast, llm or a class of yours')}",
        ),
        (
            judge == "contrast" and not c.judge.sees_echoes,
            "judge.sees_echoes=false leaves judge.kind=contrast nothing to read",
            "another judge, or no judge.sees_echoes",
        ),
        (
            users in WORLDS and domain != DOMAINS[users] and (judge == "llm" or c.eval.judge is not None),
            f"users.domain={domain} would have a language model judge {users} users by the wrong prompts",
            f"users.domain={DOMAINS.get(users)}",
        ),
        (
            users not in WORLDS and c.teacher.replay > 0,
            f"teacher.replay has no examples for {who} users",
            "teacher.replay=0",
        ),
    ]


# A key that decides nothing without another one is a slip when it is given: the key, what it needs, in words.
# Keys that a variant merely leaves unused (update.micro=0 leaves correct.* so) are not here.
_NEEDS: tuple[tuple[str, Callable[[RunConfig], bool], str], ...] = (
    ("users.files", lambda c: c.users.kind in {"replay", "llm"}, "users.kind=replay or llm"),
    ("users.importer", lambda c: bool(c.users.files), "users.files"),
    ("users.options", lambda c: ":" in c.users.kind, "users.kind=package.module:Name"),
    ("users.neighbours", lambda c: c.users.kind == "replay", "users.kind=replay"),
    ("users.max_opening", lambda c: c.users.kind == "replay", "users.kind=replay"),
    ("users.models", lambda c: c.users.kind == "llm", "users.kind=llm"),
    ("users.mode", lambda c: c.users.kind == "llm", "users.kind=llm"),
    ("users.personas", lambda c: c.users.kind == "llm", "users.kind=llm"),
    ("eval.models", lambda c: c.users.kind == "llm", "users.kind=llm"),
    ("judge.model", lambda c: c.judge.kind == "llm", "judge.kind=llm"),
    ("judge.tie", lambda c: c.judge.kind == "contrast", "judge.kind=contrast"),
    ("judge.options", lambda c: ":" in c.judge.kind, "judge.kind=package.module:Name"),
    ("sft.importer", lambda c: bool(c.sft.files), "sft.files"),
    ("lora.alpha", lambda c: c.lora.rank is not None, "lora.rank"),
    ("lora.targets", lambda c: c.lora.rank is not None, "lora.rank"),
)


def _idle(c: RunConfig) -> list[Contradiction]:
    return [
        (_given(c, key) and not needed(c), f"{key} is given", f"{words} with it, or no {key}")
        for key, needed, words in _NEEDS
    ]


def _given(c: RunConfig, key: str) -> bool:
    """Whether a key differs from its default: the config a run keeps spells every key out."""
    name, _, field = key.partition(".")
    section = getattr(c, name)
    return bool(getattr(section, field) != type(section).model_fields[field].get_default())


def _models(c: RunConfig) -> list[Contradiction]:
    named = [("users.models", name) for name in c.users.models] + [("eval.models", name) for name in c.eval.models]
    single = {
        "judge.model": c.judge.model,
        "eval.judge": c.eval.judge,
        "suites.users": c.suites.users,
        "suites.judge": c.suites.judge,
    }
    named += [(key, name) for key, name in single.items() if name]
    known = f"one of: {', '.join(c.models)}" if c.models else "a section models that describes it"
    return [
        *(
            (
                "." in name,
                f"models.{name} has a dot in its name, which no override could reach",
                f"models.{name.replace('.', '-')}, and what the endpoint calls it as its key name",
            )
            for name in c.models
        ),
        *((name not in c.models, f"{key} is not valid; got {name}", known) for key, name in named),
        (c.users.kind == "llm" and not c.users.models, "users.kind=llm has no users.models", "names of models"),
        (c.judge.kind == "llm" and c.judge.model is None, "judge.kind=llm has no judge.model", "the name of a model"),
    ]


def _learning(c: RunConfig) -> list[Contradiction]:
    p, u = c.policy, c.update
    kept, distils = c.select.share * c.play.dialogues * c.play.turns, u.micro > 0 and u.along == "corrections"
    return [
        (not p.path and p.hidden % (2 * p.heads) != 0, f"policy.hidden={p.hidden}", "a multiple of twice policy.heads"),
        (not p.path and p.max_tokens >= p.max_context, f"policy.max_tokens={p.max_tokens}", "less than max_context"),
        (u.macro == u.micro == 0, "update.macro and update.micro are both 0", "one of them above 0"),
        (distils and c.correct.below == 0, "correct.below=0 leaves update.along=corrections empty", "more than 0"),
        (kept < 1, f"select.share={c.select.share}", "a share that keeps a turn of play.dialogues x play.turns"),
    ]


def _memory(c: RunConfig) -> list[Contradiction]:
    rank, autocast = c.lora.rank, c.run.autocast
    return [
        (
            rank is not None and c.policy.path is None,
            f"lora.rank={rank} freezes a model, and there is none in policy.path",
            "one there, or no lora.rank",
        ),
        (
            rank is not None and find_spec("peft") is None,
            f"lora.rank={rank} needs the extra lora",
            "it to be installed: pip install 'rapo-rl[lora]'",
        ),
        (
            autocast and c.run.dtype == "bfloat16" and rank is None,
            "run.autocast=true changes nothing where run.dtype=bfloat16",
            "run.dtype=float32 with it, or no run.autocast",
        ),
    ]


def _trackers(c: RunConfig) -> list[Contradiction]:
    return [
        (
            find_spec(name) is None,
            f"run.trackers names {name}, which is not installed",
            f"pip install 'rapo-rl[{name}]', or a run without it",
        )
        for name in c.run.trackers
    ]
