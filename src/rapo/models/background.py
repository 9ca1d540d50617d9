"""A coroutine in a thread of its own, read from outside as an ordinary iterator."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def stream(main: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]], name: str) -> Iterator[T]:
    """Run ``main(emit)`` in a fresh event loop; yield what it emits as it comes, then raise what it raised.

    Works inside a running loop too, and ``main`` goes on while the reader is busy. Closing the iterator cancels
    ``main`` and waits for its end.

    Args:
        main: the coroutine function.
        name: of the thread.
    """
    out: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(main(lambda item: out.put((item,))))
    worker = threading.Thread(target=_work, args=(loop, task, out), name=name, daemon=True)
    worker.start()
    try:
        while (item := out.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(task.cancel)
        worker.join()


def _work(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], out: queue.SimpleQueue[Any]) -> None:
    end: BaseException | None = None
    try:
        loop.run_until_complete(task)
    except BaseException as error:  # whatever it is, the reader must not wait for ever
        end = error
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        out.put(end)
