"""Ten thousand calls to a server where three attempts in ten go wrong; the caller is killed half-way and restarted.

    python benchmarks/calls.py [--calls 10000 --share 0.3 --concurrency 32]

The server is ``tests/fault_server.py`` in a process of its own: sixteen ways to fail and four ways to answer nonsense,
drawn anew for every attempt. Then calls per second without faults, beside the official ``openai`` client where it is
installed, same server, alternating runs, medians. Two tables and JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rapo.config.sections import Calls, ModelSpec
from rapo.models.chat import ChatRequest, ask
from rapo.models.connect import connect
from rapo.models.journal import Journal
from rapo.types import Message

SERVER = Path(__file__).parent.parent / "tests" / "fault_server.py"
TIMEOUT = 1.0


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--speed-calls", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("runs/calls.json"))
    parser.add_argument("--work", nargs=2, metavar=("URL", "JOURNAL"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        ask_all(args.work[0], Path(args.work[1]), args.calls, args.concurrency)
        return
    results = {"v": 1, "faults": with_faults(args), "speed": without_faults(args.speed_calls, args.runs)}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(results, indent=1))
    print("\n".join(f"{name:<44} {value}" for name, value in results["faults"].items()))
    print("\n".join(f"{'calls per second, ' + name:<44} {value:.0f}" for name, value in results["speed"].items()))


@contextmanager
def server(*options: str) -> Iterator[str]:
    """The fault server's url."""
    process = subprocess.Popen([sys.executable, str(SERVER), *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def make_requests(count: int, tag: str = "") -> list[ChatRequest]:
    """Distinct questions of a few hundred bytes."""
    story = "I have not slept well since the move, and every day it gets a little harder to start. " * 4
    return [ChatRequest((Message("user", f"{story}{tag} {i}"),), "benchmark", i) for i in range(count)]


def ask_all(url: str, journal: Path, calls: int, concurrency: int) -> None:
    """What the process does that gets killed."""
    spec = ModelSpec(url=url, name="m", concurrency=concurrency, timeout=TIMEOUT, attempts=12)
    model = connect(spec, Journal(journal), "user", Calls(), label="m", notice=print)
    ask(model, make_requests(calls))


def with_faults(args: argparse.Namespace) -> dict[str, Any]:
    """Calls at a share of faults, with a kill half-way."""
    with tempfile.TemporaryDirectory() as folder, server("--share", str(args.share), "--slow", "10") as url:
        journal = Path(folder) / "journal.sqlite"
        command = [sys.executable, __file__, "--work", url, str(journal), "--calls", str(args.calls)]
        command += ["--concurrency", str(args.concurrency)]
        began = time.monotonic()
        victim = subprocess.Popen(command)
        while answered(journal) < args.calls // 2 and victim.poll() is None:
            time.sleep(0.05)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        under_way = query(journal, "SELECT count(*) FROM attempts WHERE outcome IS NULL")
        subprocess.run(command, check=True)
        seconds = time.monotonic() - began
        with urllib.request.urlopen(url.replace("/v1", "/counts")) as reply:
            counts = json.load(reply)
        return report(journal, args.calls, under_way, counts, seconds)


def report(journal: Path, calls: int, under_way: int, counts: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The figures of the first table."""
    per_call = "SELECT count(*) AS n FROM attempts GROUP BY key"
    received = "SELECT count(*) - count(DISTINCT key) FROM attempts WHERE outcome = 'answered'"
    return {
        "calls": calls,
        "answered": query(journal, "SELECT count(*) FROM answers WHERE state = 'answered'"),
        "failed": query(journal, "SELECT count(*) FROM answers WHERE state = 'failed'"),
        "attempts in the ledger": query(journal, "SELECT count(*) FROM attempts"),
        "attempts the server counted": counts["count"],
        "attempts under way when killed": under_way,
        "attempts that met a fault": counts["count"] - counts["faults"].get("none", 0),
        "attempts per call, mean": round(query(journal, f"SELECT avg(n) FROM ({per_call})"), 3),
        "attempts per call, most": query(journal, f"SELECT max(n) FROM ({per_call})"),
        "answers received twice": query(journal, received),
        "answers the server gave again": counts["answered_again"],
        "seconds": round(seconds, 1),
    }


def query(journal: Path, sql: str) -> Any:
    """One value from the journal."""
    with sqlite3.connect(journal, timeout=60) as db:
        return db.execute(sql).fetchone()[0]


def answered(journal: Path) -> int:
    """Answers stored so far; 0 before the journal is there."""
    try:
        return int(query(journal, "SELECT count(*) FROM answers WHERE state != 'claimed'")) if journal.exists() else 0
    except sqlite3.OperationalError:
        return 0


def without_faults(calls: int, runs: int) -> dict[str, float]:
    """Median calls per second with 16 at once."""
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, server() as url:
        for run in range(runs):
            spec = ModelSpec(url=url, name="m", concurrency=16)
            journal = Journal(Path(folder) / f"{run}.sqlite")
            model = connect(spec, journal, "user", Calls(), label="m", notice=print)
            began = time.monotonic()
            ask(model, make_requests(calls, f"run {run}"))
            rates.setdefault("rapo, journaled", []).append(calls / (time.monotonic() - began))
            began = time.monotonic()
            ask(model, make_requests(calls, f"run {run}"))
            rates.setdefault("rapo, replayed", []).append(calls / (time.monotonic() - began))
            if importlib.util.find_spec("openai"):
                began = time.monotonic()
                asyncio.run(ask_openai(url, calls))
                rates.setdefault("openai client, nothing stored", []).append(calls / (time.monotonic() - began))
    return {name: statistics.median(values) for name, values in rates.items()}


async def ask_openai(url: str, calls: int) -> None:
    """The same questions through the official client, 16 at once."""
    from openai import AsyncOpenAI

    requests = iter(make_requests(calls))
    async with AsyncOpenAI(base_url=url, api_key="none") as client:

        async def work() -> None:
            for request in requests:
                messages = [{"role": message.role, "content": message.content} for message in request.messages]
                reply = await client.chat.completions.create(
                    model="m", messages=messages, temperature=1.0, max_tokens=1024, seed=request.seed
                )
                assert reply.choices[0].message.content

        await asyncio.gather(*(work() for _ in range(16)))


if __name__ == "__main__":
    main()
