"""Computing while others answer: one thread goes on with whatever has come in, and desks ask in threads of their own.

Work is written as a generator: it computes, yields the future it waits for, and is sent its result. Which works take
turns, and when, depends on who answers first. What is computed together does not: that is cut beforehand, so results
are a function of the answers alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
S = TypeVar("S")
T = TypeVar("T")
Work = Generator[Future[Any], Any, T]

IDLE = "idle"


def concurrency(part: object) -> int:
    """How many threads may ask ``part`` at once, as its attribute ``concurrency`` says; 0: one thread, and no other.

    Users, judges and models without that attribute are asked by the thread that computes.
    """
    return int(getattr(part, "concurrency", 0))


class Clock:
    """Seconds by phase of the thread that computes; a phase within another stops the clock of that one.

    Args:
        on_phase: hears the name of each phase but ``idle`` as it begins.
    """

    def __init__(self, on_phase: Callable[[str], None] = lambda phase: None) -> None:
        self.seconds: dict[str, float] = {IDLE: 0.0}
        self._on_phase, self._now, self._since = on_phase, "", 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The time until the end is that of phase ``name``."""
        if name not in (IDLE, self._now):
            self._on_phase(name)
        before = self._switch(name)
        try:
            yield
        finally:
            self._switch(before)

    def _switch(self, name: str) -> str:
        now, before = time.perf_counter(), self._now
        if before:
            self.seconds[before] = self.seconds.get(before, 0.0) + now - self._since
        self._now, self._since = name, now
        return before


class Overlap:
    """Works that take turns in this thread, and the desks whose answers they wait for.

    Use it in a ``with`` statement. Leaving it with an error starts nothing more and waits for what is under way, which
    is paid for; whoever interrupts it (Ctrl-C) waits for nothing.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._here: list[_Here[Any, Any]] = []
        self._pools: list[ThreadPoolExecutor] = []
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._error: BaseException | None = None

    def desk(self, phase: str, answer: Callable[[Sequence[Q]], Sequence[A]], threads: int) -> Desk[Q, A]:
        """A place to ask ``answer``, a function from questions to as many answers.

        Args:
            phase: what the time is booked on where this thread has to ask.
            answer: asked question by question, first come first served, in ``threads`` threads; with 0 by this thread
                once no work can go on, all questions at once.
        """
        if threads:
            self._pools.append(ThreadPoolExecutor(threads, thread_name_prefix=phase))
            return _InThreads(self, answer, self._pools[-1])
        self._here.append(desk := _Here(self, phase, answer))
        return desk

    def weave(self, works: Iterable[Work[T]]) -> Iterator[T]:
        """The result of each work, in order. While one is waited for, any goes on that can.

        Raises:
            Exception: whatever a desk or a work raised, the first of all.
        """
        results: dict[int, T] = {}

        def go_on(place: int, work: Work[T], future: Future[Any] | None = None) -> None:
            try:
                wanted = work.send(None if future is None else future.result())
            except StopIteration as end:
                results[place] = end.value
            else:
                wanted.add_done_callback(lambda done: self.wake(partial(go_on, place, work, done)))

        count = 0
        for count, work in enumerate(works, start=1):
            go_on(count - 1, work)
        for place in range(count):
            # Whoever can ask others to go on comes before whoever consumes a result.
            while place not in results or not self._events.empty():
                self._turn()
            yield results.pop(place)

    def finish(self, work: Work[T]) -> T:
        """The result of one work."""
        (result,) = self.weave([work])
        return result

    def wake(self, event: Callable[[], None] = lambda: None) -> None:
        """Let this thread do something, or look for something to do; from any thread."""
        self._events.put(event)

    def fail(self, error: BaseException) -> None:
        """Let no desk start anything any more, and raise the error here."""
        self._error = self._error or error
        self.wake()

    def check(self) -> None:
        """Raise the first error, if there is one."""
        if self._error is not None:
            raise self._error

    def _turn(self) -> None:
        """Do one thing that can be done; wait for one if need be."""
        while self._events.empty() and (desk := next((desk for desk in self._here if desk.ready), None)):
            desk.serve()
        with self.clock.phase(IDLE):
            event = self._events.get()
        self.check()
        event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self.fail(error)
        for pool in self._pools:
            pool.shutdown(wait=kind is None or issubclass(kind, Exception))


class Desk(Protocol[Q, A]):
    """Where questions are left; the answers are futures."""

    def ask(self, questions: Sequence[Q]) -> list[Future[A]]:
        """One answer per question, in order."""
        ...

    def follow(self, questions: Sequence[Future[Q]]) -> list[Future[A]]:
        """The same for questions that are still to come."""
        ...


class _InThreads(Generic[Q, A]):
    def __init__(
        self, overlap: Overlap, answer: Callable[[Sequence[Q]], Sequence[A]], pool: ThreadPoolExecutor
    ) -> None:
        self._overlap, self._answer, self._pool = overlap, answer, pool

    def ask(self, questions: Sequence[Q]) -> list[Future[A]]:
        return self.follow([ready(question) for question in questions])

    def follow(self, questions: Sequence[Future[Q]]) -> list[Future[A]]:
        self._overlap.check()
        answers: list[Future[A]] = [Future() for _ in questions]
        for question, answer in zip(questions, answers, strict=True):
            question.add_done_callback(partial(self._queue, answer))
        return answers

    def _queue(self, answer: Future[A], question: Future[Q]) -> None:
        # A pool that has been shut down takes nothing more, and nobody waits for it.
        with contextlib.suppress(RuntimeError):
            self._pool.submit(self._serve, question, answer)

    def _serve(self, question: Future[Q], answer: Future[A]) -> None:
        try:
            self._overlap.check()
            (found,) = self._answer([question.result()])
        except BaseException as error:
            self._overlap.fail(error)
        else:
            answer.set_result(found)


class _Here(Generic[Q, A]):
    def __init__(self, overlap: Overlap, phase: str, answer: Callable[[Sequence[Q]], Sequence[A]]) -> None:
        self._overlap, self._phase, self._answer = overlap, phase, answer
        self._waiting: list[tuple[Future[Q], Future[A]]] = []

    def ask(self, questions: Sequence[Q]) -> list[Future[A]]:
        return self.follow([ready(question) for question in questions])

    def follow(self, questions: Sequence[Future[Q]]) -> list[Future[A]]:
        answers: list[Future[A]] = [Future() for _ in questions]
        self._waiting += zip(questions, answers, strict=True)
        together(questions).add_done_callback(lambda _: self._overlap.wake())
        return answers

    @property
    def ready(self) -> bool:
        """Whether there are questions, and none is still to come."""
        return bool(self._waiting) and all(question.done() for question, _ in self._waiting)

    def serve(self) -> None:
        """Answer all questions in one call."""
        waiting, self._waiting = self._waiting, []
        with self._overlap.clock.phase(self._phase):
            found = self._answer([question.result() for question, _ in waiting])
        for (_, answer), each in zip(waiting, found, strict=True):
            answer.set_result(each)


def ready(value: T) -> Future[T]:
    """A future that has come."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


def together(futures: Sequence[Future[T]]) -> Future[list[T]]:
    """All results, in order."""
    whole: Future[list[T]] = Future()

    def look(place: int, _: object = None) -> None:
        for here in range(place, len(futures)):
            if not futures[here].done():
                futures[here].add_done_callback(partial(look, here + 1))
                return
        _settle(whole, lambda: [future.result() for future in futures])

    look(0)
    return whole


def then(future: Future[S], make: Callable[[S], T]) -> Future[T]:
    """What ``make`` makes of a result: something quick, since whoever brings the result has to do it."""
    made: Future[T] = Future()
    future.add_done_callback(lambda done: _settle(made, lambda: make(done.result())))
    return made


def _settle(future: Future[T], make: Callable[[], T]) -> None:
    try:
        result = make()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
