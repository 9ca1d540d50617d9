"""What the runs of the learning study say, in numbers: scores, differences, curves, calls that were needed.

A score is a seeker's change of state over a talk of the final evaluation. Arms meet the same seekers under the same
seed, so differences are taken seeker by seeker. Intervals of scores and differences are Student's t on the means of the
seeds, which spread by seeds and seekers alike: of five seeds a bootstrap of 95% holds some 81%. One seed knows nothing
of other seeds; its interval draws seekers alone and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t

from learning_arms import ARMS
from rapo.evals.stats import (
    Comparison,
    Interval,
    nested_bootstrap,
    nested_paired_bootstrap,
    nested_ratio,
)

SEED = 0  # of the bootstrap
HOME, AWAY = "familiar", "held_out"
VARIETY = ("distinct_2", "most_common_share", "opening_entropy")


@dataclass(frozen=True)
class World:
    """The runs of one world.

    Attributes:
        name: of the world.
        calls: simulator calls of each run.
        runs: by arm, in the order of ``ARMS``, and seed; every arm has at least one.
        probes: points of a learning curve after the first.
    """

    name: str
    calls: int
    runs: Mapping[str, Mapping[int, Mapping[str, Any]]]
    probes: int

    def seeds(self, *arms: str) -> list[int]:
        """The seeds that all of these arms have a run of."""
        return sorted(set.intersection(*(set(self.runs.get(arm, {})) for arm in arms)))

    def score(self, arm: str, population: str) -> Interval:
        """Of the final policy."""
        changes = self._changes(arm, population, self.seeds(arm))
        return nested_bootstrap(changes, seed=SEED) if len(changes) == 1 else student(list(map(fmean, changes)))

    def best(self, arm: str, others: Iterable[str]) -> str:
        """Of an arm and its other settings the one with the highest final score on familiar users: in their favour.

        Of the other settings those count that have the most runs, and seeds that all of them have: one lucky seed is no
        better setting.
        """
        tried = [other for other in others if other in self.runs]
        most = max((len(self.seeds(other)) for other in tried), default=0)
        pool = [arm, *(other for other in tried if len(self.seeds(other)) == most)]
        seeds = self.seeds(*pool)
        return max(pool, key=lambda each: fmean(map(fmean, self._changes(each, HOME, seeds)))) if seeds else arm

    def against(self, a: str, b: str, population: str) -> Comparison:
        """The final score of arm a less that of arm b, on the seeds that both have; wins count seeds."""
        seeds = self.seeds(a, b)
        for seed in seeds:
            if self._final(a, seed, population)["ids"] != self._final(b, seed, population)["ids"]:
                raise ValueError(f"{self.name}, seed {seed}: {a} and {b} met different seekers")
        mine, theirs = (self._changes(arm, population, seeds) for arm in (a, b))
        found = nested_paired_bootstrap(mine, theirs, seed=SEED)
        if len(seeds) == 1:
            return found
        gains = [fmean(x) - fmean(y) for x, y in zip(mine, theirs, strict=True)]
        return replace(found, difference=student(gains))

    def kept(self, arm: str, start: str = "SFT") -> Interval:
        """The gain over the start policy on the held-out population by that on the familiar one."""
        seeds = self.seeds(arm, start)
        gains = [
            [
                [x - y for x, y in zip(*pair, strict=True)]
                for pair in zip(*(self._changes(name, population, seeds) for name in (arm, start)), strict=True)
            ]
            for population in (AWAY, HOME)
        ]
        return nested_ratio(*gains, seed=SEED)

    def figure(self, arm: str, name: str, population: str = HOME) -> Interval:
        """A figure of the final evaluation that belongs to a whole run, such as distinct-2; seeds are drawn."""
        return _mean(self._final(arm, seed, population)[name] for seed in self.seeds(arm))

    def figure_against(self, a: str, b: str, name: str, population: str = HOME) -> Interval:
        """The same figure of arm a less that of arm b, seed by seed."""
        finals = ([self._final(arm, seed, population)[name] for arm in (a, b)] for seed in self.seeds(a, b))
        return _mean(x - y for x, y in finals)

    def total(self, arm: str, name: str) -> Interval:
        """A number of the run itself, such as its processor seconds."""
        return _mean(self.runs[arm][seed][name] for seed in self.seeds(arm))

    def curve(self, arm: str, population: str = HOME) -> list[tuple[float, Interval]]:
        """Calls (mean over seeds) and score at every probe that all runs of the arm have; seeds are drawn."""
        curves = [self.runs[arm][seed]["curve"] for seed in self.seeds(arm)]
        return [
            (fmean(p["calls"] for p in points), _mean(p["scores"][population]["change"] for p in points))
            for points in zip(*curves, strict=False)
        ]

    def logged(self, arm: str, name: str) -> list[tuple[float, Interval]]:
        """A training metric over the calls, averaged between two probes of a run; seeds are drawn."""
        points = []
        for part in range(self.probes):
            low, high = part * self.calls / self.probes, (part + 1) * self.calls / self.probes
            found = [self._between(arm, seed, name, low, high) for seed in self.seeds(arm)]
            known = [value for value in found if value is not None]
            if known:
                points.append(((low + high) / 2, _mean(known)))
        return points

    def reached(self, arm: str, rival: str, goal: Callable[[Sequence[float]], float]) -> dict[int, float | None]:
        """By seed, the calls at the first probe at which an arm is as good as the rival; None where it never is.

        Args:
            arm: whose calls.
            rival: whose curve the goal is.
            goal: of the rival's scores at its probes; the seekers are the same ones.
        """
        found = {}
        for seed in self.seeds(arm, rival):
            target = goal([p["scores"][HOME]["change"] for p in self.runs[rival][seed]["curve"]])
            hits = (p["calls"] for p in self.runs[arm][seed]["curve"] if p["scores"][HOME]["change"] >= target)
            found[seed] = next(hits, None)
        return found

    def at_time_of(self, arm: str, rival: str) -> Interval:
        """An arm's score when it had used the rival's processor seconds: at its last probe before, familiar seekers."""
        scores = []
        for seed in self.seeds(arm, rival):
            mine, theirs = self.runs[arm][seed], self.runs[rival][seed]
            calls = mine["used"] * theirs["processor_seconds"] / mine["processor_seconds"]
            scores.append([p["scores"][HOME]["change"] for p in mine["curve"] if p["calls"] <= calls][-1])
        return _mean(scores)

    def _between(self, arm: str, seed: int, name: str, low: float, high: float) -> float | None:
        steps = self.runs[arm][seed]["steps"]
        values = [s[name] for s in steps if low < s["calls"] <= high and s.get(name) is not None]
        return fmean(values) if values else None

    def _changes(self, arm: str, population: str, seeds: Iterable[int]) -> list[list[float]]:
        return [self._final(arm, seed, population)["changes"] for seed in seeds]

    def _final(self, arm: str, seed: int, population: str) -> Any:
        return self.runs[arm][seed]["final"][population]


def student(means: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of two or more seeds' means with Student's t interval, K - 1 degrees of freedom."""
    margin = float(t.ppf((1 + level) / 2, len(means) - 1)) * stdev(means) / len(means) ** 0.5
    return Interval(fmean(means), fmean(means) - margin, fmean(means) + margin)


def worlds_of(
    rows: Iterable[Mapping[str, Any]], calls: Mapping[str, int], changes: Sequence[str], probes: int
) -> list[World]:
    """The worlds that have runs of this many calls under these config changes; of equal runs the last one counts."""
    kept = [row for row in rows if row["calls"] == calls.get(row["world"]) and row["changes"] == list(changes)]
    worlds = []
    for name, wanted in calls.items():
        runs = {arm: {r["seed"]: r for r in kept if (r["world"], r["arm"]) == (name, arm)} for arm in ARMS}
        present = {arm: seeds for arm, seeds in runs.items() if seeds}
        if present:
            worlds.append(World(name, wanted, present, probes))
    return worlds


def _mean(values: Iterable[float]) -> Interval:
    return nested_bootstrap([[value] for value in values], seed=SEED)
