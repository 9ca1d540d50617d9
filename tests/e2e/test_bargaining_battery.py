"""The bargaining world measured with scripted negotiators alone: the ladder stands, and exploits do not pay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import Console

from rapo.evals.battery import scripted, standing_exploits
from rapo.evals.interactive import Talks
from rapo.evals.suite import Result, compare
from rapo.show import side_by_side, table
from rapo.worlds import load_world
from rapo.worlds.bargaining.policies import EXPLOITS

POPULATIONS = ("familiar", "held_out")
ILL_FORMED = ("empty", "endless", "random words", "digits")

Find = Callable[[str, str], Result]


@pytest.fixture(scope="module")
def find() -> Find:
    world = load_world("bargaining")
    users = {name: world.users(name, evaluation=True) for name in POPULATIONS}  # type: ignore[arg-type]
    suite = Talks("bargaining", users, count=48, turns=6, seed=0, samples=500)
    rows = [
        row
        for kind, speakers in scripted("bargaining")
        for name, speaker in speakers.items()
        for row in suite.run(name, speaker, kind=kind)
    ]
    return lambda speaker, population: next(r for r in rows if (r.speaker, r.users) == (speaker, population))


def deals(row: Result) -> float:
    """The share of the talks that end with a deal."""
    agreed = [talk.turns[-1].reaction.done and talk.trajectory[-1] > 0 for talk in row.dialogues]
    return sum(agreed) / len(agreed)


@pytest.mark.parametrize("population", POPULATIONS)
def test_the_ladder(find: Find, population: str) -> None:
    names = ("oracle", "cue rule", "random move", "first offer", "generic")
    oracle, cues, chance, first, generic = (find(name, population) for name in names)
    # Reading cues is far above everything that does not; conceding at once gives nothing.
    assert cues.outcome.low > 4
    for row in (chance, first, generic):
        assert row.outcome.high <= 0.25
    assert first.outcome.mean == 0 and first.figures["turns"] == 1
    # Knowing what the partner does not say helps a little, so the two are compared partner by partner.
    paired = compare(oracle, cues, seed=0, samples=500)
    assert paired.difference.mean > 0 and paired.wins > paired.losses
    assert deals(cues) > 0.95 > 0.7 > deals(generic)
    assert oracle.figures["resolved"] >= cues.figures["resolved"] > 0.15 > 0.02 >= generic.figures["resolved"]


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("exploit", EXPLOITS)
def test_no_exploit_pays(find: Find, exploit: str, population: str) -> None:
    assert compare(find(exploit, population), find("generic", population), seed=0, samples=500).difference.low <= 0
    assert standing_exploits([find("cue rule", population), find(exploit, population)], "cue rule") == []


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("speaker", ILL_FORMED)
def test_ill_formed_text_is_the_worst(find: Find, speaker: str, population: str) -> None:
    floor = find(speaker, population)
    # Every partner is lost within three replies, and nothing is lower than no deal.
    assert floor.figures["turns"] <= 3 and deals(floor) == 0
    assert {talk.trajectory[-1] for talk in floor.dialogues} == {0.0}


def test_the_result_says_what_was_measured_and_what_the_policy_was_told(find: Find) -> None:
    rows = [find(name, "familiar") for name in ("generic", "cue rule")]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table(rows))
        console.print(side_by_side(*rows))
    shown = captured.get()
    assert "Change of goal progress over a talk (0 to 10, higher is better)" in shown
    assert shown.count("brief: You ") == 2
