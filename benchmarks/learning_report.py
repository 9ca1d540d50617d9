"""The learning study as markdown tables, JSON and plots; ``learning.py --report`` prints it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from learning_arms import MAIN, SWEEPS
from learning_figures import AWAY, HOME, VARIETY, World
from rapo.evals.stats import Comparison, Interval

OURS, RIVAL, START = "RAPO", "GRPO", "SFT"
PARTS = {  # what RAPO has that an arm has not
    "critiques, learnt from": "GRPO and replay",
    "ranks, learnt from": "distillation, corrections",
    "turns chosen in hindsight": "RAPO, random turns",
    "setbacks, not the largest changes": "RAPO, largest changes",
    "echoes before the judge": "RAPO, no echoes",
    "a quarter of the corrections verified, not all": "RAPO, all verified",
}
BEST = f"{RIVAL}, best settings found"
SUMMARY = (START, RIVAL, BEST, "GRPO and replay", "distillation, own tokens", "distillation, corrections", OURS)
EMPTY = "No runs yet."
BLOCK = re.compile(r"(<!-- study: ([\w-]+) -->\n).*?(<!-- /study -->)", re.DOTALL)


@dataclass(frozen=True)
class Goal:
    """Something the study was to show.

    Attributes:
        what: the goal.
        found: the figure it is judged by.
        met: whether it was shown.
        seeds: how many runs of either side say so.
    """

    what: str
    found: str
    met: bool
    seeds: int


def goals(world: World) -> Iterator[Goal]:
    """The goals of a world whose arms are there, one by one; the rival also at the best settings found for it."""
    rivals = dict.fromkeys((RIVAL, world.best(RIVAL, SWEEPS["rival"])))
    for better, worse in (*((OURS, rival) for rival in rivals), (RIVAL, START)):
        yield from _order(world, better, worse)
    for rival in rivals:
        yield from _sooner(world, rival)
    if world.seeds(OURS, START):
        yield from _variety_kept(world)
        kept = world.kept(OURS)
        what = "80% of the gain kept on the held-out population"
        yield Goal(what, percent(kept), kept.mean >= 0.8, len(world.seeds(OURS, START)))


def _order(world: World, better: str, worse: str) -> Iterator[Goal]:
    for population in (HOME, AWAY) if world.seeds(better, worse) else ():
        found = world.against(better, worse, population)
        what = f"{better} > {worse}, {_words(population)}: interval of the difference above 0"
        yield Goal(what, difference(found), found.difference.low > 0, len(world.seeds(better, worse)))


def _sooner(world: World, rival: str) -> Iterator[Goal]:
    if not world.seeds(OURS, rival):
        return
    calls, own = (world.reached(arm, rival, lambda scores: scores[-1]) for arm in (OURS, rival))
    most = max(float("inf") if needed is None else needed / world.calls for needed in calls.values())
    found = f"at most {most:.2f} of the calls" if most < float("inf") else "not reached in every seed"
    # A rival that soon stands still has its final score early: it is told where the rival itself was first as good.
    found += f"; {rival} itself at {' '.join(f'{(own[seed] or world.calls) / world.calls:.2f}' for seed in calls)}"
    for name, limit in (("1/2", 1 / 2), ("1/3 (the aim)", 1 / 3)):
        what = f"{rival}: its final score at no more than {name} of its calls, in every seed"
        yield Goal(what, found, most <= limit, len(calls))


def _variety_kept(world: World) -> Iterator[Goal]:
    for name in VARIETY:
        less = world.figure_against(OURS, START, name)
        values = f"{world.figure(OURS, name).mean:.3f}, {START} {world.figure(START, name).mean:.3f}"
        found = f"{values}: {less.mean:+.3f} ({less.low:+.3f} .. {less.high:+.3f})"
        met = less.mean <= 0 if name == "most_common_share" else less.mean >= 0
        yield Goal(f"variety not below {START}: {_words(name)}", found, met, len(world.seeds(OURS, START)))


def blocks(worlds: Sequence[World]) -> dict[str, str]:
    """The generated parts of the documents by name; each is of one world, so that one can be done again alone."""
    tables: dict[str, Callable[[World], str]] = {
        "runs": _runs,
        "goals": _goals,
        "score": _score,
        "parts": _parts,
        "calls": _reached,
        "variety": _variety,
        "compute": _compute,
        "sweeps": _sweeps,
        "summary": _summary,
    }
    return {f"{name}-{world.name}": make(world) for name, make in tables.items() for world in worlds}


def fill(text: str, parts: dict[str, str]) -> str:
    """A document with its generated parts put between their markers, ``<!-- study: NAME -->`` and ``<!-- /study -->``.

    What stands between other markers stays. Raises ValueError when the document has none of these.
    """
    if not any(name in parts for _, name, _ in BLOCK.findall(text)):
        raise ValueError("the document has no marker like <!-- study: goals-support --> ... <!-- /study -->")
    return BLOCK.sub(lambda m: m[1] + parts[m[2]] + "\n" + m[3] if m[2] in parts else m[0], text)


def write_json(path: Path, worlds: Sequence[World]) -> None:
    """Every figure of the tables and curves."""
    found = {
        world.name: {
            "calls": world.calls,
            "goals": [asdict(goal) for goal in goals(world)],
            "arms": {arm: _record(world, arm) for arm in world.runs},
        }
        for world in worlds
    }
    path.write_text(json.dumps({"v": 1, "worlds": found}, indent=1) + "\n", encoding="utf-8")


def _record(world: World, arm: str) -> dict[str, object]:
    populations = (HOME, AWAY)
    return {
        "seeds": world.seeds(arm),
        "score": {population: asdict(world.score(arm, population)) for population in populations},
        "variety": {name: asdict(world.figure(arm, name)) for name in VARIETY},
        "seconds": asdict(world.total(arm, "seconds")),
        "processor_seconds": asdict(world.total(arm, "processor_seconds")),
        "curve": {p: [[calls, *_bounds(score)] for calls, score in world.curve(arm, p)] for p in populations},
        "teacher_lift": [[calls, *_bounds(lift)] for calls, lift in world.logged(arm, "teacher_lift")],
        "lift_by_chance": [[calls, *_bounds(lift)] for calls, lift in world.logged(arm, "lift_by_chance")],
        **({"over_start": asdict(world.against(arm, START, HOME))} if world.seeds(arm, START) else {}),
        **({"under_ours": asdict(world.against(OURS, arm, HOME))} if world.seeds(arm, OURS) else {}),
    }


def _runs(world: World) -> str:
    counts = {arm: len(world.seeds(arm)) for arm in world.runs}
    main = sorted({counts.get(arm, 0) for arm in MAIN})
    seeds = f"{main[0]}" if len(main) == 1 else f"{main[0]} to {main[-1]}"
    swept = sum(count for arm, count in counts.items() if arm not in MAIN)
    line = f"{seeds} seeds of each of {len(MAIN)} arms, {world.calls:,} simulator calls per run"
    return line + (f"; {swept} runs of sweeps." if swept else ".")


def _goals(world: World) -> str:
    rows = [(goal.what, goal.found, str(goal.seeds), _word(goal)) for goal in goals(world)]
    return table(("goal", "found", "seeds", ""), rows)


def _word(goal: Goal) -> str:
    if goal.seeds < 2:
        return "one seed"
    return "met" if goal.met else "**not met**"


def _parts(world: World) -> str:
    def cell(arm: str, population: str) -> str:
        found = world.against(OURS, arm, population)
        return f"{difference(found)}: {_verdict(found.difference, len(world.seeds(OURS, arm)))}"

    rows = [
        (part, arm, *(cell(arm, population) for population in (HOME, AWAY)))
        for part, arm in PARTS.items()
        if world.seeds(OURS, arm)
    ]
    return table((f"what {OURS} has", "left out in", _words(HOME), _words(AWAY)), rows)


def _verdict(value: Interval, seeds: int) -> str:
    if seeds < 2:
        return "one seed"
    return "helps" if value.low > 0 else "hurts" if value.high < 0 else "cannot be told"


def _score(world: World) -> str:
    def row(arm: str) -> list[str]:
        cells = [arm, *(interval(world.score(arm, population)) for population in (HOME, AWAY))]
        cells.append(f"{world.figure(arm, 'resolved').mean:.0%}")
        return [*cells, "" if arm == START or not world.seeds(arm, START) else percent(world.kept(arm))]

    head = ("arm", "familiar", "held out", "resolved", "gain kept on held out")
    return _arms(world, head, MAIN, row)


def _reached(world: World) -> str:
    if RIVAL not in world.runs:
        return EMPTY
    best = world.best(RIVAL, SWEEPS["rival"])

    def row(arm: str) -> list[str]:
        cells = [arm, _reaches(world, arm, RIVAL, lambda scores: scores[-1]), _reaches(world, arm, RIVAL, max)]
        return cells if best == RIVAL else [*cells, _reaches(world, arm, best, lambda scores: scores[-1])]

    head = ["arm", f"to {RIVAL}'s final score", f"to {RIVAL}'s best probe"]
    head += [] if best == RIVAL else [f"to the final score of {best}"]
    return _arms(world, head, [arm for arm in (*MAIN, *([best] if best != RIVAL else [])) if arm != START], row)


def _reaches(world: World, arm: str, rival: str, goal: Callable[[Sequence[float]], float]) -> str:
    found = world.reached(arm, rival, goal) if world.seeds(arm, rival) else {}
    return ", ".join(f"{calls:,.0f}" if calls is not None else f"> {world.calls:,}" for calls in found.values())


def _variety(world: World) -> str:
    def row(arm: str) -> list[str]:
        cells = [arm]
        for name in VARIETY:
            less = f" ({world.figure_against(arm, START, name).mean:+.3f})" if world.seeds(arm, START) else ""
            cells.append(f"{world.figure(arm, name).mean:.3f}" + less * (arm != START))
        return [*cells, f"{world.figure(arm, 'turns').mean:.1f}"]

    head = ("arm (less the start policy)", "distinct-2", "most common reply", "bits in the opening", "replies per talk")
    return _arms(world, head, MAIN, row)


def _compute(world: World) -> str:
    def row(arm: str) -> list[str]:
        processor, used = (world.total(arm, name).mean for name in ("processor_seconds", "used"))
        early = interval(world.at_time_of(arm, RIVAL)) if world.seeds(arm, RIVAL) else ""
        return [arm, f"{used:,.0f}", f"{processor:.0f}", f"{1000 * processor / used:.1f}", early]

    head = ("arm", "calls", "processor seconds", "per 1,000 calls", f"score in {RIVAL}'s processor seconds")
    return _arms(world, head, [arm for arm in MAIN if arm != START], row)


def _sweeps(world: World) -> str:
    rows = []
    for sweep, arms in SWEEPS.items():
        for arm in arms:
            if world.seeds(arm, OURS):
                less = difference(world.against(arm, OURS, HOME)), difference(world.against(arm, OURS, AWAY))
                variety = f"{world.figure(arm, 'distinct_2').mean:.3f}"
                rows.append((sweep, arm, f"{world.score(arm, HOME).mean:+.2f}", *less, variety))
    head = ("sweep", "arm", "familiar", f"less {OURS} (in seeds)", f"held out, less {OURS}", "distinct-2")
    return table(head, rows) if rows else EMPTY


def _summary(world: World) -> str:
    best = world.best(RIVAL, SWEEPS["rival"]) if any(other in world.runs for other in SWEEPS["rival"]) else None
    rows = []
    for name in SUMMARY:
        arm = best if name == BEST else name
        scores = [interval(world.score(arm, p)) if arm in world.runs else "not searched" for p in (HOME, AWAY)]
        rows.append((f"**{name}**" if name == OURS else name, *scores))
    return table(("", _words(HOME), _words(AWAY)), rows)


def _arms(world: World, head: Sequence[str], arms: Iterable[str], row: Callable[[str], list[str]]) -> str:
    return table(head, [row(arm) for arm in arms if arm in world.runs])


def _words(name: str) -> str:
    return {"most_common_share": "most common reply", "opening_entropy": "bits in the opening"}.get(
        name, name.replace("distinct_", "distinct-").replace("_", " ")
    )


def _bounds(value: Interval) -> tuple[float, float, float]:
    return value.mean, value.low, value.high


def interval(value: Interval) -> str:
    """A score with its bounds."""
    return f"{value.mean:+.2f} ({value.low:+.2f} .. {value.high:+.2f})"


def difference(value: Comparison) -> str:
    """A difference with its bounds, and in how many seeds it is above zero."""
    return f"{interval(value.difference)}, {value.wins}/{value.wins + value.ties + value.losses}"


def percent(value: Interval) -> str:
    """A share with its bounds."""
    return f"{value.mean:.0%} ({value.low:.0%} .. {value.high:.0%})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    if any(len(line) != len(head) for line in lines):
        raise ValueError(f"a line of the table has not {len(head)} cells like its head: {head}")
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
