"""The ideal executor that the trainer is measured against, by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from overlap_rulers import MEDIAN, TAIL, Executor, Process, latency


def doing(*acts: tuple[str, float]) -> Process:
    yield from acts


def test_answers_share_slots_and_computing_one_processor() -> None:
    # Slots: 0-2 and 0-3, then 2-3 and 3-7. Computing 1, 2 and 4 in turn ends at 7, less than the answers' 7 + 1.
    executor = Executor(slots=2)
    for seconds in (2.0, 3.0, 1.0):
        executor.start(doing(("answer", seconds)))
    executor.start(doing(("answer", 4.0), ("compute", 1.0)))
    assert executor.run() == 8.0
    executor = Executor(slots=2)
    for seconds in (1.0, 2.0, 4.0):
        executor.start(doing(("compute", seconds)))
    assert executor.run() == 7.0


def test_a_process_waits_for_others_that_it_started_before_or_starts() -> None:
    executor, order = Executor(slots=9), list[str]()

    def one() -> Process:
        yield "answer", 5.0
        order.append("one")

    def two(first: object) -> Process:
        yield "compute", 1.0
        yield "wait", [first, executor.start(doing(("answer", 2.0)))]
        order.append("two")
        yield "wait", [first]
        yield "wait", []
        yield "answer", 3.0

    executor.start(two(executor.start(one())))
    # The second waits from 1 until 5 and is answered from 5 to 8.
    assert executor.run() == 8.0
    assert order == ["one", "two"]


def test_latencies_are_log_normal_and_of_the_request_alone() -> None:
    found = sorted(latency(seed) for seed in range(4000))
    assert latency(7) == latency(7 + 2**31)
    assert found[2000] == pytest.approx(MEDIAN, rel=0.1)
    assert found[3960] == pytest.approx(TAIL, rel=0.3)
