"""When to try again: backoff, the retry budget, and the breaker that gives a failing endpoint a rest."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Self

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
# Limits per minute are the usual ones; an endpoint that asks for hours has run out of quota, and waiting is no help.
LONGEST_RETRY_AFTER = 60.0
FREE_RETRIES = 100
_SLICE = 0.25


@dataclass(frozen=True, slots=True)
class Timing:
    """The clock, the sleep and the dice, so that tests can bring their own.

    Attributes:
        now: seconds on a clock that never goes back.
        wall: seconds since the epoch, for dates a server names.
        sleep: waits for some seconds.
        dice: a number in [0, 1).
    """

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    dice: Callable[[], float] = random.random

    async def rest(self, seconds: float, check: Callable[[], None]) -> None:
        """Sleep in short slices; ``check`` is called between them and may raise."""
        end = self.now() + seconds
        check()
        while (left := end - self.now()) > 0:
            await self.sleep(min(left, _SLICE))
            check()


def backoff(failures: int, timing: Timing) -> float:
    """Seconds to wait after a call's ``failures``-th failure: anything up to a bound that doubles ("full jitter")."""
    return timing.dice() * min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 10))


def retry_after(value: str | None, timing: Timing) -> float:
    """Seconds a ``Retry-After`` header asks for (a number or an HTTP date), within 0-60; 0 where it says nothing."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - timing.wall()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if seconds == seconds else 0.0


class RetryBudget:
    """How many retries all calls of a run may cost together: 100, and some for each call; for any thread."""

    def __init__(self) -> None:
        self._lock, self._calls, self._retries = threading.Lock(), 0, 0

    def begin(self) -> None:
        """Count one more call."""
        with self._lock:
            self._calls += 1

    def take(self, per_call: float) -> bool:
        """Whether one more retry is within the budget of ``per_call`` retries per call; it is counted if so."""
        with self._lock:
            if self._retries >= FREE_RETRIES + per_call * self._calls:
                return False
            self._retries += 1
            return True


class Stop:
    """Why no attempt may start any more: the first error of the calls that are under way at the same time.

    Calls enter it, from any thread. When all have left, it is forgotten: whoever asks then may try again.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        with self._lock:
            self._inside += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._error = None

    def order(self, error: Exception) -> None:
        """Let nothing start any more; the first error counts."""
        with self._lock:
            self._error = self._error or error

    def check(self) -> None:
        """Raise the error, if there is one."""
        if (error := self._error) is not None:
            raise error


class Breaker:
    """Open after ``limit`` failures in a row: then one attempt at a time, after rests that grow, until one succeeds.

    Args:
        limit: failures in a row that open it.
        patience: seconds it may stay open.
        timing: the clock.
    """

    def __init__(self, limit: int, patience: float, timing: Timing) -> None:
        self._limit, self._patience, self._timing = limit, patience, timing
        self._failures = 0
        self._opened: float | None = None
        self._next = 0.0
        self._rest = FIRST_WAIT
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether the endpoint counts as down."""
        return self._opened is not None

    async def enter(self, check: Callable[[], None]) -> bool:
        """Wait until an attempt may be made; True when it is the single probe. ``check`` may end the wait."""
        while self._opened is not None:
            if not self._probing and self._timing.now() >= self._next:
                self._probing = True
                return True
            wait = _SLICE if self._probing else self._next - self._timing.now()
            await self._timing.rest(min(wait, _SLICE), check)
        check()
        return False

    def leave(self, probe: bool) -> None:
        """The attempt ended without telling anything about the endpoint."""
        self._probing = self._probing and not probe

    def succeed(self, probe: bool) -> None:
        """The endpoint answered."""
        self.leave(probe)
        self._failures, self._opened, self._rest = 0, None, FIRST_WAIT

    def fail(self, probe: bool, asked_for: float, *, absent: bool = False) -> float | None:
        """An attempt failed and the endpoint asked for a rest of ``asked_for`` seconds; ``absent``: nobody was there.

        Returns:
            The seconds it has been down, once they exceed the patience and a probe has failed too; else None.
        """
        self.leave(probe)
        self._failures += 1
        now = self._timing.now()
        if self._opened is None:
            # Where nobody listens, no request can be to blame.
            if self._failures < self._limit and not absent:
                return None
            self._opened = now
        elif not probe:
            return None
        elif now - self._opened >= self._patience:
            return now - self._opened
        else:
            self._rest = min(2 * self._rest, LONGEST_WAIT)
        # The last probe falls on the end of the patience: a longer rest would only delay the verdict.
        self._next = min(now + max(self._rest, asked_for), self._opened + self._patience)
        return None
