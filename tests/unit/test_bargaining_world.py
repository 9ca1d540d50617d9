"""The embedded bargaining world: what partners read, pay and say; what the judge can see."""

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
from rapo.types import Dialogue, Message, Reaction, Scenario
from rapo.worlds import load_world
from rapo.worlds.bargaining.judge import COMPLAINTS, BargainingJudge, complaint, landing, progress
from rapo.worlds.bargaining.language import (
    DETAIL,
    FACTS,
    MOVE_FOR,
    NEEDS,
    fact_values,
    facts_in,
    language,
    lexicon,
    prices_in,
)
from rapo.worlds.bargaining.mind import SCALE, level, offer, share
from rapo.worlds.bargaining.partner import BargainingWorld, mind_of, react, set_aside
from rapo.worlds.bargaining.policies import EXPLOITS, LADDER, known, make_move
from rapo.worlds.bargaining.reader import move_of, read_need, read_reply
from rapo.worlds.text import fill
from rapo.worlds.world import Population, Scripted

POPULATIONS: tuple[Population, ...] = ("familiar", "held_out")

BRIEF = "You sell the bike, never below 100. You may settle for 190. First say 220."
OPENING = "It is about the bike. I would buy at 135. I need this settled before Saturday. I worry about the chain."
# The zone is 100 wide, so a share is a price less 100, in hundredths.
PROFILE: dict[str, Any] = {
    "item": "bike",
    "part": "chain",
    "extra": "pump",
    "when": "before Saturday",
    "later": "June",
    "rival": "dealer",
    "population": "familiar",
    "role": "sell",
    "limit": 100,
    "reserve": 200,
    "hope": 190,
    "ask": 220,
    "absurd": 1.6,
    "needs": ["hurry", "doubt", "respect", "extra", "rival"],
    "will": 0.4,
    "patience": 3,
    "dislike": 0.6,
    "margin": 0.05,
}


def partner(need: str = "hurry", said: str = OPENING, **profile: Any) -> Dialogue:
    """A talk in which nothing was answered yet: the buyer would pay 140 and offers 135."""
    told = PROFILE | {"needs": [need, "doubt", "respect", "extra", "rival"]} | profile
    opening = (Message("system", BRIEF), Message("user", said))
    return Dialogue(Scenario("b", "Someone sells a bike.", opening, 3.5, SCALE, told))


def answer(dialogue: Dialogue, *replies: str) -> Dialogue:
    for reply in replies:
        dialogue = dialogue.then(reply, react(dialogue, reply))
    return dialogue


HOLD = "I say 220."
PACE = "We can meet before Saturday."
CHECK = "Let us look at the chain together."
CALM = "Take the time you need for the bike."
ASK = "Tell me what you need."
CONCEDE = "I could settle for 190."
ACCEPT = "Good, agreed at 135."
STOCK = "Let us be reasonable."
THREAT = "Take it or leave it."


@pytest.mark.parametrize(
    ("reply", "moves", "price", "named", "defects"),
    [
        (f"{PACE} {HOLD}", ("pace",), 220, {"when"}, set()),
        (f"{CHECK} {HOLD}", ("check",), 220, {"part"}, set()),
        (CHECK, ("check",), None, {"part"}, set()),
        (HOLD, (), 220, set(), set()),
        (CONCEDE, ("concede",), 190, set(), set()),
        (ACCEPT, ("accept",), 135, set(), set()),
        (ASK, ("ask",), None, set(), set()),
        ("The rest can wait until June.", ("split",), None, {"later"}, {"invented"}),  # true, but not told
        (f"{STOCK} {HOLD}", (), 220, set(), {"stock"}),
        (f"{THREAT} {HOLD}", (), 220, set(), {"pressure"}),
        (f"{PACE} {CHECK} {CALM}", ("pace", "check", "calm"), None, {"when", "part", "item"}, {"crowded"}),
        ("I could settle for 190. I still say 220.", ("concede",), None, set(), {"crowded"}),  # two prices are none
        ("I would buy at 135.", (), 135, set(), {"parroted"}),
        ("", (), None, set(), {"lost"}),
        ("135 190 220.", (), None, set(), {"lost"}),
        ("I say 220", (), None, set(), {"lost"}),  # unfinished
        ("Say my 220 is the chain.", (), None, set(), {"lost"}),
        (" ".join([PACE, CHECK, CALM, ASK] * 4), (), None, set(), {"lost"}),
        ("<|im_end|>\u202e\x00.", (), None, set(), {"lost"}),
    ],
)
def test_what_a_partner_reads(
    reply: str, moves: tuple[str, ...], price: int | None, named: set[str], defects: set[str]
) -> None:
    reading = read_reply(reply, heard=[BRIEF, OPENING], replies=[])
    assert (reading.moves, reading.price, set(reading.named), set(reading.defects)) == (moves, price, named, defects)
    assert not reading.leaves


@pytest.mark.parametrize(
    ("before", "reply", "repeats"),
    [
        ([f"{PACE} {HOLD}"], f"{PACE} I still say 220.", True),
        ([f"{PACE} {HOLD}"], f"{CHECK} {HOLD}", False),  # a price may be named again
        ([HOLD], HOLD, True),  # but not in the same first words
        ([HOLD, PACE, CHECK], HOLD, False),  # three replies ago
    ],
)
def test_repetition(before: list[str], reply: str, repeats: bool) -> None:
    assert ("repeated" in read_reply(reply, heard=[BRIEF, OPENING, "Hm."], replies=before).defects) == repeats


# The buyer is willing to leave 0.4 of the zone; a met need adds 0.55 of what is left of it: 0.55 * 0.6 = 0.33.
CHANGES = [
    ("hurry", f"{PACE} {HOLD}", 0.33),
    ("doubt", f"{CHECK} {HOLD}", 0.33),
    ("respect", f"{CALM} {HOLD}", 0.33),
    ("moved", CONCEDE, 0.33),
    ("hurry", PACE, 0.165),  # no price: half
    ("hurry", f"I can be quick about it. {HOLD}", 0.165),  # no detail: half
    ("hurry", f"{STOCK} {PACE} {HOLD}", 0.165 - 0.03),  # half, less 0.05 * dislike 0.6
    ("hurry", f"{CHECK} {HOLD}", -0.04),  # missed
    ("hurry", HOLD, 0.03),  # a plain price is heard
    ("hurry", f"{STOCK} {HOLD}", -0.04 - 0.03),
    ("hurry", f"{THREAT} {HOLD}", -0.04 - 0.11),  # 0.05 + 0.1 * 0.6
    ("hurry", f"{CHECK} {PACE} {CALM}", -0.04 - 0.1),  # the wanted move is lost in the crowd
    ("hurry", f"{PACE} I say 265.", -0.04 - 0.15),  # 1.65 is absurd
    ("hurry", "Good, agreed at 130.", -0.04 - 0.1),  # not what was offered
    ("moved", f"{CALM} {HOLD}", -0.04),
    ("moved", "I could settle for 205.", -0.04),  # still more than it can pay
    ("hurry", ASK, -0.04),  # it has just said what it needs
    ("hurry", "", -0.04 - 0.35),
    ("hurry", "Quick the about say I.", -0.04 - 0.35),
]


@pytest.mark.parametrize(("need", "reply", "change"), CHANGES)
def test_what_a_reply_does(need: str, reply: str, change: float) -> None:
    will = 0.4 + change
    talk = answer(partner(need), reply)
    assert mind_of(talk).will == pytest.approx(will)
    # The offer is 0.05 below, rounded down to a multiple of 5, and the state ten times its share.
    assert talk.trajectory[-1] == pytest.approx(0.5 * max(0, math.floor((will - 0.05) * 20 + 1e-9)))
    assert not talk.done


def test_asking_is_an_answer_only_to_a_partner_that_did_not_show_its_need() -> None:
    unclear = "It is about the bike. I would buy at 135. We will see."
    assert mind_of(answer(partner(said=unclear), ASK)).will == pytest.approx(0.4 + 0.06 * 0.6)
    assert mind_of(answer(partner(), ASK)).will == pytest.approx(0.36)


@pytest.mark.parametrize(
    ("reply", "price"),
    [
        (ACCEPT, 135),
        ("I say 140.", 140),  # what it is willing to pay and has not offered
        ("I say 100.", 100),  # conceding everything leaves nothing
        (CONCEDE.replace("190", "120"), 120),
    ],
)
def test_a_price_that_the_partner_can_live_with_is_a_deal(reply: str, price: int) -> None:
    echo = react(partner(), reply)
    assert echo.done and echo.state == pytest.approx((price - 100) / 10)


def test_a_seller_comes_down() -> None:
    # Limit 200, its own 100: the seller would let it go for 160 and asks 165.
    said = OPENING.replace("I would buy at 135", "I sell it at 165")
    talk = partner(said=said, role="buy", limit=200, reserve=100, ask=80, hope=110)
    assert offer(talk.scenario.profile, mind_of(talk)) == 165
    assert share(talk.scenario.profile, 165) == pytest.approx(0.35)
    echo = react(talk, f"{PACE} I say 80.")  # will 0.73, offer 0.68: down to 135
    assert echo.state == pytest.approx(6.5) and "135" in echo.text
    assert react(talk, "I would say 160.").done


def test_the_last_word() -> None:
    talk = partner(patience=1)
    talk = answer(talk, f"{PACE} {HOLD}")
    # 0.73 without the margin: 170, and there is no more.
    assert talk.trajectory[-1] == 7.0 and read_need(talk.messages[-1].content) == "final"
    echo = react(talk, "Good, agreed at 170.")
    assert (echo.text, echo.state, echo.done) == ("Then we have a deal.", 7.0, True)
    # Holding out costs 0.2 each time, and the third time ends the talk.
    stalled = answer(talk, f"{CALM} {HOLD}", f"{CHECK} I still say 220.", "I would say 220.")
    assert stalled.trajectory[2:] == (5.0, 3.0, 0.0)
    assert [turn.reaction.done for turn in stalled.turns] == [False, False, False, True]


def test_leaving_ends_the_talk_without_a_deal() -> None:
    for reply in ("[leave]", " [Leave] ", "[leave] I have had enough."):
        echo = react(partner(), reply)
        assert echo.done and echo.state == 0.0 and landing(echo.text) == 6


def test_nobody_goes_back_behind_an_own_price() -> None:
    talk = answer(partner(), CONCEDE)
    assert "another number" in react(talk, f"{CHECK} {HOLD}").text or "your own number" in react(talk, HOLD).text
    before = mind_of(talk).will
    assert mind_of(answer(talk, f"{PACE} I still say 190.")).will > before
    assert mind_of(answer(talk, f"{PACE} {HOLD}")).will == pytest.approx(before - 0.14)


def test_a_partner_that_can_not_follow_is_lost_within_three_replies() -> None:
    # Patience 5, 2, -1, -4: at -3 it leaves.
    talk = answer(partner(patience=5), "", "", "")
    assert [turn.reaction.done for turn in talk.turns] == [False, False, True]


def test_ill_formed_is_the_worst_single_reaction() -> None:
    lost = mind_of(answer(partner(will=0.5), "")).will
    for need, reply, _ in CHANGES[:-2]:
        assert mind_of(answer(partner(need, will=0.5, dislike=1.0), reply)).will > lost


@pytest.mark.parametrize("need", [need for need in NEEDS if need != "final"])
@pytest.mark.parametrize("population", POPULATIONS)
def test_a_well_made_move_that_is_wanted_raises_the_offer(need: str, population: Population) -> None:
    raised = 0
    for scenario in BargainingWorld(population).scenarios(40, 1):
        talk = Dialogue(scenario)
        if read_need(scenario.opening[-1].content) == scenario.profile["needs"][0] == need:
            echo = react(talk, make_move(talk, MOVE_FOR[need], Random(scenario.id)))
            assert echo.state > scenario.start or echo.done
            raised += 1
    assert raised


@pytest.mark.parametrize(
    ("reason", "change", "kind"),
    [
        (None, 0.12, "great"),
        (None, 0.119, "some"),
        ("missed", 0.03, "flat"),
        ("missed", -0.05, "flat"),
        ("stock", -0.051, "worse"),
        ("pressure", -0.13, "hurt"),
        ("lost", 0.5, "lost"),
    ],
)
def test_kinds_of_echoes(reason: str | None, change: float, kind: str) -> None:
    assert level(reason, change) == kind


def test_reactions_are_pure() -> None:
    talk = answer(partner(), HOLD, f"{CHECK} I still say 220.")
    once = react(talk, f"{PACE} {HOLD}")
    react(partner("doubt"), HOLD)
    assert react(talk, f"{PACE} {HOLD}") == once
    turns = tuple(replace(turn, reaction=replace(turn.reaction, state=math.nan)) for turn in talk.turns)
    assert react(replace(talk, turns=turns), f"{PACE} {HOLD}") == once


def test_scenarios_are_seeded_and_many() -> None:
    world = BargainingWorld()
    assert world.scenarios(20, 3) == world.scenarios(20, 3) == world.scenarios(40, 3)[:20]
    found = world.scenarios(5000, 3)
    assert len({(s.opening, s.start) for s in found}) == 5000
    assert {s.profile["role"] for s in found} == {"sell", "buy"}


def test_training_and_evaluation_share_no_combination_of_facts() -> None:
    # 10 items * 3 parts * 2 extras * 10 times * 10 months * 10 rivals = 60,000, one in five of them set aside.
    items, values = language()["items"], fact_values()
    owned = [(item, part, extra) for item in items for part in items[item]["parts"] for extra in items[item]["extras"]]
    rest = itertools.product(values["when"], values["later"], values["rival"])
    every = [dict(zip(FACTS, (*own, *more), strict=True)) for own, more in itertools.product(owned, rest)]
    assert len(every) == 60_000 and 0.19 < sum(map(set_aside, every)) / 60_000 < 0.21

    def drawn(population: Population, evaluation: bool) -> set[tuple[str, ...]]:
        found = BargainingWorld(population, evaluation=evaluation).scenarios(300, 5)
        return {tuple(scenario.profile[kind] for kind in FACTS) for scenario in found}

    training, evaluation = ({f for p in POPULATIONS for f in drawn(p, e)} for e in (False, True))
    assert not training & evaluation
    assert all(set_aside(dict(zip(FACTS, facts, strict=True))) for facts in evaluation)


@pytest.mark.parametrize("population", POPULATIONS)
def test_no_hidden_number_is_in_the_policys_context(population: Population) -> None:
    for scenario in BargainingWorld(population).scenarios(300, 2):
        profile, (brief, said) = scenario.profile, scenario.opening
        assert (brief.role, said.role) == ("system", "user")
        own = {profile[name] for name in ("ask", "hope", "limit")}
        assert set(prices_in(brief.content)) == own
        assert set(prices_in(said.content)) == {offer(profile, mind_of(Dialogue(scenario)))}
        assert profile["reserve"] not in own | set(prices_in(said.content))
        assert 0 <= scenario.start <= 10
        public = " ".join([scenario.situation, brief.content, said.content])
        assert facts_in(public) <= {(kind, str(profile[kind]).lower()) for kind in FACTS}
        assert not set(re.findall(r"\w+", public.lower())) & {"reserve", "patience", "dislike", "margin"}


def test_the_deal_a_brief_hopes_for_is_possible_and_its_first_price_is_not() -> None:
    for scenario in BargainingWorld().scenarios(300, 4):
        profile = scenario.profile
        assert 0.6 < share(profile, profile["hope"]) < 1 < share(profile, profile["ask"]) < profile["absurd"]
        assert min(profile[name] for name in ("ask", "hope", "limit", "reserve")) > 0


def texts(part: Any) -> Iterator[str]:
    """Every text in a part of the language file."""
    if isinstance(part, str):
        yield part
    else:
        for item in part.values() if isinstance(part, dict) else part:
            yield from texts(item)


def test_populations_share_no_sentence() -> None:
    data = language()
    pools = [data[name] for name in ("opening", "offers", "unclear", "landed", "why")] + [*data["cues"].values()]
    said = [{lexicon().words(t) for pool in pools for t in texts(pool[population])} for population in POPULATIONS]
    assert len(said[0]) > 70 and len(said[1]) > 60
    assert not said[0] & said[1]


@pytest.mark.parametrize("population", POPULATIONS)
def test_every_cue_shows_its_need_and_nothing_else_shows_one(population: Population) -> None:
    data = language()
    for need, pools in data["cues"].items():
        assert {cue: read_need(cue) for cue in pools[population]} == dict.fromkeys(pools[population], need)
    others = [data[part][population] for part in ("opening", "offers", "unclear", "landed", "why")]
    assert {text: read_need(text) for text in texts(others) if read_need(text)} == {}


def test_every_move_is_recognised_and_nothing_else_is_one() -> None:
    data = language()
    values = PROFILE | {"price": "190", "offer": "135"}
    for move, about in data["moves"].items():
        for template in [*about["say"], *about.get("bare", [])]:
            (found,) = {move_of(part) for part in [fill(template, values)]}
            assert found == move
    for text in [*data["hold"], *data["stock"], *data["pressure"]]:
        assert move_of(fill(text, values)) is None
    assert set(DETAIL) <= set(data["moves"])


KINDS = {"great": 0, "deal": 0, "some": 1, "flat": 2, "early": 3, "worse": 4, "hurt": 5, "gone": 6, "lost": 6}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_judge_hears_how_an_echo_landed(population: Population, kind: str) -> None:
    pool = list(texts(language()["landed"][population][kind]))
    assert {text: landing(text) for text in pool} == dict.fromkeys(pool, KINDS[kind])


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("reason", [name for name in COMPLAINTS if name not in ("lost", "early")])
def test_the_judge_hears_every_complaint(population: Population, reason: str) -> None:
    landed = language()["landed"][population]
    for why in language()["why"][population][reason]:
        for first in texts([landed[kind] for kind in ("some", "flat", "worse", "hurt")]):
            assert complaint(f"{first} {why} I buy at 120.") == reason


@pytest.mark.parametrize("population", POPULATIONS)
def test_no_complaint_is_heard_where_none_was_made(population: Population) -> None:
    data = language()
    tails = [fill(text, {**PROFILE, "offer": "120"}) for text in texts(data["offers"][population])]
    for kind, pool in data["landed"][population].items():
        for first, tail in itertools.product(texts(pool), tails):
            assert complaint(f"{first} {tail}") == (kind if kind in ("lost", "early") else None)


def test_the_judge_reads_who_pays() -> None:
    for population in POPULATIONS:
        for role, sign in (("sell", 1), ("buy", -1)):
            for text in texts(language()["offers"][population][role]):
                said, echo = (fill(text, {"offer": str(price)}) for price in (120, 135))
                assert progress(said, "", f"Better. {echo}") == sign * 15


def reactions(count: int, seed: int) -> list[tuple[Dialogue, str, Reaction]]:
    """Replies of all scripted negotiators at random places of talks, and their echoes."""
    random = Random(seed)
    rules = [*LADDER.values(), *EXPLOITS.values(), *[LADDER["cue rule"], LADDER["random move"]] * 3]
    found = []
    for population in POPULATIONS:
        world = BargainingWorld(population)
        mixed = Scripted(lambda dialogue, draw: draw.choice(rules)(dialogue, draw))
        for talk in play(mixed, world, world.scenarios(count // 2, seed), turns=3, seed=seed):
            t = random.randrange(len(talk.turns))
            found.append((talk.upto(t), talk.turns[t].reply, talk.turns[t].reaction))
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_the_judges_ranks_follow_the_change_it_never_sees(seed: int) -> None:
    agreement = []
    judge = BargainingJudge()
    for talk, _, _ in reactions(80, seed):
        rules = [*LADDER.values(), *LADDER.values(), *EXPLOITS.values()]
        replies = tuple(rule(talk, Random(i)) for i, rule in enumerate(rules))
        echoes = tuple(react(talk, reply) for reply in replies)
        (verdict,) = judge.judge([JudgeRequest(talk.messages, replies, echoes)])
        assert verdict is not None
        agreement.append(spearman(verdict.ranks, [-echo.state for echo in echoes]))
        # States, thoughts and endings are not read: the same verdict without them.
        bare = tuple(Reaction(echo.text, math.nan, "I want: nonsense.", not echo.done) for echo in echoes)
        assert judge.judge([JudgeRequest(talk.messages, replies, bare)]) == [verdict]
    assert sum(agreement) / len(agreement) >= 0.7


def test_critiques_never_hold_a_fact_or_a_number() -> None:
    for talk, reply, echo in reactions(300, 2):
        (verdict,) = BargainingJudge().judge([JudgeRequest(talk.messages, (reply,), (echo,))])
        assert verdict is not None and verdict.critiques[0].strip()
        assert not lexicon().facts_in(verdict.critiques[0])


def spearman(one: Any, two: Any) -> float:
    """The correlation of mid-ranks."""
    a, b = (mid_ranks(values) for values in (one, two))
    mean = (len(a) + 1) / 2
    both = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    scale = sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b)
    return both / math.sqrt(scale) if scale else 1.0


def test_corrections_follow_their_critiques_and_raise_what_can_be_raised() -> None:
    world = load_world("bargaining")
    cases = world.corrections(200, 3, failed_only=True)
    assert cases == world.corrections(200, 3, failed_only=True)
    better = [world.echo(case.dialogue, case.target).state > case.echo.state for case in cases]
    assert sum(better) / len(better) > 0.9
    assert all(fact.lower() in case.target.lower() for case in cases for fact in case.facts)


def test_a_negotiator_keeps_to_its_price() -> None:
    talk = partner()
    assert known(talk)["price"] == "220" and known(talk)["offer"] == "135"
    talk = answer(talk, CONCEDE)
    assert known(talk)["price"] == "190"
    assert "190" in make_move(talk, "calm", Random(0))
