"""The overview of a run: status, curves with intervals, alarms, phases, calls, versions."""

from __future__ import annotations

import math
from collections import defaultdict

from rapo.alarms import Alarms
from rapo.records import numbers
from rapo.report.reading import Json, RunFiles, trajectory


class Samples:
    """What the intervals of the curves are made of: independent values of each step, by metric."""

    def __init__(self) -> None:
        self._values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, metric: str, step: int, value: float | None) -> None:
        """One value of a step; None is none."""
        if value is not None:
            self._values[metric][step].append(value)

    def intervals(self) -> dict[str, list[tuple[int, float, float]]]:
        """Per metric (step, low, high): the mean's 95% interval by its standard error, where a step has 2 values."""
        return {
            metric: [(step, *_interval(values)) for step, values in sorted(steps.items()) if len(values) > 1]
            for metric, steps in self._values.items()
        }


def _interval(values: list[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = 1.96 * math.sqrt(variance / len(values))
    return mean - half, mean + half


def add_dialogue(samples: Samples, step: int, dialogue: Json) -> None:
    """The change of state over a talk is one value: talks of a step are independent."""
    states = trajectory(dialogue)
    samples.add("state_change", step, states[-1] - states[0] if len(states) > 1 else None)


def add_group(samples: Samples, step: int, group: Json) -> None:
    """Candidates of a group share a context, so that their mean is one value."""
    before, candidates = trajectory(group["pivot"]["dialogue"])[-1], group["candidates"]
    changes = [candidate["reaction"]["state"] - before for candidate in candidates]
    samples.add("candidate_change", step, math.fsum(changes) / len(changes) if changes else None)


def overview(run: RunFiles, samples: Samples) -> Json:
    """Everything of a run that is one number per step or one per run."""
    names = list(dict.fromkeys(name for row in run.metrics for name in row if name != "v"))
    return {
        "name": run.path.resolve().name,
        "status": _status(run),
        "metrics": {name: [row.get(name) for row in run.metrics] for name in names},
        "intervals": samples.intervals(),
        "alarms": _alarms(run.metrics),
        "calls": run.calls,
        "config": run.config.to_yaml(),
        "summary": {key: run.summary.get(key) for key in ("seed", "seconds", "versions", "prompts", "answers")},
    }


def _status(run: RunFiles) -> Json:
    done, steps = len(run.metrics), run.config.train.steps
    state = "finished" if run.summary else "going on" if run.active else "stopped"
    return {"state": state, "done": done, "steps": steps, "seed": run.config.run.seed}


def _alarms(metrics: list[Json]) -> list[tuple[int, str]]:
    """What the run warned of, by the rules it warned by."""
    alarms = Alarms()
    return [(row["step"], text) for row in metrics for text in alarms.check(numbers(row))]
