"""The English of the embedded support world: what can be told, asked and answered, read from ``language.yaml``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from random import Random
from typing import Any, Literal, get_args

import yaml

from rapo.seeds import derive_seed
from rapo.worlds.text import Lexicon, Wording, fill, slots

Need = Literal["heard", "understood", "reassurance", "options", "information", "push"]
NEEDS: tuple[Need, ...] = get_args(Need)
MOVES = ("ask", "reflect", "reassure", "suggest", "inform", "push")
MOVE_FOR: Mapping[str, str] = dict(zip(NEEDS, MOVES, strict=True))
ADVICE = frozenset({"suggest", "inform", "push"})
FACTS = ("who", "topic", "hard", "when")


@cache
def language() -> dict[str, Any]:
    """The parsed language file."""
    text = resources.files(__package__).joinpath("language.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def problem(topic: str) -> dict[str, list[str]]:
    """What belongs to one problem: how seekers state it, and the suggestions, infos and steps that fit it."""
    return dict(language()["problems"][topic])


class Speaker(Wording):
    """Says things with a seeded choice of words."""

    def __init__(self, random: Random) -> None:
        super().__init__(random, lexicon())

    def move(self, move: str, facts: Mapping[str, str], told: Iterable[str], avoid: Iterable[str] = ()) -> str:
        """A supporter's sentence that makes ``move`` with facts the seeker has told."""
        about = problem(facts["topic"])
        suggestion, other = self.random.sample(about["suggestions"], 2)
        values = {name: facts[name] for name in FACTS if name in set(told)} | {
            "suggestion": suggestion,
            "other": other,
            "info": self.random.choice(about["infos"]),
            "step": self.random.choice(about["steps"]),
        }
        return self.say(language()["moves"][move]["say"], values, avoid)


def critique(problem: str | None, wanted: str | None, *, key: Sequence[str], good: bool = False) -> str:
    """A judge's critique that names a problem and what was wanted, or that all is ``good``; ``key`` chooses words."""
    texts = language()["critiques"]
    choose = Random(derive_seed("critique", *key)).choice
    if good:
        return str(choose(texts["good"]))
    said = [choose(texts["defects"][problem])] if problem else []
    said.append(choose(texts["wants"][wanted] if wanted else texts["unclear"]))
    return " ".join(said)


@cache
def lexicon() -> Lexicon:
    """The words of this world."""
    return Lexicon(fact_values(), _said)


def words(text: str) -> tuple[str, ...]:
    """Lower-case words and sentence marks, with every fact replaced by the name of its kind (``<who>``)."""
    return lexicon().words(text)


def facts_in(text: str) -> frozenset[tuple[str, str]]:
    """The facts a text names, as (kind, value in lower case)."""
    return lexicon().facts_in(text)


@cache
def fact_values() -> dict[str, tuple[str, ...]]:
    """Every value each kind of fact can take."""
    return {
        kind: tuple(language()["problems"]) if kind == "topic" else tuple(language()["facts"][kind]) for kind in FACTS
    }


def _said() -> list[str]:
    """Every text that can be said here, facts abstracted, each piece of advice in a template it fits."""
    inventory = [problem(topic) for topic in language()["problems"]]
    options = {
        "suggestion": [s for about in inventory for s in about["suggestions"]],
        "info": [s for about in inventory for s in about["infos"]],
        "step": [s for about in inventory for s in about["steps"]],
    }
    options["other"] = options["suggestion"]
    kinds = {name: f"<{name}>" for name in FACTS}
    said = [*language()["stock"], *options["info"], *(fill(text, kinds) for text in _seeker_texts())]
    for template in itertools.chain.from_iterable(move["say"] for move in language()["moves"].values()):
        longest = max((len(options[name]) for name in slots(template) if name in options), default=1)
        for i in range(longest):
            said.append(fill(template, kinds | {name: texts[i % len(texts)] for name, texts in options.items()}))
    return said


def _seeker_texts() -> list[str]:
    data = language()
    pools: list[Any] = [data["unclear"], *data["cues"].values(), *data["problems"].values()]
    texts = [text for pool in pools for population in ("familiar", "held_out") for text in pool[population]]
    return texts + [t for kinds in data["telling"].values() for templates in kinds.values() for t in templates]
