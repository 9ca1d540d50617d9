"""How the world reads text: what a reply does, names and does wrong, and which need a partner's words show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from rapo.worlds.bargaining.language import MOVES, NEEDS, Need, facts_in, language, lexicon, prices_in
from rapo.worlds.text import sentences

MAX_WORDS = 32
ENDLESS_WORDS = 60
LEAVE = "[leave]"
BUYING = re.compile("buy")  # in the words of a partner who buys


@dataclass(frozen=True, slots=True)
class Reading:
    """What a partner reads in a reply.

    Attributes:
        moves: the moves made, each once, in order.
        price: the price it names, if it names just one.
        named: the kinds of the facts it names.
        defects: what is wrong with it, out of lost, stock, pressure, repeated, invented, crowded, parroted.
        leaves: it ends the talk.
    """

    moves: tuple[str, ...] = ()
    price: int | None = None
    named: frozenset[str] = frozenset()
    defects: frozenset[str] = frozenset()
    leaves: bool = False


def read_reply(reply: str, *, heard: Sequence[str], replies: Sequence[str]) -> Reading:
    """Read a reply as the partner does.

    Args:
        reply: the text, whatever it is.
        heard: what the negotiator could know, oldest first: its brief, then what the partner has said.
        replies: the earlier replies, oldest first.
    """
    if reply.strip().lower().startswith(LEAVE):
        return Reading(leaves=True)
    if lexicon().lost(reply, ENDLESS_WORDS):
        return Reading(defects=frozenset({"lost"}))
    parts, empty = sentences(reply), {*language()["stock"], *language()["pressure"]}
    moves = tuple(dict.fromkeys(move for part in parts if part not in empty and (move := move_of(part))))
    prices, named = prices_in(reply), facts_in(reply)
    checks = {
        "stock": any(part in language()["stock"] for part in parts),
        "pressure": any(part in language()["pressure"] for part in parts),
        "repeated": repeated(reply, replies),
        "invented": bool(named - set().union(*(facts_in(text) for text in heard))),
        "crowded": len(moves) > 2 or len(prices) > 1 or len(lexicon().words(reply)) > MAX_WORDS,
        "parroted": lexicon().parroted(reply, heard[-1]),
    }
    price = prices[0] if len(prices) == 1 else None
    return Reading(moves, price, frozenset(kind for kind, _ in named), frozenset(k for k, bad in checks.items() if bad))


def read_need(text: str) -> Need | None:
    """The need a partner's words show last; None when they show none."""
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
    """Whether it opens like one of the last two replies or says again a whole sentence that names no price."""
    before = {sentence for text in replies for sentence in sentences(text)}
    again = any(part in before and not prices_in(part) for part in sentences(reply))
    opening = lexicon().opening
    return again or opening(reply) in {opening(text) for text in replies[-2:]}


@cache
def _cue_pattern(need: str) -> re.Pattern[str]:
    return re.compile(language()["cues"][need]["pattern"])
