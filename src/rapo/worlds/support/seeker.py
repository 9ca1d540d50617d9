"""The seeker of the embedded support world: a scripted user with a hidden profile who reads replies as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from rapo.seeds import derive_seed
from rapo.types import Dialogue, EchoRequest, Message, Reaction, Scale, Scenario
from rapo.worlds.support.language import ADVICE, MOVE_FOR, Speaker, fact_values, language, problem
from rapo.worlds.support.reader import Reading, read_reply
from rapo.worlds.world import Population

SCALE = Scale(0.0, 10.0, "ease")
UNCLEAR = 0.15  # share of utterances that do not show the need: only a mind-reader meets those
SPOILING = frozenset({"lost", "crowded", "parroted", "invented", "repeated"})  # such a reply meets no need
TELL_ORDER = ("hard", "when")


@dataclass(frozen=True, slots=True)
class Temper:
    """How one population of seekers differs from the other.

    Attributes:
        stages: weights of the six needs while exploring, comforting and acting.
        patience: range of the tolerance for early advice, 0 (none) to 1.
        dislike: range of the dislike of stock phrases and repetition, 0 to 1.
    """

    stages: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    patience: tuple[float, float]
    dislike: tuple[float, float]


TEMPERS: Mapping[str, Temper] = {
    "familiar": Temper(
        stages=((0.5, 0.4, 0.1, 0, 0, 0), (0.1, 0.4, 0.5, 0, 0, 0), (0, 0, 0.1, 0.3, 0.3, 0.3)),
        patience=(0.3, 0.9),
        dislike=(0.4, 0.9),
    ),
    "held_out": Temper(
        stages=((0.3, 0.6, 0.1, 0, 0, 0), (0.15, 0.25, 0.6, 0, 0, 0), (0.05, 0.05, 0, 0.4, 0.15, 0.35)),
        patience=(0.0, 0.6),
        dislike=(0.6, 1.0),
    ),
}


@dataclass(frozen=True, slots=True)
class Mind:
    """The seeker's state between two turns."""

    distress: float
    trust: float
    need: int = 0
    progress: float = 0.0
    told: tuple[str, ...] = ()


class SupportWorld:
    """Seeded seekers of one population; a ``UserSimulator`` that needs no model and no network.

    Args:
        population: whose wording, needs and tolerances: ``familiar`` (to train on) or ``held_out``.
        evaluation: draw only scenarios whose facts are set aside for evaluation (one in five).
    """

    def __init__(self, population: Population = "familiar", *, evaluation: bool = False) -> None:
        self.population, self.evaluation = population, evaluation

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        """``count`` seekers at random stages of their talk; the same ones for the same seed."""
        return [self._scenario(derive_seed("support", self.population, self.evaluation, seed, i)) for i in range(count)]

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """How each seeker takes the reply."""
        return [react(request.dialogue, request.reply) for request in requests]

    def _scenario(self, seed: int) -> Scenario:
        random = Random(seed)
        facts = {kind: random.choice(values) for kind, values in fact_values().items()}
        while (derive_seed(*facts.values()) % 5 == 0) != self.evaluation:
            facts = {kind: random.choice(values) for kind, values in fact_values().items()}
        profile = _profile(self.population, facts, random)
        said = _opening(profile, Speaker(random))
        distress = round(random.uniform(5.0, 8.0), 2)
        return Scenario(
            id=f"support/{self.population}/{seed:016x}",
            situation=f"Someone seeks support about the {facts['topic']}.",
            opening=(Message("user", said),),
            start=SCALE.high - distress,
            scale=SCALE,
            profile=profile,
        )


def mind_of(dialogue: Dialogue) -> Mind:
    """The seeker's state after the turns played, recomputed from the replies alone."""
    scenario = dialogue.scenario
    mind = _first_mind(scenario)
    heard = [scenario.opening[-1].content]
    replies: list[str] = []
    for turn in dialogue.turns:
        mind, _, _ = _feel(mind, scenario.profile, _read(turn.reply, scenario.profile["topic"], heard, replies))
        heard.append(turn.reaction.text)
        replies.append(turn.reply)
    return mind


def react(dialogue: Dialogue, reply: str) -> Reaction:
    """The reaction of the dialogue's seeker to a reply; a pure function of both."""
    profile = dialogue.scenario.profile
    before = mind_of(dialogue)
    heard = [m.content for m in dialogue.messages if m.role == "user"]
    reading = _read(reply, profile["topic"], heard, [turn.reply for turn in dialogue.turns])
    after, reason, change = _feel(before, profile, reading)
    speaker = Speaker(Random(derive_seed(dialogue.scenario.id, len(dialogue.turns), reply)))
    resolved, gone = after.distress <= 1.0, after.trust <= 0.05
    text = _echo(speaker, profile, before, after, reading, reason, change)
    thought = f"I want: {needed(profile, after)}. Trust {after.trust:.2f}."
    return Reaction(text, round(SCALE.high - after.distress, 3), thought, done=resolved or gone)


def needed(profile: Mapping[str, Any], mind: Mind) -> str:
    """What the seeker needs now: a talk that lost its trust goes back to being heard."""
    return "heard" if mind.trust < 0.15 else str(profile["needs"][mind.need])


def quality(reading: Reading, need: str) -> float:
    """How well a reply meets a need: 0, 0.5 or 1, before its defects count."""
    move = MOVE_FOR[need]
    if move not in reading.moves:
        return 0.0
    if move in ADVICE:
        return {True: 1.0, None: 0.5, False: 0.0}[reading.fit[move]]
    enough = 2 if move == "reflect" else 1
    return 1.0 if reading.told >= enough else 0.5 * (reading.told >= enough - 1)


def _feel(mind: Mind, profile: Mapping[str, Any], reading: Reading) -> tuple[Mind, str | None, float]:
    """The mind after a reply, what is held against it (None: nothing), and the change of distress before its bounds."""
    need = needed(profile, mind)
    reason, harm = _harm(reading, need, profile)
    spoiled = reading.defects & SPOILING or reason == "unfit"
    met = 0.0 if spoiled else quality(reading, need) * (0.5 if reason else 1.0)
    if met == 0.0:
        reason, harm = reason or "missed", harm + 0.3
    elif met < 1.0:
        reason = reason or "vague"
    change = harm - 1.25 * met * (0.7 + 0.6 * mind.trust)
    trust = mind.trust + (0.15 * met if met else -0.03 - 0.06 * harm)
    progress = mind.progress + met
    moves_on = progress >= 1.0 and mind.trust >= 0.15
    untold = [kind for kind in TELL_ORDER if kind not in mind.told] if "ask" in reading.moves else []
    after = Mind(
        distress=min(10.0, max(0.0, mind.distress + change)),
        trust=min(1.0, max(0.0, trust)),
        need=min(mind.need + 1, len(profile["needs"]) - 1) if moves_on else mind.need,
        progress=0.0 if moves_on else progress,
        told=(*mind.told, *untold[:1]),
    )
    return after, reason, change


def _harm(reading: Reading, need: str, profile: Mapping[str, Any]) -> tuple[str | None, float]:
    if "lost" in reading.defects:
        return "lost", 2.2
    early = bool(ADVICE & set(reading.moves)) and MOVE_FOR[need] not in ADVICE
    harms = {
        "invented": 1.0 * ("invented" in reading.defects),
        "unfit": 0.8 * (reading.fit.get(MOVE_FOR[need]) is False),
        "advice": (1.2 - profile["patience"]) * early,
        "parroted": 0.7 * ("parroted" in reading.defects),
        "crowded": 0.7 * ("crowded" in reading.defects),
        "repeated": 0.9 * profile["dislike"] * ("repeated" in reading.defects),
        "stock": 0.5 * profile["dislike"] * reading.stock,
    }
    worst = max(harms, key=lambda name: harms[name])
    return (worst, min(1.1, sum(harms.values()))) if harms[worst] > 0 else (None, 0.0)


def _echo(
    speaker: Speaker,
    profile: Mapping[str, Any],
    before: Mind,
    after: Mind,
    reading: Reading,
    reason: str | None,
    change: float,
) -> str:
    landed, why = (language()[part][profile["population"]] for part in ("landed", "why"))
    if after.distress <= 1.0:
        return speaker.say(landed["resolved"], {})
    if after.trust <= 0.05:
        return speaker.say(landed["gone"], {})
    words = landed[level(reason, change)]
    said = [speaker.say(words[MOVE_FOR[needed(profile, before)]] if isinstance(words, dict) else words, {})]
    if reason in why:
        said.append(speaker.say(why[reason], profile))
    said += [speaker.say(_telling(profile)[kind], profile) for kind in after.told if kind not in before.told]
    said.append(_cue(speaker, profile, needed(profile, after)))
    return " ".join(said)


def level(reason: str | None, change: float) -> str:
    """The kind of words a change of distress is answered with."""
    if reason == "lost":
        return "lost"
    steps = (("great", -1.0), ("some", -0.2), ("flat", 0.35), ("worse", 1.1))
    return next((name for name, limit in steps if change <= limit), "hurt")


def _profile(population: Population, facts: Mapping[str, str], random: Random) -> dict[str, Any]:
    temper = TEMPERS[population]
    stage = random.randrange(3)
    path = [stage] * 2 + [s for s in range(stage + 1, 3) for _ in range(2)] + [2, 1, 2, 0, 2, 1, 2]
    names = tuple(MOVE_FOR)
    needs: list[str] = []
    for s in path:
        weights = [w * (0.25 if needs and names[i] == needs[-1] else 1.0) for i, w in enumerate(temper.stages[s])]
        needs.append(random.choices(names, weights)[0])
    return {
        **facts,
        "population": population,
        "stage": stage,
        "needs": needs,
        "told": list(TELL_ORDER[: 2 if stage else random.choice((1, 2))]),
        "patience": round(random.uniform(*temper.patience), 3),
        "dislike": round(random.uniform(*temper.dislike), 3),
        "trust": round(random.uniform(0.3, 0.6), 3),
    }


def _opening(profile: Mapping[str, Any], speaker: Speaker) -> str:
    said = [speaker.say(problem(profile["topic"])[profile["population"]], profile)]
    said += [speaker.say(_telling(profile)[kind], profile) for kind in profile["told"]]
    said.append(_cue(speaker, profile, profile["needs"][0]))
    return " ".join(said)


def _cue(speaker: Speaker, profile: Mapping[str, Any], need: str) -> str:
    pool = language()["unclear"] if speaker.random.random() < UNCLEAR else language()["cues"][need]
    return speaker.say(pool[profile["population"]], profile)


def _telling(profile: Mapping[str, Any]) -> Mapping[str, list[str]]:
    return dict(language()["telling"][profile["population"]])


def _first_mind(scenario: Scenario) -> Mind:
    told = ("who", "topic", *scenario.profile["told"])
    return Mind(distress=SCALE.high - scenario.start, trust=scenario.profile["trust"], told=told)


def _read(reply: str, topic: str, heard: Sequence[str], replies: Sequence[str]) -> Reading:
    return _cached_read(reply, topic, tuple(heard), tuple(replies))


@lru_cache(maxsize=65536)
def _cached_read(reply: str, topic: str, heard: tuple[str, ...], replies: tuple[str, ...]) -> Reading:
    return read_reply(reply, topic=topic, heard=heard, replies=replies)
