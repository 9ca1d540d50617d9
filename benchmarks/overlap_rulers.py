"""Rulers of the benchmark ``overlap``: how fast an ideal executor would do a step, simulated event by event."""

from __future__ import annotations

import heapq
import math
import statistics
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Any

from rapo.config import RunConfig
from rapo.seeds import derive_seed
from rapo.trainer import BATCH, Step
from rapo.types import Group

MEDIAN, TAIL = 0.3, 3.0  # seconds; the tail is the 99th percentile
SPREAD = math.log(TAIL / MEDIAN) / statistics.NormalDist().inv_cdf(0.99)
TURNS, CANDIDATES = 3, 8


def latency(seed: int) -> float:
    """Seconds that the request with this seed takes."""
    digest = blake2b(str(seed & 0x7FFFFFFF).encode(), digest_size=8).digest()
    return MEDIAN * math.exp(SPREAD * statistics.NormalDist().inv_cdf((int.from_bytes(digest) + 0.5) / 2**64))


@dataclass(frozen=True)
class Local:
    """Seconds of computing: per reply in play, in branches and of corrections, and per group in the update."""

    play: float
    branch: float
    correct: float
    update: float

    @classmethod
    def of(cls, step: Step, asking: Sequence[float]) -> Local:
        """From a step in phases in which nobody was waited for, less the seconds of its ``asking``, call by call."""
        m = step.metrics
        return cls(
            (m["seconds_play"] - sum(asking[:TURNS])) / sum(len(d.turns) for d in step.dialogues),
            (m["seconds_branch"] - asking[TURNS]) / (len(step.groups) * CANDIDATES),
            (m["seconds_correct"] - sum(asking[TURNS + 1 :])) / max(1.0, m["corrections"]),
            m["seconds_update"] / len(step.groups),
        )

    def total(self, step: Step) -> float:
        """Seconds of the whole step."""
        replies = sum(len(d.turns) for d in step.dialogues)
        branch = self.branch * CANDIDATES + self.update
        return self.play * replies + branch * len(step.groups) + self.correct * step.metrics["corrections"]


# What a process does next: be answered (seconds), compute (seconds), or wait for processes.
Process = Generator[tuple[str, Any], None, None]


class Executor:
    """Runs processes on a clock of its own: answers take a slot, computing takes the processor, first come first."""

    def __init__(self, slots: int) -> None:
        self.now = 0.0
        self._free = {"answer": slots, "compute": 1}
        self._queues: dict[str, deque[tuple[float, _Task]]] = {name: deque() for name in self._free}
        self._events: list[tuple[float, int, _Task, str]] = []
        self._number = count()

    def start(self, process: Process) -> _Task:
        """Start a process."""
        self._go_on(task := _Task(process))
        return task

    def run(self) -> float:
        """Seconds until nothing is left."""
        while self._events:
            self.now, _, task, kind = heapq.heappop(self._events)
            self._free[kind] += 1
            self._serve(kind)
            self._go_on(task)
        return self.now

    def _go_on(self, task: _Task) -> None:
        try:
            kind, what = next(task.process)
        except StopIteration:
            task.done = True
            for other in task.followers:
                other.awaited -= 1
                if not other.awaited:
                    self._go_on(other)
            return
        if kind == "wait":
            some = [other for other in what if not other.done]
            task.awaited = len(some)
            for other in some:
                other.followers.append(task)
            if not some:
                self._go_on(task)
        else:
            self._queues[kind].append((what, task))
            self._serve(kind)

    def _serve(self, kind: str) -> None:
        while self._free[kind] and self._queues[kind]:
            seconds, task = self._queues[kind].popleft()
            self._free[kind] -= 1
            heapq.heappush(self._events, (self.now + seconds, next(self._number), task, kind))


@dataclass(eq=False)
class _Task:
    process: Process
    done: bool = False
    awaited: int = 0
    followers: list[_Task] = field(default_factory=list)


class Graph:
    """What of a step depends on what: the latencies of its requests, and its computing."""

    def __init__(self, config: RunConfig, step: Step, local: Local) -> None:
        self.config, self.step, self.local = config, step, local
        self.seed = derive_seed(config.run.seed, "step", step.number)
        self.plays = [
            [self._echo(self.seed, dialogue.scenario.id, turn) for turn in range(len(dialogue.turns))]
            for dialogue in step.dialogues
        ]
        self.echoes = [[self._echo(*self._at(group), i) for i in range(CANDIDATES)] for group in step.groups]
        self.judges = [latency(derive_seed(derive_seed(*self._at(group), 0), "judge")) for group in step.groups]
        self.checks = [
            [
                self._echo(self.seed, "verify", *self._at(group)[1:], each.candidate)
                for each in group.corrections
                if each.reaction is not None
            ]
            for group in step.groups
        ]

    @property
    def latencies(self) -> list[float]:
        """Of every request."""
        echoes = [echo for some in (self.plays, self.echoes, self.checks) for each in some for echo in each]
        return [seconds for echo in echoes for seconds in echo] + self.judges

    def free(self) -> float:
        """Makespan where every reply and every group goes on by itself."""
        return self._run([[i] for i in range(len(self.plays))], 1, 1)

    def in_parts(self) -> float:
        """Makespan where the replies of a part are sampled together, for as long as the part takes in all."""
        size, numbers = self.config.run.cohort, range(len(self.plays))
        cohorts = [list(numbers[i : i + size]) for i in range(0, len(numbers), size)]
        return self._run(cohorts, BATCH // CANDIDATES, max(1, size // self.config.correct.per_group))

    def bound(self) -> float:
        """What no order can beat."""
        local, slots = self.local, self.config.models["fake"].concurrency
        play = max(sum(local.play + sum(echo) for echo in turns) for turns in self.plays)
        chains = [
            local.branch * CANDIDATES
            + max(map(sum, self.echoes[g]))
            + self.judges[g]
            + local.correct * len(group.corrections)
            + max(map(sum, self.checks[g]), default=0.0)
            for g, group in enumerate(self.step.groups)
        ]
        longest = play + max(chains) + local.update
        return max(longest, sum(self.latencies) / slots, local.total(self.step))

    def _run(self, cohorts: list[list[int]], branch: int, correct: int) -> float:
        executor = Executor(self.config.models["fake"].concurrency)
        executor.start(self._all(executor, cohorts, branch, correct))
        return executor.run()

    def _all(self, executor: Executor, cohorts: list[list[int]], branch: int, correct: int) -> Process:
        yield "wait", [executor.start(self._play(executor, cohort)) for cohort in cohorts]
        groups = list(range(len(self.echoes)))
        judged: list[_Task] = []
        for some in (groups[i : i + branch] for i in range(0, len(groups), branch)):
            yield "compute", self.local.branch * CANDIDATES * len(some)
            judged += [executor.start(self._judge(executor, g)) for g in some]
        before: list[_Task] = []
        for some in (groups[i : i + correct] for i in range(0, len(groups), correct)):
            before = [executor.start(self._learn(executor, some, [judged[g] for g in some], before))]
        yield "wait", before

    def _play(self, executor: Executor, cohort: list[int]) -> Process:
        for turn in range(TURNS):
            live = [i for i in cohort if turn < len(self.plays[i])]
            yield "compute", self.local.play * len(live)
            yield "wait", [executor.start(self._asked(self.plays[i][turn])) for i in live]

    def _judge(self, executor: Executor, g: int) -> Process:
        yield "wait", [executor.start(self._asked(echo)) for echo in self.echoes[g]]
        yield "answer", self.judges[g]

    def _learn(self, executor: Executor, groups: list[int], judged: list[_Task], before: list[_Task]) -> Process:
        yield "wait", judged
        yield "compute", self.local.correct * sum(len(self.step.groups[g].corrections) for g in groups)
        yield "wait", [executor.start(self._asked(echo)) for g in groups for echo in self.checks[g]]
        yield "wait", before
        yield "compute", self.local.update * len(groups)

    def _asked(self, echo: Sequence[float]) -> Process:
        # Both calls in a row: a reaction that is begun comes before one that is not.
        yield "answer", sum(echo)

    def _at(self, group: Group) -> tuple[int, str, int]:
        dialogue = group.pivot.dialogue
        return self.seed, dialogue.scenario.id, len(dialogue.turns)

    def _echo(self, *key: int | str) -> tuple[float, float]:
        """Latencies of weighing and of speaking."""
        seed = derive_seed(*key)
        return latency(derive_seed(seed, "appraise")), latency(derive_seed(seed, "speak"))
