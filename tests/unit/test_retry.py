from __future__ import annotations

import asyncio
from email.utils import formatdate

import pytest

from rapo.models.retry import Breaker, RetryBudget, Timing, backoff, retry_after


class Clock:
    """Time that passes only when someone sleeps."""

    def __init__(self):
        self.seconds = 0.0
        self.timing = Timing(now=lambda: self.seconds, wall=lambda: 1000.0, sleep=self.sleep, dice=lambda: 1.0)

    async def sleep(self, seconds):
        self.seconds += seconds


def nothing():
    pass


def test_the_bound_of_the_backoff_doubles_up_to_half_a_minute():
    timing = Clock().timing
    assert [backoff(n, timing) for n in (1, 2, 3, 4, 50)] == [0.5, 1.0, 2.0, 4.0, 30.0]
    assert backoff(3, Timing(dice=lambda: 0.0)) == 0.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("86400", 60),
        ("nan", 0),
        ("inf", 60),
        ("soon", 0),
        ("Mon, 20 Nov 99999999999999 10:00:00 GMT", 0),
        # 1000 s after the epoch it is 990 s, 1020 s and 2000 s.
        (formatdate(990, usegmt=True), 0),
        (formatdate(1020, usegmt=True), 20),
        (formatdate(2000, usegmt=True), 60),
    ],
)
def test_retry_after_in_seconds_or_as_a_date_up_to_a_minute(header, seconds):
    assert retry_after(header, Clock().timing) == seconds


def test_the_retry_budget_is_a_hundred_and_a_share_of_the_calls():
    budget = RetryBudget()
    for _ in range(10):
        budget.begin()
    # 100 + 0.5 * 10
    assert sum(budget.take(0.5) for _ in range(200)) == 105
    for _ in range(10):
        budget.begin()
    assert sum(budget.take(0.5) for _ in range(200)) == 5


def test_the_breaker_opens_lets_single_probes_through_and_gives_up_after_its_patience():
    async def scenario():
        clock = Clock()
        breaker = Breaker(limit=3, patience=10, timing=clock.timing)
        for _ in range(3):
            assert not breaker.open
            assert await breaker.enter(nothing) is False
            assert breaker.fail(False, 0) is None
        assert breaker.open
        probes, told = [], None
        while told is None:
            assert await breaker.enter(nothing) is True
            probes.append(clock.seconds)
            told = breaker.fail(True, 0)
        # Rests of 0.5, 1, 2, 4 seconds; the next, of 8, is cut to end with the patience.
        assert probes == [0.5, 1.5, 3.5, 7.5, 10.0]
        assert told == 10.0

    asyncio.run(scenario())


def test_one_success_closes_the_breaker():
    async def scenario():
        breaker = Breaker(limit=1, patience=10, timing=Clock().timing)
        breaker.fail(False, 0)
        assert await breaker.enter(nothing) is True
        breaker.succeed(True)
        assert not breaker.open
        assert await breaker.enter(nothing) is False

    asyncio.run(scenario())


def test_only_one_probe_at_a_time_and_the_others_can_be_called_off():
    async def scenario():
        breaker = Breaker(limit=1, patience=10, timing=Clock().timing)
        breaker.fail(False, 0)
        assert await breaker.enter(nothing) is True
        looks = 0

        def check():
            nonlocal looks
            looks += 1
            if looks > 5:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            await breaker.enter(check)

    asyncio.run(scenario())


def test_the_rest_is_as_long_as_the_endpoint_asks():
    async def scenario():
        clock = Clock()
        breaker = Breaker(limit=1, patience=100, timing=clock.timing)
        breaker.fail(False, 20)
        await breaker.enter(nothing)
        assert clock.seconds == 20

    asyncio.run(scenario())
