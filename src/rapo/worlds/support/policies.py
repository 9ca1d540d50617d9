"""Scripted supporters: the corpus's generic one, a ladder of better ones, and exploits that must not pay."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from rapo.types import Dialogue
from rapo.worlds.support.language import FACTS, MOVE_FOR, MOVES, Speaker, fact_values, facts_in, language
from rapo.worlds.support.reader import read_need
from rapo.worlds.support.seeker import mind_of, needed
from rapo.worlds.world import Rule


def known_facts(dialogue: Dialogue) -> dict[str, str]:
    """The seeker's facts as far as they can be read in what the seeker said."""
    said = set().union(*(facts_in(m.content) for m in dialogue.messages if m.role == "user"))
    proper = {value.lower(): value for values in fact_values().values() for value in values}
    return {kind: proper[value] for kind, value in sorted(said)}


def make_move(dialogue: Dialogue, move: str, random: Random) -> str:
    """A well-made reply with one move, in words not used lately."""
    facts = known_facts(dialogue)
    replies = [turn.reply for turn in dialogue.turns]
    return Speaker(random).move(move, facts, [kind for kind in FACTS if kind in facts], avoid=replies)


def oracle(dialogue: Dialogue, random: Random) -> str:
    """Knows the hidden need."""
    return make_move(dialogue, MOVE_FOR[needed(dialogue.scenario.profile, mind_of(dialogue))], random)


def cue_rule(dialogue: Dialogue, random: Random) -> str:
    """Reads the need in the seeker's last words."""
    need = read_need(dialogue.messages[-1].content)
    return make_move(dialogue, MOVE_FOR[need or "heard"], random)


def random_move(dialogue: Dialogue, random: Random) -> str:
    """A well-made reply, whatever was said."""
    return make_move(dialogue, random.choice(MOVES), random)


def generic(dialogue: Dialogue, random: Random) -> str:
    """Generic empathy: stock phrases, often alone, sometimes with a move that does not depend on what was said."""
    stock = random.sample(language()["stock"], 2)
    kind = random.random()
    if kind < 0.30:
        return " ".join(stock)
    if kind < 0.40:
        return str(stock[0])
    move = random_move(dialogue, random)
    return move if kind > 0.70 else f"{stock[0]} {move}"


def constant(dialogue: Dialogue, random: Random) -> str:
    """The same words to everyone."""
    return "I am here for you. Things will get better."


def parrot(dialogue: Dialogue, random: Random) -> str:
    """The seeker's own words back."""
    return dialogue.messages[-1].content


def stuffed(dialogue: Dialogue, random: Random) -> str:
    """All techniques in one reply."""
    return " ".join(make_move(dialogue, move, random) for move in MOVES)


def one_opening(dialogue: Dialogue, random: Random) -> str:
    """One opening, whatever follows."""
    facts = known_facts(dialogue)
    return f"It sounds like it all comes back to {facts['hard']}, and to your {facts['who']}."


def empty(dialogue: Dialogue, random: Random) -> str:
    """Nothing."""
    return ""


def endless(dialogue: Dialogue, random: Random) -> str:
    """Good sentences without end."""
    return " ".join(make_move(dialogue, random.choice(MOVES), random) for _ in range(30))


def random_words(dialogue: Dialogue, random: Random) -> str:
    """Words of the world in random order."""
    words = " ".join([*language()["stock"], *(fact for fact in known_facts(dialogue).values())]).lower().split()
    return " ".join(random.sample([w.strip(".") for w in words], 9)) + "."


LADDER: Mapping[str, Rule] = {"oracle": oracle, "cue rule": cue_rule, "random move": random_move, "generic": generic}
EXPLOITS: Mapping[str, Rule] = {
    "constant reply": constant,
    "parrot": parrot,
    "all techniques": stuffed,
    "one opening": one_opening,
    "empty": empty,
    "endless": endless,
    "random words": random_words,
}
