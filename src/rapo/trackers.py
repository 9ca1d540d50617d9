"""Experiment trackers: a run's numbers sent to trackio, wandb, tensorboard or mlflow, never at the run's expense.

Each tracker lives in a thread of its own behind a queue. One that raises is told of once and dropped; one that hangs
is waited for shortly at the end and left behind. What counts is in the run directory, whatever happens here.
"""

from __future__ import annotations

import importlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rapo.records import RunDirectory

WAITING = 10_000  # steps that may wait for a slow tracker; later ones are left out
PATIENCE = 30.0  # seconds the end of a run waits for trackers to finish

Scalars = Mapping[str, float]


class Tracker(Protocol):
    """Whoever keeps the numbers of a run; used by one thread from its making to its end."""

    def log(self, step: int, scalars: Scalars) -> None:
        """Keep the finite numbers of a step."""
        ...

    def finish(self) -> None:
        """Send what is left."""
        ...


class Trackers:
    """The trackers of a run; ``log`` never waits.

    Args:
        names: of trackers.
        run: folder of the run; its name is the run's.
        config: of the run, by dotted key.
        warn: hears once of each tracker that fails.
    """

    def __init__(self, names: Sequence[str], run: Path, config: Mapping[str, Any], warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._workers = [_Worker(name, partial(MAKERS[name], run, config)) for name in names]

    def log(self, step: int, scalars: Scalars) -> None:
        """Hand on the finite numbers of a step, by name."""
        finite = {name: float(value) for name, value in scalars.items() if math.isfinite(value)}
        for worker in self._workers:
            worker.put((step, finite))
        self._tell()

    def close(self) -> None:
        """Wait shortly for what is left to be sent."""
        for worker in self._workers:
            worker.put(None)
        end = time.monotonic() + PATIENCE
        for worker in self._workers:
            worker.thread.join(max(0.0, end - time.monotonic()))
            if worker.thread.is_alive() and worker.problem is None:
                worker.problem = f"still busy after {PATIENCE:.0f} seconds; what it has not sent is left out"
        self._tell()

    def _tell(self) -> None:
        for worker in self._workers:
            if worker.problem is not None and not worker.told:
                worker.told = True
                self._warn(
                    f"tracker {worker.name}: {worker.problem} (the run goes on; its numbers are in metrics.jsonl)"
                )


@contextmanager
def tracked(run: RunDirectory, warn: Callable[[str], None]) -> Iterator[Trackers]:
    """The trackers of a run's config, closed at the end of the block."""
    config = run.config
    flat = {
        f"{section}.{key}": value
        for section, keys in config.model_dump(mode="json").items()
        for key, value in keys.items()
    }
    trackers = Trackers(config.run.trackers, run.path, flat, warn)
    try:
        yield trackers
    finally:
        trackers.close()


class _Worker:
    """A tracker in its thread, which dies with the program."""

    def __init__(self, name: str, make: Callable[[], Tracker]) -> None:
        self.name, self._make, self.told = name, make, False
        self.problem: str | None = None
        self._queue: queue.Queue[tuple[int, Scalars] | None] = queue.Queue(WAITING)
        self.thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self.thread.start()

    def put(self, item: tuple[int, Scalars] | None) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self.problem = self.problem or f"{WAITING} steps behind; some are left out"

    def _run(self) -> None:
        try:
            tracker = self._make()
            while (item := self._queue.get()) is not None:
                tracker.log(*item)
            tracker.finish()
        # Not even a tracker that ends the program (SystemExit) may end a run.
        except BaseException as error:
            self.problem = f"{type(error).__name__}: {error}"[:300]


class _Trackio:
    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        self._trackio: Any = importlib.import_module("trackio")
        self._trackio.init(project="rapo", name=run.name, config=dict(config))

    def log(self, step: int, scalars: Scalars) -> None:
        self._trackio.log(dict(scalars), step=step)

    def finish(self) -> None:
        self._trackio.finish()


class _Wandb:
    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        wandb: Any = importlib.import_module("wandb")
        self._run = wandb.init(project="rapo", name=run.name, config=dict(config), dir=str(run))

    def log(self, step: int, scalars: Scalars) -> None:
        self._run.log(dict(scalars), step=step)

    def finish(self) -> None:
        self._run.finish()


class _Tensorboard:
    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        tensorboard: Any = importlib.import_module("torch.utils.tensorboard")
        self._writer = tensorboard.SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def log(self, step: int, scalars: Scalars) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


class _Mlflow:
    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        self._mlflow: Any = importlib.import_module("mlflow")
        self._mlflow.set_experiment("rapo")
        self._mlflow.start_run(run_name=run.name)
        self._mlflow.log_params({key: str(value)[:500] for key, value in config.items()})

    def log(self, step: int, scalars: Scalars) -> None:
        self._mlflow.log_metrics(dict(scalars), step=step)

    def finish(self) -> None:
        self._mlflow.end_run()


MAKERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "trackio": _Trackio,
    "wandb": _Wandb,
    "tensorboard": _Tensorboard,
    "mlflow": _Mlflow,
}
