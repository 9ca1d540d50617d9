"""Sampled personas: many, short, and hidden."""

from __future__ import annotations

from random import Random

from rapo.interact.personas import NEEDS, PERSONAS, RESISTANCES, STYLES, TRAITS, has_persona, persona, with_persona
from rapo.types import Message, Scenario

SCENARIO = Scenario("file:12", "a job lost", (Message("user", "hi"),), 4.0, profile={"facts": ["rent is due"]})


def test_by_hand() -> None:
    # The middle level has no words: digits 1, 1, 1, 1, 1 are 1 + 3 + 9 + 27 + 81 = 121; 243 is one style on.
    assert persona(121)["traits"] == "average"
    assert persona(0)["traits"] == "; ".join(trait[0] for trait in TRAITS)
    assert [persona(number)["talks"] for number in (0, 242, 243)] == [STYLES[0], STYLES[0], STYLES[1]]
    assert persona(PERSONAS - 1)["need"] == NEEDS[-1] and persona(PERSONAS) == persona(0)


def test_many_and_short() -> None:
    assert PERSONAS == 3**5 * len(STYLES) * len(RESISTANCES) * len(NEEDS) >= 10_000
    some = [persona(number) for number in Random(0).sample(range(PERSONAS), 10_000)]
    assert len({tuple(each.values()) for each in some}) == 10_000
    assert max(len(text) for each in some for text in each.values()) < 250


def test_only_where_there_is_none() -> None:
    found = with_persona(SCENARIO, 3)
    assert found.id == "file:12~p3" and has_persona(found) and not has_persona(SCENARIO)
    assert found.profile == {"facts": ["rent is due"], "persona": persona(3)}
    assert (found.situation, found.opening, found.start) == (SCENARIO.situation, SCENARIO.opening, SCENARIO.start)
    assert with_persona(found, 4) is found


def test_a_need_of_its_own_stays_the_only_one() -> None:
    own = Scenario("s", "", (Message("user", "hi"),), 4.0, profile={"goal": "sell for 50"})
    assert "need" not in with_persona(own, 3).profile["persona"]
