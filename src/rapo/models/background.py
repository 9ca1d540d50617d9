"""An event loop in a thread of its own: coroutines run there, and are read from any thread as ordinary iterators."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


class Background:
    """The loop and its thread, from first use until it is closed or forgotten.

    Args:
        name: of the thread.

    Attributes:
        opened: what coroutines enter here is left when the loop ends.
    """

    def __init__(self, name: str) -> None:
        self.opened = AsyncExitStack()
        self._name, self._lock, self._closed = name, threading.Lock(), False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] = lambda: None

    def stream(self, main: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Iterator[T]:
        """Run ``main(emit)`` in the loop; yield what it emits as it comes, then raise what it raised.

        Works inside a running loop too, and ``main`` goes on while the reader is busy. Closing the iterator cancels
        ``main`` and waits for its end.

        Raises:
            RuntimeError: the loop was closed.
        """
        out: queue.SimpleQueue[tuple[T] | _End] = queue.SimpleQueue()
        cancel = self._begin(main, out)
        item: tuple[T] | _End | None = None
        try:
            while not isinstance(item := out.get(), _End):
                yield item[0]
        finally:
            cancel()
            while not isinstance(item, _End):
                item = out.get()
        if item.error is not None:
            raise item.error

    def close(self) -> None:
        """Cancel whatever runs in the loop, and end it; every reader hears of it."""
        with self._lock:
            self._closed = True
        self._stop()
        if self._thread is not None:
            self._thread.join()

    def _begin(
        self, main: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]], out: queue.SimpleQueue[tuple[T] | _End]
    ) -> Callable[[], None]:
        """Start ``main``, whose end is put last; how to cancel it."""
        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            tasks.append(asyncio.create_task(main(lambda item: out.put((item,)))))
            # Not at the end of a coroutine around main: one that is cancelled before it has begun never gets there.
            tasks[0].add_done_callback(lambda task: out.put(_End(self._error(task))))

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: tasks[0].cancel())

        with self._lock:
            loop = self._running()
            loop.call_soon_threadsafe(begin)
        return cancel

    def _error(self, task: asyncio.Task[None]) -> BaseException | None:
        return RuntimeError(f"{self._name}: cancelled") if task.cancelled() else task.exception()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise RuntimeError(f"{self._name}: closed")
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # Neither holds this object: without it nobody can use the thread, which then ends as well.
            self._stop = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
            self._thread = threading.Thread(target=_work, args=(self._loop, self.opened), name=self._name, daemon=True)
            self._thread.start()
        return self._loop


def _work(loop: asyncio.AbstractEventLoop, opened: AsyncExitStack) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_wind_up(asyncio.all_tasks(loop), opened))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _wind_up(tasks: set[asyncio.Task[Any]], opened: AsyncExitStack) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await opened.aclose()
