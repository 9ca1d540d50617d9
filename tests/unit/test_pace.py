"""An endpoint that is asked too fast is asked more slowly: that costs no call its answer."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest

from fast_endpoint import connect, good, requests, rows, texts
from fault_server import FaultServer, always
from rapo.config.sections import Calls
from rapo.errors import EndpointError
from rapo.models.chat import ask
from rapo.models.pace import Pace
from rapo.models.retry import Timing


class Clock:
    """Time that passes only when someone sleeps."""

    def __init__(self):
        self.seconds = 0.0
        self.timing = Timing(now=lambda: self.seconds, sleep=self.sleep, dice=lambda: 1.0)

    async def sleep(self, seconds):
        self.seconds += seconds
        await asyncio.sleep(0)


def nothing():
    pass


async def most_at_once(pace, wanted=20):
    """How many of ``wanted`` turns may be taken at the same time."""
    inside, release = Counter(), asyncio.Event()

    async def take():
        async with pace.turn(nothing):
            inside["now"] += 1
            await release.wait()

    tasks = [asyncio.create_task(take()) for _ in range(wanted)]
    for _ in range(1000):
        await asyncio.sleep(0)
    found = inside["now"]
    release.set()
    await asyncio.gather(*tasks)
    return found


def test_nobody_has_a_turn_before_the_endpoint_wants_it():
    async def scenario():
        clock = Clock()
        pace = Pace(8, 300, clock.timing)
        assert pace.slow_down(0.0, 7.0) is None
        async with pace.turn(nothing):
            assert clock.seconds == 7.0
        # Where it says nothing the rest doubles until it lets somebody through: 0.5 s, then these, then 0.5 s again.
        for rest in (1.0, 2.0):
            began = clock.seconds
            pace.slow_down(began, 0.0)
            async with pace.turn(nothing):
                assert clock.seconds == pytest.approx(began + rest)
        pace.speed_up()
        began = clock.seconds
        pace.slow_down(began, 0.0)
        async with pace.turn(nothing):
            assert clock.seconds == pytest.approx(began + 0.5)

    asyncio.run(scenario())


def test_turns_at_once_are_halved_and_come_back_one_by_one():
    async def scenario():
        clock = Clock()
        pace = Pace(8, 300, clock.timing)
        assert await most_at_once(pace) == 8
        pace.slow_down(0.0, 1.0)
        # Those that were under way then say the same again.
        pace.slow_down(0.0, 1.0)
        assert await most_at_once(pace) == 4
        for _ in range(5):  # 4 + 1/4 + 1/4.25 + ... is 4.9 after 4 answers and 5.1 after 5
            pace.speed_up()
        assert await most_at_once(pace) == 5
        for began in range(10, 20):
            pace.slow_down(float(began), 0.0)
        assert await most_at_once(pace) == 1
        for _ in range(100):
            pace.speed_up()
        assert await most_at_once(pace) == 8

    asyncio.run(scenario())


def test_of_those_who_were_refused_as_many_keep_their_turns_as_fit():
    async def scenario():
        clock = Clock()
        pace, kept = Pace(8, 300, clock.timing), []

        async def refused():
            async with pace.turn(nothing):
                await asyncio.sleep(0)  # all have begun
                pace.slow_down(0.0, 3.0)
                kept.append((await pace.keeps(nothing), clock.seconds >= 3.0))

        await asyncio.gather(*[refused() for _ in range(8)])
        # Eight are halved once: four give their turns back at once, and four try again after the rest.
        assert sorted(kept) == [(False, False)] * 4 + [(True, True)] * 4

    asyncio.run(scenario())


def test_its_patience_is_counted_from_the_last_answer():
    clock = Clock()
    pace = Pace(8, 10, clock.timing)
    for seconds in (0.0, 9.0, 10.0):
        clock.seconds = seconds
        assert pace.slow_down(seconds, 1.0) == (10.0 if seconds == 10.0 else None)
    for seconds in (20.0, 29.0, 38.0):
        clock.seconds = seconds
        pace.speed_up()
        assert pace.slow_down(seconds, 1.0) is None


def test_the_last_rest_ends_with_the_patience():
    async def scenario():
        clock = Clock()
        pace = Pace(8, 10, clock.timing)
        pace.slow_down(0.0, 60.0)
        async with pace.turn(nothing):
            return clock.seconds

    assert asyncio.run(scenario()) == 10.0


@pytest.mark.parametrize("fault", ["429", "429-after"])
def test_a_rate_limit_costs_no_answer(tmp_path, fault):
    # Calls may not fail even once, and the run may not try again more than a hundred times.
    hits = itertools.count()
    with FaultServer(faults=lambda *_: None if next(hits) % 2 else fault, retry_after=0.2) as server:
        model, told = connect(tmp_path, server.url, Calls(retries=0.0), attempts=1, concurrency=16)
        assert texts(ask(model, requests(110))) == good(110)
        assert (server.count, server.fault_counts[fault]) == (220, 110)
        assert len([text for text in told if "asked more slowly" in text]) == 1


def test_a_limit_for_ever_ends_the_run_and_loses_nothing(tmp_path):
    with FaultServer(faults=always("429-after"), retry_after=4.0) as server:
        model, _ = connect(tmp_path, server.url, Calls(breaker=2, patience=15), attempts=1, concurrency=4)
        words = r"models.helper at http.* has let no call through for \d+ s; got 429 .*calls.patience.* rapo resume"
        with pytest.raises(EndpointError, match=words):
            ask(model, requests(6))
        assert rows(tmp_path, "SELECT count(*) FROM answers") == [(0,)]
        # Four come at once; after rests of 4, 4, 4 and 3 s not many at a time.
        assert server.count <= 4 + 2 * 4
        server.faults = lambda *_: None
        assert texts(ask(model, requests(6))) == good(6)
