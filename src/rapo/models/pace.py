"""How fast an endpoint may be asked that says when it is asked too fast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rapo.models.retry import Timing, backoff


class Pace:
    """Turns at an endpoint: after "too fast" none for a while and then fewer at once, more again as answers come.

    The number at once is halved at each slow-down and grows by one with as many answers as there are turns (additive
    increase, multiplicative decrease; Chiu and Jain 1989).

    Args:
        most: turns at once, at most.
        patience: seconds the endpoint may let nobody through.
        timing: the clock.
    """

    def __init__(self, most: int, patience: float, timing: Timing) -> None:
        self._most, self._patience, self._timing = most, patience, timing
        self._at_once, self._under_way = float(most), 0
        self._gate, self._freed = asyncio.Lock(), asyncio.Event()
        self._until = self._slowed = -float("inf")
        self._since: float | None = None
        self._streak = 0

    @asynccontextmanager
    async def turn(self, check: Callable[[], None]) -> AsyncIterator[None]:
        """A turn, first come, first served; ``check`` may end the wait for it."""
        async with self._gate:
            await self._rest(check)
            while self._under_way >= int(self._at_once):
                self._freed.clear()
                await self._freed.wait()
                await self._rest(check)
            self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._freed.set()

    async def keeps(self, check: Callable[[], None]) -> bool:
        """Whether who has a turn may keep it and try again, once the endpoint wants it; else others are enough."""
        if self._under_way > int(self._at_once):
            return False
        await self._rest(check)
        return True

    async def _rest(self, check: Callable[[], None]) -> None:
        while (left := self._until - self._timing.now()) > 0:
            await self._timing.rest(left, check)
        check()

    def slow_down(self, began: float, asked_for: float) -> float | None:
        """An attempt begun at ``began`` came too fast; the endpoint asks for a rest of ``asked_for`` seconds, or 0.

        Returns:
            The seconds it has let nobody through, once they exceed the patience; else None.
        """
        now = self._timing.now()
        self._since = now if self._since is None else self._since
        if (seconds := now - self._since) >= self._patience:
            self._since = None
            return seconds
        wait = asked_for
        # What was under way when it slowed down says nothing new of how fast is too fast.
        if began > self._slowed:
            self._slowed, self._streak = now, self._streak + 1
            self._at_once = max(1.0, self._at_once / 2)
            wait = max(asked_for, backoff(self._streak, self._timing))
        # The last attempt falls on the end of the patience.
        self._until = max(self._until, min(now + wait, self._since + self._patience))
        return None

    def speed_up(self) -> None:
        """The endpoint let an attempt through."""
        self._since, self._streak = None, 0
        self._at_once = min(float(self._most), self._at_once + 1 / self._at_once)
