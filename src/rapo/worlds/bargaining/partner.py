"""The partner of the embedded bargaining world: a scripted user with a hidden limit who reads replies as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Any

from rapo.seeds import derive_seed
from rapo.types import Dialogue, EchoRequest, Message, Reaction, Scenario
from rapo.worlds.bargaining.language import FACTS, NEEDS, Speaker, fact_values, language
from rapo.worlds.bargaining.mind import SCALE, STEP, Mind, feel, final, first_mind, level, needed, offer, state_of
from rapo.worlds.bargaining.reader import Reading, read_need, read_reply
from rapo.worlds.world import Population

UNCLEAR = 0.2  # share of utterances that do not show the need: only a mind-reader meets those
INTERESTS = NEEDS[:-1]


@dataclass(frozen=True, slots=True)
class Temper:
    """How one population of partners differs from the other.

    Attributes:
        interests: weights of hurry, doubt, cash, respect, extra, rival and of wanting the policy to move.
        dislike: range of the dislike of pressure, sales talk and repetition, 0 to 1.
        margin: range of the share that an offer holds back until the last word.
    """

    interests: tuple[float, ...]
    dislike: tuple[float, float]
    margin: tuple[float, float]


TEMPERS: Mapping[str, Temper] = {
    "familiar": Temper((0.18, 0.18, 0.14, 0.1, 0.14, 0.1, 0.16), dislike=(0.3, 0.8), margin=(0.04, 0.1)),
    "held_out": Temper((0.1, 0.1, 0.2, 0.14, 0.1, 0.2, 0.16), dislike=(0.5, 1.0), margin=(0.06, 0.14)),
}
# By stage of the talk: the share the partner is willing to leave, and the replies until its last word.
STAGES = (((0.08, 0.22), (4, 5)), ((0.2, 0.4), (3, 4)), ((0.4, 0.6), (1, 2)))


class BargainingWorld:
    """Seeded partners of one population; a ``UserSimulator`` that needs no model and no network.

    Args:
        population: whose wording, interests and tolerances: ``familiar`` (to train on) or ``held_out``.
        evaluation: draw only scenarios whose facts are set aside for evaluation (one in five).
    """

    def __init__(self, population: Population = "familiar", *, evaluation: bool = False) -> None:
        self.population, self.evaluation = population, evaluation

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        """``count`` partners at random stages of their talk, half of them buyers; the same ones for the same seed."""
        return [
            self._scenario(derive_seed("bargaining", self.population, self.evaluation, seed, i)) for i in range(count)
        ]

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """How each partner takes the reply."""
        return [react(request.dialogue, request.reply) for request in requests]

    def _scenario(self, seed: int) -> Scenario:
        random = Random(seed)
        facts = _facts(random)
        while set_aside(facts) != self.evaluation:
            facts = _facts(random)
        profile = _profile(self.population, facts, random)
        mind = first_mind(profile)
        told = {"item": facts["item"], **{name: str(profile[name]) for name in ("ask", "hope", "limit")}}
        brief = language()["brief"][profile["role"]].format(**told)
        role = "sells" if profile["role"] == "sell" else "buys"
        return Scenario(
            id=f"bargaining/{self.population}/{seed:016x}",
            situation=f"Someone {role} a {facts['item']}.",
            opening=(Message("system", brief), Message("user", _opening(profile, mind, Speaker(random)))),
            start=state_of(profile, mind),
            scale=SCALE,
            profile=profile,
        )


def set_aside(facts: Mapping[str, str]) -> bool:
    """Whether scenarios with these facts are for evaluation."""
    return derive_seed(*(facts[kind] for kind in FACTS)) % 5 == 0


def mind_of(dialogue: Dialogue) -> Mind:
    """The partner's state after the turns played, recomputed from the words alone."""
    profile = dialogue.scenario.profile
    mind = first_mind(profile)
    heard, replies = [message.content for message in dialogue.scenario.opening], list[str]()
    for turn in dialogue.turns:
        mind, _, _ = feel(mind, profile, _read(turn.reply, heard, replies), clear=read_need(heard[-1]) is not None)
        heard.append(turn.reaction.text)
        replies.append(turn.reply)
    return mind


def react(dialogue: Dialogue, reply: str) -> Reaction:
    """The reaction of the dialogue's partner to a reply; a pure function of both."""
    profile, before = dialogue.scenario.profile, mind_of(dialogue)
    heard = [message.content for message in dialogue.messages if message.role != "assistant"]
    reading = _read(reply, heard, [turn.reply for turn in dialogue.turns])
    after, reason, change = feel(before, profile, reading, clear=read_need(heard[-1]) is not None)
    speaker = Speaker(Random(derive_seed(dialogue.scenario.id, len(dialogue.turns), reply)))
    text = _echo(speaker, profile, before, after, reason, change)
    thought = f"I want: {needed(profile, after)}. I would agree at {offer(profile, replace(after, patience=0))}."
    return Reaction(text, state_of(profile, after), thought, done=after.gone or after.deal is not None)


def _echo(
    speaker: Speaker, profile: Mapping[str, Any], before: Mind, after: Mind, reason: str | None, change: float
) -> str:
    data, population = language(), profile["population"]
    landed, why = data["landed"][population], data["why"][population]
    if after.gone:
        return speaker.say(landed["gone"], {})
    if after.deal is not None:
        return speaker.say(landed["deal" if final(before) or change > 0 else "early"], {})
    said = [speaker.say(landed[level(reason, change)], {})]
    if reason in why:
        said.append(speaker.say(why[reason], {}))
    return " ".join([*said, _standing(speaker, profile, after), _cue(speaker, profile, needed(profile, after))])


def _opening(profile: Mapping[str, Any], mind: Mind, speaker: Speaker) -> str:
    said = speaker.say(language()["opening"][profile["population"]], profile)
    return " ".join([said, _standing(speaker, profile, mind), _cue(speaker, profile, needed(profile, mind))])


def _standing(speaker: Speaker, profile: Mapping[str, Any], mind: Mind) -> str:
    texts = language()["offers"][profile["population"]][profile["role"]]
    return speaker.say(texts, {"offer": str(offer(profile, mind))})


def _cue(speaker: Speaker, profile: Mapping[str, Any], need: str) -> str:
    hidden = need != "final" and speaker.random.random() < UNCLEAR
    pool = language()["unclear"] if hidden else language()["cues"][need]
    return speaker.say(pool[profile["population"]], profile)


def _facts(random: Random) -> dict[str, str]:
    facts = {kind: random.choice(values) for kind, values in fact_values().items()}
    about = language()["items"][facts["item"]]
    return facts | {"part": random.choice(about["parts"]), "extra": random.choice(about["extras"])}


def _profile(population: Population, facts: Mapping[str, str], random: Random) -> dict[str, Any]:
    temper, (will, patience) = TEMPERS[population], random.choice(STAGES)
    role = random.choice(("sell", "buy"))
    sign = 1 if role == "sell" else -1
    zone = random.randrange(60, 121, STEP)
    limit = random.randrange(100, 151, STEP) if role == "sell" else random.randrange(200, 251, STEP)

    def price(part: float) -> int:
        return limit + sign * STEP * math.floor(part * zone / STEP)

    return {
        **facts,
        "population": population,
        "role": role,
        "limit": limit,
        "reserve": limit + sign * zone,
        "hope": price(random.uniform(0.8, 0.95)),
        "ask": price(random.uniform(1.15, 1.45)),
        "absurd": 1.6,
        "needs": _needs(temper, random),
        "will": round(random.uniform(*will), 3),
        "patience": random.randint(*patience),
        "dislike": round(random.uniform(*temper.dislike), 3),
        "margin": round(random.uniform(*temper.margin), 3),
    }


def _needs(temper: Temper, random: Random) -> list[str]:
    """Interests in the order in which they come up; the policy is asked to move once at most."""
    needs: list[str] = []
    for _ in range(8):
        weights = [
            0.0 if need in needs[-1:] or (need == "moved" and need in needs) else weight
            for need, weight in zip(INTERESTS, temper.interests, strict=True)
        ]
        needs.append(random.choices(INTERESTS, weights)[0])
    return needs


def _read(reply: str, heard: Sequence[str], replies: Sequence[str]) -> Reading:
    return _cached_read(reply, tuple(heard), tuple(replies))


@lru_cache(maxsize=65536)
def _cached_read(reply: str, heard: tuple[str, ...], replies: tuple[str, ...]) -> Reading:
    return read_reply(reply, heard=heard, replies=replies)
