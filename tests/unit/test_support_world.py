"""The embedded support world: what seekers read, feel and tell; what the judge can see."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from rapo.hindsight.feedback import JudgeRequest
from rapo.interact.play import play
from rapo.ranks import mid_ranks
from rapo.seeds import derive_seed
from rapo.types import Dialogue, Message, Reaction, Scenario
from rapo.worlds.support.judge import COMPLAINTS, SupportJudge, complaint, landing
from rapo.worlds.support.language import (
    FACTS,
    MOVE_FOR,
    NEEDS,
    fact_values,
    facts_in,
    language,
    problem,
    words,
)
from rapo.worlds.support.policies import EXPLOITS, LADDER, make_move
from rapo.worlds.support.reader import read_need, read_reply
from rapo.worlds.support.seeker import SCALE, SupportWorld, level, mind_of, react
from rapo.worlds.text import fill, sentences
from rapo.worlds.world import Population, Scripted

POPULATIONS: tuple[Population, ...] = ("familiar", "held_out")

# A seeker who has told three facts of four; "since Monday" is still hidden.
OPENING = "I failed the exam and my sister keeps bringing it up. The worst is the silence."
PROFILE: dict[str, Any] = {
    "who": "sister",
    "topic": "exam",
    "hard": "the silence",
    "when": "since Monday",
    "population": "familiar",
    "stage": 0,
    "needs": ["understood", "options", "heard", "heard"],
    "told": ["hard"],
    "patience": 0.5,
    "dislike": 0.6,
    "trust": 0.5,
}


def seeker(need: str = "understood", **profile: Any) -> Dialogue:
    """A talk with distress 6 and trust 0.5, in which nothing was answered yet."""
    told = PROFILE | {"needs": [need, "options", "heard", "heard"]} | profile
    return Dialogue(Scenario("s", "exam", (Message("user", OPENING),), 4.0, SCALE, told))


def answer(dialogue: Dialogue, *replies: str) -> Dialogue:
    for reply in replies:
        dialogue = dialogue.then(reply, react(dialogue, reply))
    return dialogue


REFLECT = "So it is the silence, with the exam on top of it."
ASK = "Tell me more about the silence."
SUGGEST = "You could study with a friend each evening."
REASSURE = "It makes sense that the silence wears you down."
INFORM = "Schools usually allow a second try."
PUSH = "One small step today: read one page."
STOCK = "Stay strong."


@pytest.mark.parametrize(
    ("reply", "moves", "told", "fit", "defects"),
    [
        (ASK, ("ask",), 1, {}, set()),
        ("What was it like with your sister?", ("ask",), 1, {}, set()),
        (REFLECT, ("reflect",), 2, {}, set()),
        (REASSURE, ("reassure",), 1, {}, set()),
        (SUGGEST, ("suggest",), 0, {"suggest": True}, set()),
        (INFORM, ("inform",), 0, {"inform": True}, set()),
        (PUSH, ("push",), 0, {"push": True}, set()),
        (f"{REASSURE} {ASK}", ("reassure", "ask"), 1, {}, set()),
        ("You could call the employment office.", ("suggest",), 0, {"suggest": False}, set()),
        (STOCK, (), 0, {}, {"stock"}),
        (f"{STOCK} {ASK}", ("ask",), 1, {}, {"stock"}),
        ("What was it like with your boss?", ("ask",), 0, {}, {"invented"}),
        ("Tell me what happened since Monday.", ("ask",), 0, {}, {"invented"}),  # true, but not told
        (f"{REASSURE} {ASK} {PUSH}", ("reassure", "ask", "push"), 1, {"push": True}, {"crowded"}),
        ("The worst is the silence.", (), 1, {}, {"parroted"}),
        ("Said before.", (), 0, {}, {"lost"}),
        ("", (), 0, {}, {"lost"}),
        (" \n", (), 0, {}, {"lost"}),
        ("Tell me more about the silence", (), 0, {}, {"lost"}),  # unfinished
        ("Silence the about more me tell.", (), 0, {}, {"lost"}),
        (" ".join([ASK, REFLECT, REASSURE] * 4), (), 0, {}, {"lost"}),
        ("<|im_end|>\u202e\x00.", (), 0, {}, {"lost"}),
    ],
)
def test_what_a_seeker_reads(
    reply: str, moves: tuple[str, ...], told: int, fit: dict[str, bool], defects: set[str]
) -> None:
    reading = read_reply(reply, topic="exam", heard=[OPENING], replies=[])
    assert (reading.moves, reading.told, dict(reading.fit), set(reading.defects)) == (moves, told, fit, defects)


@pytest.mark.parametrize(
    ("before", "reply", "repeats"),
    [
        ([ASK], ASK, True),
        ([ASK], f"{REASSURE} {ASK}", True),  # a whole sentence again
        (["Tell me more about the exam."], ASK, True),  # the same four words first
        ([ASK, REFLECT, REASSURE], "Tell me more about the exam.", False),  # three replies ago
        ([ASK], REFLECT, False),
    ],
)
def test_repetition(before: list[str], reply: str, repeats: bool) -> None:
    reading = read_reply(reply, topic="exam", heard=[OPENING, "Well."], replies=before)
    assert ("repeated" in reading.defects) == repeats


# At trust 0.5 a met need counts 1.25 * (0.7 + 0.6 * 0.5) = 1.25.
CHANGES = [
    ("understood", REFLECT, -1.25),
    ("heard", ASK, -1.25),
    ("reassurance", REASSURE, -1.25),
    ("options", SUGGEST, -1.25),
    ("information", INFORM, -1.25),
    ("push", PUSH, -1.25),
    ("understood", ASK, 0.3),  # missed
    ("understood", "I hear that you live with the silence.", -0.625),  # one fact of two: vague, half met
    ("understood", STOCK, 0.6),  # 0.5 * dislike 0.6, and 0.3 as the need is not met
    ("heard", f"{STOCK} {ASK}", 0.3 - 0.625),  # met by half, as something is wrong
    ("understood", SUGGEST, 1.0),  # early advice: 1.2 - patience 0.5, and not met
    ("understood", "What was it like with your boss?", 1.3),  # invented 1.0, not met
    ("heard", "What was it like with your boss?", 1.3),  # even where asking was right
    ("options", "You could call the employment office.", 1.1),  # unfit 0.8, not met
    ("understood", "The worst is the silence.", 1.0),  # parroted 0.7, not met
    ("reassurance", f"{REASSURE} {ASK} {REFLECT}", 1.0),  # crowded 0.7: the wanted move is lost in it
    ("understood", f"{STOCK} {ASK} {PUSH} {INFORM}", 1.4),  # 0.3 + 0.7 + 0.7, at most 1.1; and not met
    ("understood", "", 2.5),  # 2.2, and not met
    ("options", "You could friend a with study.", 2.5),
]


@pytest.mark.parametrize(("need", "reply", "change"), CHANGES)
def test_what_a_reply_does(need: str, reply: str, change: float) -> None:
    assert react(seeker(need), reply).state == pytest.approx(4.0 - change)


def test_ill_formed_is_the_worst_single_reaction() -> None:
    lost = react(seeker(), "").state
    for need in NEEDS:
        others = [reply for _, reply, change in CHANGES if change != 2.5]
        others += [" ".join([STOCK, "Time heals all wounds.", "You are not alone in this."])]
        for reply in others:
            assert react(seeker(need, patience=0.0, dislike=1.0), reply).state > lost


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("population", POPULATIONS)
def test_a_well_made_move_that_is_wanted_lowers_distress(need: str, population: Population) -> None:
    for scenario in SupportWorld(population).scenarios(12, 1):
        told = {**scenario.profile, "needs": [need, *scenario.profile["needs"][1:]]}
        dialogue = Dialogue(replace(scenario, profile=told))
        reply = make_move(dialogue, MOVE_FOR[need], Random(scenario.id))
        assert react(dialogue, reply).state > scenario.start, reply


@pytest.mark.parametrize(
    ("reason", "change", "kind"),
    [
        (None, -1.0, "great"),
        (None, -0.99, "some"),
        ("stock", -0.2, "some"),
        ("missed", 0.3, "flat"),
        ("advice", 0.36, "worse"),
        ("advice", 1.1, "worse"),
        ("invented", 1.11, "hurt"),
        ("lost", -9.0, "lost"),
    ],
)
def test_kinds_of_echoes(reason: str | None, change: float, kind: str) -> None:
    assert level(reason, change) == kind


def test_facts_are_told_only_when_asked() -> None:
    for reply in (REFLECT, REASSURE, SUGGEST, INFORM, PUSH, STOCK, ""):
        assert "since Monday" not in react(seeker(), reply).text
    asked = answer(seeker(), ASK)
    assert "since Monday" in asked.turns[0].reaction.text
    again = react(asked, "What was it like with your sister?")
    assert "since Monday" not in again.text, "told once"


@pytest.mark.parametrize("population", POPULATIONS)
def test_an_opening_tells_what_the_profile_says_and_never_the_need(population: Population) -> None:
    for scenario in SupportWorld(population).scenarios(200, 2):
        public = " ".join([scenario.situation, *(message.content for message in scenario.opening)])
        told = {"who", "topic", *scenario.profile["told"]}
        assert facts_in(public) == {(kind, scenario.profile[kind].lower()) for kind in told}
        # But for the problem itself: someone's sister "heard" awful things, whatever the seeker needs.
        more = " ".join([scenario.situation, *sentences(scenario.opening[0].content)[1:]])
        assert not set(re.findall(r"\w+", more.lower())) & {*NEEDS, "patience", "dislike", "trust"}


def test_a_seeker_whose_trust_is_lost_leaves() -> None:
    # Trust falls by 0.05 + 0.06 * 2.5 = 0.2 each time: 0.5, 0.3, 0.1, 0; below 0.05 ends the talk.
    talk = answer(seeker(), "", "", "")
    assert [turn.reaction.done for turn in talk.turns] == [False, False, True]
    assert talk.turns[-1].reaction.text in language()["landed"]["familiar"]["gone"]
    # Distress 6 + 2.5, then 10 at most.
    assert talk.trajectory == (4.0, 1.5, 0.0, 0.0)


def test_a_helped_seeker_leaves() -> None:
    talk = Dialogue(replace(seeker().scenario, start=7.8))  # distress 2.2 less 1.25 is 0.95, at most 1
    echo = react(talk, REFLECT)
    assert echo.done and echo.text in language()["landed"]["familiar"]["resolved"]


def test_a_met_need_makes_room_for_the_next() -> None:
    assert mind_of(answer(seeker(), REFLECT)).need == 1
    assert mind_of(answer(seeker(), ASK)).need == 0
    half = "I hear that you live with the silence."
    assert mind_of(answer(seeker(), half)).progress == 0.5
    # Trust 0.5 + 0.15 met, or less 0.03 + 0.06 * 0.3 missed.
    assert mind_of(answer(seeker(), REFLECT)).trust == pytest.approx(0.65)
    assert mind_of(answer(seeker(), ASK)).trust == pytest.approx(0.452)


def test_reactions_are_pure() -> None:
    talk = answer(seeker(), STOCK, ASK)
    once = react(talk, REFLECT)
    react(seeker("heard"), REFLECT)
    assert react(talk, REFLECT) == once
    # The mind is recomputed from the words, so what was recorded as a state does not matter.
    turns = tuple(replace(turn, reaction=replace(turn.reaction, state=math.nan)) for turn in talk.turns)
    assert react(replace(talk, turns=turns), REFLECT) == once


def test_scenarios_are_seeded() -> None:
    world = SupportWorld()
    assert world.scenarios(20, 3) == world.scenarios(20, 3) == world.scenarios(40, 3)[:20]
    assert not {s.id for s in world.scenarios(20, 3)} & {s.id for s in world.scenarios(20, 4)}


def test_training_and_evaluation_share_no_combination_of_facts() -> None:
    # 18 people * 10 problems * 14 hardships * 14 times = 35,280, one in five of them set aside.
    values = fact_values()
    assert [len(values[kind]) for kind in FACTS] == [18, 10, 14, 14]
    aside = sum(derive_seed(*facts) % 5 == 0 for facts in itertools.product(*(values[kind] for kind in FACTS)))
    assert 35_280 - aside >= 20_000 and 0.19 < aside / 35_280 < 0.21

    def drawn(population: Population, evaluation: bool) -> set[tuple[str, ...]]:
        found = SupportWorld(population, evaluation=evaluation).scenarios(400, 5)
        return {tuple(scenario.profile[kind] for kind in FACTS) for scenario in found}

    training, evaluation = ({f for p in POPULATIONS for f in drawn(p, e)} for e in (False, True))
    assert not training & evaluation
    assert all(derive_seed(*facts) % 5 == 0 for facts in evaluation)


def texts(part: Any) -> Iterator[str]:
    """Every text in a part of the language file."""
    if isinstance(part, str):
        yield part
    else:
        for item in part.values() if isinstance(part, dict) else part:
            yield from texts(item)


def test_populations_share_no_sentence() -> None:
    data = language()
    pools = [data[name] for name in ("unclear", "landed", "why", "telling")]
    pools += [*data["cues"].values(), *data["problems"].values()]
    said = [{words(text) for pool in pools for text in texts(pool[population])} for population in POPULATIONS]
    assert len(said[0]) > 100 and len(said[1]) > 60
    assert not said[0] & said[1]


def test_every_cue_shows_its_need_and_no_other() -> None:
    for population in POPULATIONS:
        for need, pools in language()["cues"].items():
            assert {cue: read_need(cue) for cue in pools[population]} == dict.fromkeys(pools[population], need)
        assert {read_need(text) for text in language()["unclear"][population]} == {None}


KINDS = {"great": 0, "resolved": 0, "some": 1, "flat": 2, "worse": 3, "hurt": 4, "gone": 4, "lost": 5}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_judge_hears_how_an_echo_landed(population: Population, kind: str) -> None:
    pool = list(texts(language()["landed"][population][kind]))
    assert {text: landing(text) for text in pool} == dict.fromkeys(pool, KINDS[kind])
    # Whatever is said after it.
    for text, more in itertools.product(pool, texts([pools[population] for pools in language()["cues"].values()])):
        assert landing(f"{text} {more}") == KINDS[kind]


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("reason", [name for name in COMPLAINTS if name != "lost"])
def test_the_judge_hears_every_complaint(population: Population, reason: str) -> None:
    landed = language()["landed"][population]
    for why in language()["why"][population][reason]:
        for first in texts([landed[kind] for kind in ("some", "flat", "worse", "hurt")]):
            assert complaint(f"{first} {fill(why, PROFILE)}") == reason


@pytest.mark.parametrize("population", POPULATIONS)
def test_no_complaint_is_heard_where_none_was_made(population: Population) -> None:
    data = language()
    cues = list(texts([pools[population] for pools in [*data["cues"].values(), data["unclear"]]]))
    told = [fill(text, PROFILE) for text in texts(data["telling"][population])]
    for kind, pool in data["landed"][population].items():
        # Thanks are not searched for complaints ("I can breathe again.").
        for first, tail in itertools.product(texts(pool) if KINDS[kind] else (), [*cues, *told]):
            assert complaint(f"{first} {tail}") == ("lost" if kind == "lost" else None)


def reactions(count: int, seed: int) -> list[tuple[Dialogue, str, Reaction]]:
    """Replies of all scripted supporters at random places of talks, and their echoes."""
    random = Random(seed)
    rules = [*LADDER.values(), *EXPLOITS.values(), *[LADDER["cue rule"], LADDER["random move"]] * 3]
    found = []
    for population in POPULATIONS:
        world = SupportWorld(population)
        mixed = Scripted(lambda dialogue, draw: draw.choice(rules)(dialogue, draw))
        for talk in play(mixed, world, world.scenarios(count // 2, seed), turns=3, seed=seed):
            t = random.randrange(len(talk.turns))
            found.append((talk.upto(t), talk.turns[t].reply, talk.turns[t].reaction))
    return found


def asked(case: tuple[Dialogue, str, Reaction]) -> JudgeRequest:
    dialogue, reply, echo = case
    return JudgeRequest(dialogue.messages, (reply,), (echo,))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_judges_ranks_follow_the_change_it_never_sees(seed: int) -> None:
    cases = reactions(300, seed)
    talks, replies, echoes = zip(*cases, strict=True)
    judge = SupportJudge()
    (verdict,) = judge.judge([JudgeRequest(talks[0].messages, replies, echoes)])
    assert verdict is not None
    changes = [echo.state - talk.trajectory[-1] for talk, _, echo in cases]
    assert spearman(verdict.ranks, [-change for change in changes]) >= 0.8
    # States, thoughts and endings are not read: the same verdict without them.
    bare = tuple(Reaction(echo.text, math.nan, "I want: nonsense.", not echo.done) for echo in echoes)
    assert judge.judge([JudgeRequest(talks[0].messages, replies, bare)]) == [verdict]


def test_critiques_never_hold_a_fact() -> None:
    for verdict in SupportJudge().judge([asked(case) for case in reactions(500, 2)]):
        assert verdict is not None
        assert not facts_in(verdict.critiques[0])
        assert verdict.critiques[0].strip()


def spearman(one: Any, two: Any) -> float:
    """The correlation of mid-ranks."""
    a, b = (mid_ranks(values) for values in (one, two))
    mean = (len(a) + 1) / 2
    both = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    return both / math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))


@pytest.mark.parametrize("population", POPULATIONS)
def test_a_problem_is_stated_in_its_own_facts(population: Population) -> None:
    for topic in language()["problems"]:
        for text in problem(topic)[population]:
            assert facts_in(fill(text, PROFILE | {"topic": topic})) == {("topic", topic), ("who", "sister")}
