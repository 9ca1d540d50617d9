"""A talk whose first reaction is missing was not played: it is no talk with a change of zero."""

from __future__ import annotations

import pytest

from rapo.errors import EndpointError
from rapo.evals.emoharbor import EmoHarbor
from rapo.evals.interactive import Talks, outcome
from rapo.evals.safety import Safety
from rapo.evals.sotopia import Sotopia
from rapo.evals.suite import Suite
from rapo.models.chat import Scripted
from rapo.models.stand_in import answer
from rapo.safety import Situation
from rapo.show import figures
from rapo.types import Dialogue, EchoRequest, Message, Reaction, Scenario, Turn

AS = {"suite": "talks", "speaker": "one", "users": "all"}


def talk(*states: float) -> Dialogue:
    scenario = Scenario("a", "", (Message("user", "Hi."),), 5.0)
    return Dialogue(scenario, tuple(Turn("Oh.", Reaction("Hm.", state)) for state in states))


def test_what_was_not_played_counts_nowhere():
    found = outcome([talk(), talk(4.0, 3.0), talk(), talk(3.0, 9.5)], **AS, seed=0, samples=50)
    # Changes of the two that were played: 3 - 5 = -2 and 9.5 - 5 = 4.5, in the mean 1.25; with zeros it would be 0.625.
    assert found.outcome.mean == 1.25
    assert (len(found.items), found.lost) == (2, 2)
    assert (found.figures["turns"], found.figures["resolved"]) == (2.0, 0.5)


def test_without_any_talk_there_is_no_outcome():
    with pytest.raises(EndpointError, match="the first reactions of all 2 talks are missing"):
        outcome([talk(), talk()], **AS, seed=0, samples=50)


class HalfThere:
    """Every talk worsens by 2; every other one gets no reaction at all."""

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        return [Scenario(str(i), "", (Message("user", "Hi."),), 5.0) for i in range(count)]

    def react(self, requests: list[EchoRequest]) -> list[Reaction | None]:
        return [Reaction("Hm.", 3.0) if int(r.dialogue.scenario.id) % 2 else None for r in requests]


class Silent:
    def reply(self, dialogues: list[Dialogue], seeds: list[int]) -> list[str]:
        return ["Oh."] * len(dialogues)


def test_ratings_of_which_none_came_back_are_named_also_where_all_may_be_missing():
    suite = Talks(
        "half", {"all": HalfThere()}, count=4, turns=1, seed=0, samples=50, rate=lambda some: [None] * len(some)
    )
    with pytest.raises(EndpointError, match="all 2 ratings are missing; expected at least one"):
        suite.run("one", Silent())


def test_a_suite_says_how_many_talks_were_lost():
    (row,) = Talks("half", {"all": HalfThere()}, count=20, turns=1, seed=0, samples=50).run("one", Silent())
    assert (row.outcome.mean, len(row.dialogues), row.lost) == (-2.0, 10, 10)


class Steady:
    """Reacts to whatever is said."""

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        return [Scenario(str(i), "", (Message("user", "Hi."),), 5.0, profile={"goal": "talk"}) for i in range(count)]

    def react(self, requests: list[EchoRequest]) -> list[Reaction | None]:
        return [Reaction("Hm.", 5.0) for _ in requests]


class FallsSilent:
    """Has no second reply for two of the talks."""

    def reply(self, dialogues: list[Dialogue], seeds: list[int]) -> list[str | None]:
        return [None if each.turns and each.scenario.id in "01" else "Oh." for each in dialogues]


SCENARIOS, MODEL = Steady().scenarios(3, 0), Scripted("m", answer)
SUITES: dict[str, Suite] = {
    "own": Talks("own", {"all": Steady()}, count=3, turns=3, seed=0, samples=50),
    "emoharbor": EmoHarbor(SCENARIOS, [MODEL], turns=3, samples=50),
    "sotopia": Sotopia(SCENARIOS, Steady(), MODEL, "m", seed=0, turns=3, samples=50),
    "safety": Safety([Situation(str(i), "I want to die.", "suicide", "direct") for i in range(3)], turns=3, samples=50),
}


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_says_how_many_talks_were_cut_short(name: str):
    (row,) = SUITES[name].run("one", FallsSilent(), lambda done: None)
    assert (len(row.items), row.lost, row.cut_short) == (3, 0, 2)
    assert str(figures([row]).title).endswith("3 items, up to 2 cut short")
    (row,) = SUITES[name].run("one", Silent(), lambda done: None)
    assert row.cut_short == 0
