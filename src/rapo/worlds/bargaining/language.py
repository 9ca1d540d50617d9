"""The English of the bargaining world: what can be offered, asked and answered, read from ``language.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from random import Random
from typing import Any, Literal, get_args

import yaml

from rapo.seeds import derive_seed
from rapo.worlds.text import Lexicon, Wording, fill

Need = Literal["hurry", "doubt", "cash", "respect", "extra", "rival", "moved", "final"]
Role = Literal["sell", "buy"]
NEEDS: tuple[Need, ...] = get_args(Need)
MOVES = ("pace", "check", "split", "calm", "bundle", "compare", "concede", "accept", "ask")
MOVE_FOR: Mapping[str, str] = dict(zip((*NEEDS, "ask"), MOVES, strict=True))
FACTS = ("item", "part", "extra", "when", "later", "rival")
DETAIL: Mapping[str, str] = dict(zip(MOVES, ("when", "part", "later", "item", "extra", "rival"), strict=False))


@cache
def language() -> dict[str, Any]:
    """The parsed language file."""
    text = resources.files(__package__).joinpath("language.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


@cache
def fact_values() -> dict[str, tuple[str, ...]]:
    """Every value each kind of fact can take."""
    items = language()["items"]
    owned = {
        "item": tuple(items),
        "part": tuple(part for about in items.values() for part in about["parts"]),
        "extra": tuple(extra for about in items.values() for extra in about["extras"]),
    }
    return owned | {kind: tuple(language()["facts"][kind]) for kind in ("when", "later", "rival")}


@cache
def lexicon() -> Lexicon:
    """The words of this world; every number is a price."""
    return Lexicon({**fact_values(), "price": (r"\d+",)}, _said)


def facts_in(text: str) -> frozenset[tuple[str, str]]:
    """The facts a text names, as (kind, value in lower case); prices are none."""
    return frozenset(fact for fact in lexicon().facts_in(text) if fact[0] != "price")


def prices_in(text: str) -> tuple[int, ...]:
    """The different prices a text names, in rising order."""
    return tuple(sorted({int(value) for kind, value in lexicon().facts_in(text) if kind == "price"}))


class Speaker(Wording):
    """Says things with a seeded choice of words."""

    def __init__(self, random: Random) -> None:
        super().__init__(random, lexicon())

    def move(self, move: str, values: Mapping[str, str], avoid: Iterable[str] = ()) -> str:
        """A negotiator's reply that makes ``move``, with its detail where ``values`` has it, and names its price."""
        texts = language()["moves"][move]
        detailed = DETAIL.get(move, "item") in values
        said = self.say(texts["say"] if detailed else texts["bare"], values, avoid)
        return said if move in ("accept", "ask") else f"{said} {self.say(language()['hold'], values)}"


def critique(problem: str | None, wanted: str, *, key: Sequence[str], good: bool = False) -> str:
    """A judge's critique that names a problem and what was wanted, or that all is ``good``; ``key`` chooses words."""
    texts = language()["critiques"]
    choose = Random(derive_seed("critique", *key)).choice
    if good:
        return str(choose(texts["good"]))
    said = [choose(texts["defects"][problem])] if problem else []
    return " ".join([*said, choose(texts["wants"][wanted])])


def _said() -> list[str]:
    """Every text that can be said here, facts abstracted."""
    data = language()
    kinds = {name: f"<{name}>" for name in FACTS} | dict.fromkeys(("price", "offer"), "<price>")
    pools: list[Any] = [data["stock"], data["pressure"], data["hold"]]
    pools += [move[part] for move in data["moves"].values() for part in ("say", "bare") if part in move]
    for population in ("familiar", "held_out"):
        pools += [data[part][population] for part in ("opening", "unclear")]
        pools += [cue[population] for cue in data["cues"].values()]
        pools += data["offers"][population].values()
    return [fill(text, kinds) for pool in pools for text in pool]
