"""Contenders in processes of their own that take turns, what they report, and how it is printed and kept.

The parent says which contender goes next, one step at a time, so that contenders alternate (ours, rival, ours, rival)
while each keeps its model, its optimizer and its memory to itself.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

MIB = 2**20


# glibc gives large blocks back to the system and has them zeroed again at the next step, which costs some contenders
# half of their time. So nobody is timed with that, and everybody's memory is measured with it: kept blocks fragment.
MALLOC = {
    "keep": {"MALLOC_MMAP_THRESHOLD_": str(2**40), "MALLOC_TRIM_THRESHOLD_": str(2**40)},
    "system": {},
}
QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}


class Worker:
    """A contender's process, driven step by step. What it prints goes to a file that is looked at when it fails.

    Args:
        script: run with ``--work`` and the task as JSON.
        task: what the script is to do.
        threads: of torch and its libraries.
        malloc: a key of ``MALLOC``.
    """

    def __init__(self, script: str, task: Mapping[str, Any], *, threads: int, malloc: str) -> None:
        libraries = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, script, "--work", json.dumps(task)],
            env=os.environ | QUIET | libraries | MALLOC[malloc],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def step(self, command: str = "step") -> dict[str, Any]:
        """What the contender reports of its next step.

        Raises:
            RuntimeError: it died; the message is the last line it printed.
        """
        with suppress(BrokenPipeError):
            self._stream("stdin").write(f"{command}\n")
            self._stream("stdin").flush()
        line = self._stream("stdout").readline()
        if not line:
            raise RuntimeError(self._last_words())
        report: dict[str, Any] = json.loads(line)
        return report

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._said.close()

    def _stream(self, name: str) -> Any:
        return getattr(self._process, name)

    def _last_words(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = [line.strip() for line in self._said if line.strip()]
        return f"exit {code}: {lines[-1] if lines else 'no message'}"


class Channel:
    """The contender's end: waits for the parent's commands and answers each with one report.

    Whatever else is printed in this process goes to standard error.
    """

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        # Where memory runs out, a contender is what must go, and nothing else on the machine.
        Path("/proc/self/oom_score_adj").write_text("1000")

    def wait(self) -> str:
        """The next command. Ends the process when the parent has no more."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        return line.strip()

    def report(self, found: Mapping[str, Any]) -> None:
        """Answer the command."""
        self._out.write(json.dumps(found) + "\n")
        self._out.flush()


class Clock:
    """Seconds of the phases of one step, and of the whole of it, from when this is made to the report.

    With ``count`` also the floating-point operations of each phase (matrix products and attention), which makes the
    step slow: such a step is not timed.
    """

    def __init__(self, device: str, *, count: bool = False) -> None:
        self._cuda, self._count = device.startswith("cuda"), count
        self._found: dict[str, float] = {}
        self._phase, self._counter = "", _counter()
        self._zero = self._began = self._now()
        self._worked = time.process_time()

    def start(self, phase: str) -> None:
        """Begin a phase."""
        self._phase, self._began = phase, self._now()
        if self._count:
            self._counter = _counter()
            self._counter.__enter__()

    def stop(self) -> None:
        """End the phase begun last; does nothing when it has ended."""
        if not self._phase:
            return
        if self._count:
            self._counter.__exit__(None, None, None)
            self._add(f"{self._phase}_tflop", self._counter.get_total_flops() / 1e12)
        self._add(self._phase, self._now() - self._began)
        self._phase = ""

    def report(self) -> dict[str, float]:
        """Seconds by phase, of the whole ``step``, and the processor's in it (``cpu``): less than it if others run."""
        return {**self._found, "step": self._now() - self._zero, "cpu": time.process_time() - self._worked}

    def _add(self, name: str, value: float) -> None:
        self._found[name] = self._found.get(name, 0.0) + value

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def _counter() -> FlopCounterMode:
    # Torch counts the attention of GPUs only.
    aten = torch.ops.aten
    forward: Callable[..., int] = lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)  # noqa: E731
    backward: Callable[..., int] = lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)  # noqa: E731
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: forward,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
        },
    )


class Memory:
    """Peak memory in MiB since this was made: of the process (Linux: VmHWM), or of torch's allocator on a GPU.

    ``held`` is what was in use when it was made: imports, weights and tokenizer, before the first step.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            self.held = torch.cuda.memory_allocated() / MIB
        else:
            # Loading a checkpoint can take more than a step does; 5 resets the high-water mark.
            Path("/proc/self/clear_refs").write_text("5")
            self.held = _status("VmRSS")

    def report(self) -> dict[str, float]:
        """``peak`` and ``above``: the peak less what was held before."""
        peak = torch.cuda.max_memory_allocated() / MIB if self._cuda else _status("VmHWM")
        return {"peak": peak, "above": peak - self.held}


def _status(name: str) -> float:
    return _field(Path("/proc/self/status"), name)


def _field(path: Path, name: str) -> float:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


@dataclass(slots=True)
class Outcome:
    """What a contender did.

    Attributes:
        reports: of its steps after the warm-up.
        first: the report of the first step of its warm-up.
        failure: why it has no figures, else empty.
    """

    reports: list[dict[str, float]] = field(default_factory=list)
    first: dict[str, Any] = field(default_factory=dict)
    failure: str = ""

    def median(self, figure: str) -> float:
        """The median of a figure over the reports."""
        return statistics.median(report[figure] for report in self.reports)


def alternate(
    rounds: Sequence[Sequence[str]], start: Callable[[str], Worker], *, warmup: int, runs: int, first: str = "step"
) -> dict[str, Outcome]:
    """The outcome of every contender.

    Args:
        rounds: the names of contenders that live at once and take turns step by step; one such round after another.
        start: starts one.
        warmup: steps of each per round, at least one, whose figures do not count.
        runs: steps of each per round that do.
        first: the command of the first step.
    """
    outcomes = {name: Outcome() for names in rounds for name in names}
    for names in rounds:
        workers = {name: start(name) for name in names}
        try:
            for number in range(warmup + runs):
                print(f"{', '.join(names)}: step {number + 1} of {warmup + runs}", file=sys.stderr, flush=True)
                for name in names:
                    _turn(workers[name], outcomes[name], "step" if number else first, number < warmup)
        finally:
            for worker in workers.values():
                worker.close()
    return outcomes


def _turn(worker: Worker, outcome: Outcome, command: str, warming: bool) -> None:
    if outcome.failure:
        return
    try:
        report = worker.step(command)
    except RuntimeError as error:
        outcome.failure = str(error)
        return
    if not warming:
        outcome.reports.append(report)
    elif not outcome.first:
        outcome.first = report


def free_memory() -> float:
    """MiB that processes can still get."""
    return _field(Path("/proc/meminfo"), "MemAvailable")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A text table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join((cells[0].ljust(widths[0]), *rest))

    return "\n".join(map(line, (head, *rows)))


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Keep a benchmark's result, with a format version and the machine it ran on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"v": 1, "machine": machine(), **result}, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ":"
    )
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": model.split(":")[1].strip(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "card": card,
        "torch": torch.__version__,
    }
