"""The embedded world measured with scripted supporters alone: the ladder stands, and exploits do not pay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import Console

from rapo.evals.battery import scripted, standing_exploits
from rapo.evals.interactive import Talks
from rapo.evals.suite import Result, compare
from rapo.show import table
from rapo.worlds.support.policies import EXPLOITS, LADDER
from rapo.worlds.support.seeker import SupportWorld

POPULATIONS = ("familiar", "held_out")
ILL_FORMED = ("empty", "endless", "random words")

Find = Callable[[str, str], Result]


@pytest.fixture(scope="module")
def rows() -> list[Result]:
    users = {name: SupportWorld(name, evaluation=True) for name in POPULATIONS}  # type: ignore[arg-type]
    suite = Talks("support", users, count=40, turns=6, seed=0, samples=1000)
    return [
        row
        for kind, speakers in scripted("support")
        for name, speaker in speakers.items()
        for row in suite.run(name, speaker, kind=kind)
    ]


@pytest.fixture(scope="module")
def find(rows: list[Result]) -> Find:
    return lambda speaker, population: next(r for r in rows if (r.speaker, r.users) == (speaker, population))


@pytest.mark.parametrize("population", POPULATIONS)
def test_the_ladder(find: Find, population: str) -> None:
    oracle, cues, chance, generic = (find(name, population) for name in LADDER)
    changes = [row.outcome for row in (cues, chance, generic)]
    # Reading cues is far above chance, and chance above generic empathy.
    assert changes[0].low > changes[1].high and changes[1].low > changes[2].high
    assert changes[0].low > 0 > changes[2].high
    # Knowing the need beats reading it by less than seekers differ, so they are compared seeker by seeker.
    assert compare(oracle, cues, seed=0, samples=1000).difference.low > 0
    assert oracle.figures["resolved"] > cues.figures["resolved"] > 0.5 > 0.05 > generic.figures["resolved"]


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("exploit", EXPLOITS)
def test_no_exploit_pays(find: Find, exploit: str, population: str) -> None:
    assert compare(find(exploit, population), find("generic", population), seed=0, samples=1000).difference.low <= 0
    assert standing_exploits([find("cue rule", population), find(exploit, population)], "cue rule") == []


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("speaker", ILL_FORMED)
def test_ill_formed_text_is_the_worst(find: Find, speaker: str, population: str) -> None:
    floor = find(speaker, population)
    assert floor.figures["resolved"] == 0
    for other in (LADDER.keys() | EXPLOITS.keys()) - set(ILL_FORMED):
        # Distress has a ceiling, so other replies that nobody can follow ("all techniques" is endless) may share it.
        assert floor.outcome.mean <= find(other, population).outcome.mean
    # Every seeker is lost within three replies.
    assert floor.figures["turns"] <= 3
    generic = find("generic", population)
    paired = compare(generic, find(speaker, population), seed=0, samples=500)
    assert paired.difference.low > 0


def test_the_table_shows_every_row(rows: list[Result]) -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table(rows))
    shown = captured.get()
    lines = [line.strip(" │|") for line in shown.splitlines()]
    for row in rows:
        change = row.outcome
        figures = f"{change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]"
        (line,) = [line for line in lines if line.startswith(row.speaker) and figures in line]
        assert f"{row.figures['resolved']:.0%}" in line
    # The ladder first, then the exploits.
    order = [min(i for i, line in enumerate(lines) if line.startswith(name)) for name in (*LADDER, *EXPLOITS)]
    assert order == sorted(order)
    assert all(population in shown for population in POPULATIONS)
