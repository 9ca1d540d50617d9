"""The English of the embedded support world: what can be told, asked and answered, read from ``language.yaml``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from random import Random
from typing import Any, Literal, get_args

import yaml

Need = Literal["heard", "understood", "reassurance", "options", "information", "push"]
Population = Literal["familiar", "held_out"]
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


@cache
def slots(template: str) -> tuple[str, ...]:
    """The names of the slots in a template, in order."""
    return tuple(re.findall(r"\{(\w+)\}", template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its slots filled and its first letter in upper case."""
    text = template.format(**values)
    return text[0].upper() + text[1:]


@dataclass(frozen=True, slots=True)
class Speaker:
    """Says things with a seeded choice of words."""

    random: Random

    def say(self, templates: Iterable[str], values: Mapping[str, str], avoid: Iterable[str] = ()) -> str:
        """One of the templates whose slots can all be filled, preferably none that opens like ``avoid``."""
        fitting = [t for t in templates if values.keys() >= set(slots(t))]
        used = {opening(text) for text in avoid}
        texts = [fill(t, values) for t in self.random.sample(fitting, len(fitting))]
        return next((text for text in texts if opening(text) not in used), texts[0]) if used else texts[0]

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


@lru_cache(maxsize=65536)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words and sentence marks, with every fact replaced by the name of its kind (``<who>``)."""
    return tuple(re.findall(r"<\w+>|\w+|[.?!,:]", abstract(text)))


@lru_cache(maxsize=65536)
def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a text, each with its mark; the last one may lack it."""
    return tuple(part.strip() for part in re.findall(r"[^.?!]+[.?!]*|[.?!]+", text) if part.strip())


def opening(text: str) -> tuple[str, ...]:
    """The first four words of a text, facts abstracted."""
    return words(text)[:4]


@cache
def _fact_pattern() -> re.Pattern[str]:
    kinds = {kind: sorted(values, key=len, reverse=True) for kind, values in fact_values().items()}
    return re.compile(
        "|".join(rf"(?P<{kind}>\b(?:{'|'.join(v.lower() for v in values)})\b)" for kind, values in kinds.items())
    )


@cache
def fact_values() -> dict[str, tuple[str, ...]]:
    """Every value each kind of fact can take."""
    return {
        kind: tuple(language()["problems"]) if kind == "topic" else tuple(language()["facts"][kind]) for kind in FACTS
    }


def abstract(text: str) -> str:
    """The text in lower case with each fact replaced by its kind."""
    return _fact_pattern().sub(lambda match: f"<{match.lastgroup}>", text.lower())


@lru_cache(maxsize=65536)
def facts_in(text: str) -> frozenset[tuple[str, str]]:
    """The facts a text names, as (kind, value in lower case)."""
    return frozenset((str(match.lastgroup), match.group()) for match in _fact_pattern().finditer(text.lower()))


@cache
def known_bigrams() -> frozenset[tuple[str, str]]:
    """Every pair of neighbouring words in what anyone can say here: the seeker's idea of well-formed English."""
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
    pairs: set[tuple[str, str]] = set()
    for sentence in itertools.chain.from_iterable(sentences(text) for text in said):
        pairs.update(itertools.pairwise(["^", *words(sentence)]))
    return frozenset(pairs)


def _seeker_texts() -> list[str]:
    data = language()
    pools: list[Any] = [data["unclear"], *data["cues"].values(), *data["problems"].values()]
    texts = [text for pool in pools for population in ("familiar", "held_out") for text in pool[population]]
    return texts + [t for kinds in data["telling"].values() for templates in kinds.values() for t in templates]
