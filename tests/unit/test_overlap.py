"""Works that take turns, desks that answer in threads or in one call, clocks that stop for one another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from rapo.overlap import Clock, Desk, Overlap, Work, concurrency, ready, then, together


class Gate:
    """Answers "re: QUESTION" once the question has been let through, and knows what came in one call."""

    def __init__(self, *, open_at_once: bool = False) -> None:
        self.calls: list[list[str]] = []
        self.threads = set[str]()
        self.under_way = self.busiest = 0
        self.waited_in_vain = False
        self._lock, self._open, self._passes = threading.Lock(), open_at_once, dict[str, threading.Event]()

    @property
    def asked(self) -> list[str]:
        return [question for call in self.calls for question in call]

    def let(self, *questions: str) -> None:
        for question in questions:
            self._pass(question).set()

    def __call__(self, questions: Sequence[str]) -> list[str]:
        with self._lock:
            self.calls.append(list(questions))
            self.threads.add(threading.current_thread().name)
            self.under_way += 1
            self.busiest = max(self.busiest, self.under_way)
        for question in questions:
            if not self._open and not self._pass(question).wait(10):
                self.waited_in_vain = True
        with self._lock:
            self.under_way -= 1
        if "bad" in questions:
            raise ValueError("bad")
        return [f"re: {question}" for question in questions]

    def _pass(self, question: str) -> threading.Event:
        with self._lock:
            return self._passes.setdefault(question, threading.Event())


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.002)


def asking(desk: Desk[str, str], log: list[str], *rounds: str) -> Work[list[str]]:
    """Asks one question after the other; notes what it has computed."""
    found: list[str] = []
    for question in rounds:
        log.append(question)
        found += yield together(desk.ask([question]))
    return found


def once(desk: Desk[str, Any]) -> Work[list[Any]]:
    return (yield together(desk.ask(["x"])))


def test_works_go_on_in_the_order_of_answers_and_end_in_their_own():
    gate, log = Gate(), list[str]()
    with Overlap() as overlap:
        desk = overlap.desk("ask", gate, 4)
        results = overlap.weave([asking(desk, log, "a1", "a2"), asking(desk, log, "b1", "b2")])
        gate.let("b1", "b2")
        late = threading.Thread(target=lambda: (until(lambda: "b2" in log), gate.let("a1", "a2")))
        late.start()
        assert next(results) == ["re: a1", "re: a2"]
        # b went on while a was waited for.
        assert log == ["a1", "b1", "b2", "a2"]
        assert next(results) == ["re: b1", "re: b2"]
        late.join()


def test_whoever_can_go_on_does_so_before_a_result_is_used():
    gate, log = Gate(), list[str]()
    with Overlap() as overlap:
        desk = overlap.desk("ask", gate, 4)
        results = overlap.weave([asking(desk, log, "a1"), asking(desk, log, "b1"), asking(desk, log, "c1", "c2")])
        gate.let("a1")
        assert next(results) == ["re: a1"]
        gate.let("b1", "c1", "c2")
        until(lambda: overlap._events.qsize() == 2)
        assert next(results) == ["re: b1"]
        assert log[-1] == "c2"
        assert next(results) == ["re: c1", "re: c2"]


def test_a_desk_without_threads_answers_all_in_one_call_and_here():
    gate, log = Gate(open_at_once=True), list[str]()
    with Overlap() as overlap:
        desk = overlap.desk("ask", gate, 0)
        works = [asking(desk, log, "a1", "a2"), asking(desk, log, "b1"), asking(desk, log, "c1", "c2")]
        assert list(overlap.weave(works)) == [["re: a1", "re: a2"], ["re: b1"], ["re: c1", "re: c2"]]
    assert gate.calls == [["a1", "b1", "c1"], ["a2", "c2"]]
    assert gate.threads == {threading.current_thread().name}


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("later", [0, 2])
def test_what_follows_waits_for_its_own_question_or_for_all(threads: int, later: int) -> None:
    first, second = Gate(open_at_once=True), Gate(open_at_once=True)

    def work(overlap: Overlap) -> Work[list[str]]:
        one, two = overlap.desk("one", first, threads), overlap.desk("two", second, later)
        groups = [then(together(one.ask([f"{g}1", f"{g}2"])), "+".join) for g in "abc"]
        found: list[str] = yield together(two.follow(groups))
        return found

    with Overlap() as overlap:
        assert overlap.finish(work(overlap)) == [f"re: re: {g}1+re: {g}2" for g in "abc"]
    assert sorted(first.asked) == ["a1", "a2", "b1", "b2", "c1", "c2"] and len(first.calls) == (6 if threads else 1)
    assert len(second.asked) == 3 and len(second.calls) == (3 if later else 1)


def test_a_call_here_waits_for_all_its_questions_and_holds_nobody_up() -> None:
    gate, log = Gate(), list[str]()

    def following(there: Desk[str, str], here: Desk[str, str]) -> Work[list[str]]:
        return (yield together(here.follow(there.ask(["slow", "fast"]))))

    with Overlap() as overlap:
        there, here = overlap.desk("there", gate, 3), overlap.desk("here", judge := Gate(open_at_once=True), 0)
        gate.let("fast", "b1", "b2")
        late = threading.Thread(target=lambda: (until(lambda: "b2" in log), gate.let("slow")))
        late.start()
        works = overlap.weave([following(there, here), asking(there, log, "b1", "b2")])
        assert list(works) == [["re: re: slow", "re: re: fast"], ["re: b1", "re: b2"]]
        late.join()
    assert judge.calls == [["re: slow", "re: fast"]] and not gate.waited_in_vain


def test_at_most_so_many_threads_ask_at_once_and_the_first_that_came_is_first() -> None:
    gate = Gate()
    with Overlap() as overlap:
        answers = overlap.desk("ask", gate, 2).ask([str(i) for i in range(6)])
        until(lambda: gate.under_way == 2)
        gate.let(*map(str, range(6)))
        assert [answer.result(10) for answer in answers] == [f"re: {i}" for i in range(6)]
    assert gate.busiest == 2 and sorted(gate.calls[:2]) == [["0"], ["1"]]


def test_the_first_error_is_raised_at_once_and_nothing_more_is_asked() -> None:
    gate, other = Gate(), Gate()
    log: list[str] = []
    ended = threading.Event()

    def let_the_rest_end() -> None:
        until(lambda: gate.under_way == 1)
        time.sleep(0.05)
        assert not ended.is_set()
        gate.let("slow")

    with pytest.raises(ValueError, match="bad"), Overlap() as overlap:
        desk, judge = overlap.desk("ask", gate, 2), overlap.desk("judge", other, 2)
        # Nobody waits for the bad one: it is found out all the same.
        slow, _, third = desk.ask(["slow", "bad", "third"])
        followed = judge.follow([slow])
        late = threading.Thread(target=let_the_rest_end)
        late.start()
        gate.let("bad")
        overlap.finish(asking(desk, log, "fourth"))
    # What was under way was waited for.
    ended.set()
    late.join()
    assert slow.result(0) == "re: slow"
    assert sorted(gate.asked) == ["bad", "slow"]
    assert other.calls == [] and not third.done() and not followed[0].done()


def test_an_error_of_a_work_or_a_call_here_is_raised() -> None:
    def failing() -> Work[None]:
        yield ready(None)
        raise KeyError("work")

    with pytest.raises(KeyError, match="work"), Overlap() as overlap:
        overlap.finish(failing())
    with pytest.raises(ValueError, match="bad"), Overlap() as overlap:
        overlap.finish(asking(overlap.desk("ask", Gate(open_at_once=True), 0), [], "bad"))


def test_whoever_interrupts_waits_for_nothing() -> None:
    gate = Gate()
    with pytest.raises(KeyboardInterrupt), Overlap() as overlap:
        overlap.desk("ask", gate, 1).ask(["slow"])
        until(lambda: gate.under_way == 1)
        raise KeyboardInterrupt
    assert gate.under_way == 1 and not gate.waited_in_vain
    gate.let("slow")


def test_a_phase_within_another_stops_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    heard: list[str] = []
    clock = Clock(heard.append)
    with clock.phase("play"):
        now += 1
        with clock.phase("idle"):
            now += 10
        now += 2
        with clock.phase("judge"):
            now += 100
        with clock.phase("play"):
            now += 4
    now += 1000
    with clock.phase("judge"):
        now += 0.5
    # 1 + 2 + 4 of play, 100 + 0.5 of judge; what lies outside belongs to nobody.
    assert clock.seconds == {"idle": 10.0, "play": 7.0, "judge": 100.5}
    assert heard == ["play", "judge", "judge"]


def test_waiting_is_idle_and_asking_here_is_not() -> None:
    clock, gate = Clock(), Gate()
    with Overlap(clock) as overlap, clock.phase("play"):
        there, here = overlap.desk("there", gate, 1), overlap.desk("here", lambda some: [time.sleep(0.1)], 0)
        threading.Timer(0.2, gate.let, ["slow"]).start()
        overlap.finish(asking(there, [], "slow"))
        overlap.finish(once(here))
    assert clock.seconds["idle"] >= 0.15 and clock.seconds["here"] >= 0.1
    assert "there" not in clock.seconds


def test_together_keeps_the_order_and_needs_them_all() -> None:
    futures: list[Future[int]] = [Future() for _ in range(3)]
    whole = together(futures)
    for i in (2, 0, 1):
        assert not whole.done()
        futures[i].set_result(i)
    assert whole.result(0) == [0, 1, 2]
    assert together([]).result(0) == []
    failed: Future[int] = Future()
    failed.set_exception(KeyError("x"))
    assert isinstance(together([ready(1), failed]).exception(0), KeyError)
    assert isinstance(then(failed, str).exception(0), KeyError)


def test_who_says_nothing_is_asked_by_one_thread() -> None:
    class Talkative:
        concurrency = 3

    assert (concurrency(object()), concurrency(Talkative())) == (0, 3)
