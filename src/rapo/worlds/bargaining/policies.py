"""Scripted negotiators: the corpus's inflexible one, a ladder of better ones, and exploits that must not pay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random

from rapo.types import Dialogue
from rapo.worlds.bargaining.language import DETAIL, MOVE_FOR, MOVES, Speaker, fact_values, facts_in, language, prices_in
from rapo.worlds.bargaining.mind import needed
from rapo.worlds.bargaining.partner import mind_of
from rapo.worlds.bargaining.reader import read_need
from rapo.worlds.world import Rule


def known(dialogue: Dialogue) -> dict[str, str]:
    """The facts as far as they were told, the prices of the brief, the price asked last and the one offered."""
    brief, *said = [message.content for message in dialogue.messages if message.role != "assistant"]
    facts = set().union(*(facts_in(text) for text in (brief, *said)))
    proper = {value.lower(): value for values in fact_values().values() for value in values}
    limit, hope, ask = re.findall(r"\d+", brief)
    named = [str(some[0]) for turn in dialogue.turns if len(some := prices_in(turn.reply)) == 1]
    prices = {"ask": ask, "hope": hope, "limit": limit, "price": named[-1] if named else ask}
    return {kind: proper[value] for kind, value in sorted(facts)} | prices | {"offer": str(prices_in(said[-1])[0])}


def make_move(dialogue: Dialogue, move: str, random: Random) -> str:
    """A well-made reply with one move, in words not used lately; it keeps to its price unless it concedes."""
    values = known(dialogue)
    replies = [turn.reply for turn in dialogue.turns]
    return Speaker(random).move(move, values | ({"price": values["hope"]} if move == "concede" else {}), avoid=replies)


def oracle(dialogue: Dialogue, random: Random) -> str:
    """Knows the hidden need."""
    return make_move(dialogue, MOVE_FOR[needed(dialogue.scenario.profile, mind_of(dialogue))], random)


def cue_rule(dialogue: Dialogue, random: Random) -> str:
    """Reads the need in the partner's last words, and asks where they show none."""
    return make_move(dialogue, MOVE_FOR[read_need(dialogue.messages[-1].content) or "ask"], random)


def random_move(dialogue: Dialogue, random: Random) -> str:
    """A well-made reply, whatever was said."""
    return make_move(dialogue, random.choice(MOVES), random)


def told_move(dialogue: Dialogue, random: Random) -> str:
    """A well-made reply, mostly one that takes up a detail that the partner has told, early or late."""
    values = known(dialogue)
    told = [move for move, detail in DETAIL.items() if detail in values and detail != "item"]
    free = [move for move in MOVES if DETAIL.get(move, "item") == "item"]
    return make_move(dialogue, random.choice(told if told and random.random() < 0.7 else free), random)


def first_offer(dialogue: Dialogue, random: Random) -> str:
    """Takes what is offered at once."""
    return make_move(dialogue, "accept", random)


def generic(dialogue: Dialogue, random: Random) -> str:
    """Sales talk around a price that hardly ever moves, and now and then a move that was not asked for."""
    values, kind = known(dialogue), random.random()
    replies = [turn.reply for turn in dialogue.turns]
    if kind < 0.2:
        return make_move(dialogue, "accept", random)
    if kind < 0.45:
        return random_move(dialogue, random)
    hold = Speaker(random).say(language()["hold"], values, avoid=replies)
    if kind < 0.6:
        return hold
    empty = language()["pressure"] if kind > 0.94 else language()["stock"]
    return f"{Speaker(random).say(empty, {}, avoid=replies)} {hold}"


def constant(dialogue: Dialogue, random: Random) -> str:
    """The same words to everyone."""
    return "This is good for both of us. Let us be reasonable."


def parrot(dialogue: Dialogue, random: Random) -> str:
    """The partner's own words back."""
    return dialogue.messages[-1].content


def stuffed(dialogue: Dialogue, random: Random) -> str:
    """All moves in one reply."""
    return " ".join(make_move(dialogue, move, random) for move in MOVES)


def one_opening(dialogue: Dialogue, random: Random) -> str:
    """One opening, whatever follows."""
    values = known(dialogue)
    return f"Take the time you need for the {values['item']}. I say {values['price']}."


def extreme(dialogue: Dialogue, random: Random) -> str:
    """A demand far beyond anything, again and again."""
    values = known(dialogue)
    price = 3 * int(values["ask"]) if values["ask"] > values["limit"] else 5
    return Speaker(random).say(language()["hold"], {"price": str(price)}, [turn.reply for turn in dialogue.turns])


def threats(dialogue: Dialogue, random: Random) -> str:
    """Pressure and the first price."""
    return " ".join(Speaker(random).say(language()[part], known(dialogue)) for part in ("pressure", "hold"))


def walk_out(dialogue: Dialogue, random: Random) -> str:
    """Ends the talk."""
    return "[leave]"


def empty(dialogue: Dialogue, random: Random) -> str:
    """Nothing."""
    return ""


def endless(dialogue: Dialogue, random: Random) -> str:
    """Good sentences without end."""
    return " ".join(make_move(dialogue, random.choice(MOVES), random) for _ in range(30))


def random_words(dialogue: Dialogue, random: Random) -> str:
    """Words of the world in random order."""
    words = " ".join([*language()["stock"], *known(dialogue).values()]).lower().replace(".", "").split()
    return " ".join(random.sample(words, 9)) + "."


def digits(dialogue: Dialogue, random: Random) -> str:
    """Numbers and nothing else."""
    return " ".join(str(random.randrange(50, 400, 5)) for _ in range(8)) + "."


LADDER: Mapping[str, Rule] = {
    "oracle": oracle,
    "cue rule": cue_rule,
    "random move": random_move,
    "first offer": first_offer,
    "generic": generic,
}
EXPLOITS: Mapping[str, Rule] = {
    "constant reply": constant,
    "parrot": parrot,
    "all moves": stuffed,
    "one opening": one_opening,
    "extreme demand": extreme,
    "threats": threats,
    "walk out": walk_out,
    "empty": empty,
    "endless": endless,
    "random words": random_words,
    "digits": digits,
}
