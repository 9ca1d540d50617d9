"""How the world reads text: what a reply does, names and does wrong, and which need a seeker's words show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from rapo.worlds.support.language import (
    MOVES,
    NEEDS,
    Need,
    facts_in,
    language,
    lexicon,
    problem,
    words,
)
from rapo.worlds.text import sentences

MAX_WORDS = 32
ENDLESS_WORDS = 60


@dataclass(frozen=True, slots=True)
class Reading:
    """What a seeker reads in a reply.

    Attributes:
        moves: the moves made, each once, in order.
        told: how many different facts of the seeker's own it names.
        fit: per advice move, whether its content is for this problem: True, False (another one), None (unclear).
        defects: what is wrong with it, out of lost, stock, repeated, invented, crowded, parroted.
        stock: the number of stock phrases.
    """

    moves: tuple[str, ...] = ()
    told: int = 0
    fit: Mapping[str, bool | None] = field(default_factory=dict)
    defects: frozenset[str] = frozenset()
    stock: int = 0


def read_reply(reply: str, *, topic: str, heard: Sequence[str], replies: Sequence[str]) -> Reading:
    """Read a reply as the seeker does.

    Args:
        reply: the text, whatever it is.
        topic: the seeker's problem.
        heard: what the seeker has said so far, oldest first.
        replies: the earlier replies, oldest first.
    """
    if lexicon().lost(reply, ENDLESS_WORDS):
        return Reading(defects=frozenset({"lost"}))
    parts = sentences(reply)
    stock = sum(part in _stock() for part in parts)
    moves = tuple(dict.fromkeys(move for part in parts if part not in _stock() and (move := move_of(part))))
    own = set().union(*(facts_in(text) for text in heard))
    named = facts_in(reply)
    checks = {
        "stock": stock > 0,
        "repeated": repeated(reply, replies),
        "invented": bool(named - own),
        "crowded": len(moves) > 2 or len(words(reply)) > MAX_WORDS,
        "parroted": lexicon().parroted(reply, heard[-1]),
    }
    fit = {move: fits(reply, kind, topic) for move, kind in _ADVICE_KIND.items() if move in moves}
    return Reading(moves, len(named & own), fit, frozenset(k for k, bad in checks.items() if bad), stock)


def read_need(text: str) -> Need | None:
    """The need a seeker's words show last; None when they show none."""
    low = text.lower()
    found = {need: max((m.start() for m in _cue_pattern(need).finditer(low)), default=-1) for need in NEEDS}
    need = max(NEEDS, key=lambda n: found[n])
    return need if found[need] >= 0 else None


def move_of(sentence: str) -> str | None:
    """The move a sentence makes, if any."""
    for move in MOVES:
        if re.search(language()["moves"][move]["pattern"], sentence.lower()):
            return move
    return None


def repeated(reply: str, replies: Sequence[str]) -> bool:
    """Whether it opens like one of the last two replies or says a whole sentence again."""
    before = {sentence for text in replies for sentence in sentences(text)}
    opening = lexicon().opening
    return opening(reply) in {opening(text) for text in replies[-2:]} or any(s in before for s in sentences(reply))


def fits(reply: str, kind: str, topic: str) -> bool | None:
    """Whether the advice in a reply is for this problem, for another one (False), or neither (None)."""
    said = set(words(reply))
    hits = {name for name, wanted in _phrases(kind) if len(wanted & said) >= 0.7 * len(wanted)}
    if topic in hits:
        return True
    return False if hits else None


@cache
def _phrases(kind: str) -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple(
        (topic, frozenset(words(phrase)) - frozenset(".?!,:"))
        for topic in language()["problems"]
        for phrase in problem(topic)[kind]
    )


@cache
def _cue_pattern(need: str) -> re.Pattern[str]:
    return re.compile(language()["cues"][need]["pattern"])


@cache
def _stock() -> frozenset[str]:
    return frozenset(language()["stock"])


_ADVICE_KIND = {"suggest": "suggestions", "inform": "infos", "push": "steps"}
