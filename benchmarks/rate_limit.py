"""Calls to an endpoint with a rate limit, at the default settings: how many are answered, lost, and refused on the way.

    python benchmarks/rate_limit.py [--limits 3 10 20] [--seconds 30] [--retry-after 1]

The server is ``tests/fault_server.py``: it answers at once, and with 429 whatever comes above the limit of the last
second. Each limit is asked so many calls that ``--seconds`` are the least they can take. One row per limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import deque
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fault_server import Faults, FaultServer  # noqa: E402
from rapo.config.sections import Calls, ModelSpec  # noqa: E402
from rapo.models.chat import ChatRequest, ask  # noqa: E402
from rapo.models.connect import connect  # noqa: E402
from rapo.models.journal import Journal  # noqa: E402
from rapo.types import Message  # noqa: E402


def main() -> None:
    """Run each limit and print its row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", type=int, nargs="+", default=[3, 10, 20], help="calls per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--retry-after", type=float, default=1.0, help="what a 429 asks for; 0: it says nothing")
    args = parser.parse_args()
    print(f"{'limit':>8} {'calls':>8} {'lost':>8} {'seconds':>8} {'429s':>8}")
    for limit in args.limits:
        print("".join(f"{value:>8} " for value in row(limit, int(limit * args.seconds), args.retry_after)), flush=True)


def row(limit: int, count: int, retry_after: float) -> tuple[object, ...]:
    """One limit: calls, calls without an answer, seconds, attempts refused."""
    requests = [ChatRequest((Message("user", f"question {i}"),), "benchmark", i) for i in range(count)]
    faults = limited(limit, "429-after" if retry_after else "429")
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Journal(Path(folder) / "journal.sqlite")) as journal,
        FaultServer(faults=faults, retry_after=retry_after, keep_hits=False) as server,
    ):
        spec = ModelSpec(url=server.url, name="m")
        model = connect(spec, journal, "user", Calls(), label="limited", notice=lambda text: None)
        began = time.perf_counter()
        lost = sum(answer is None for answer in ask(model, requests))
        return limit, count, lost, round(time.perf_counter() - began, 1), server.count - count + lost


def limited(limit: int, fault: str) -> Faults:
    """The fault for all that comes above ``limit`` answers in a second."""
    answered = deque[float](maxlen=limit)

    def fate(*_: object) -> str | None:
        now = time.monotonic()
        if len(answered) == limit and now - answered[0] < 1:
            return fault
        answered.append(now)
        return None

    return fate


if __name__ == "__main__":
    main()
