"""Calls from processes that share a journal, are killed, and meet a server that others wrote."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from fault_server import FaultServer
from rapo.config.sections import Calls, ModelSpec
from rapo.models.chat import ChatRequest, ask
from rapo.models.connect import connect
from rapo.models.journal import Journal
from rapo.models.scratch import new_policy
from rapo.types import Message

ASKER = """
import sys
from pathlib import Path
from rapo.config.sections import Calls, ModelSpec
from rapo.errors import BudgetError
from rapo.models.chat import ChatRequest
from rapo.models.connect import connect
from rapo.models.journal import Journal
from rapo.types import Message
path, url, first, last, budget = sys.argv[1:]
spec = ModelSpec(url=url, name="m", concurrency=8)
model = connect(spec, Journal(Path(path)), "user", Calls(max_calls=int(budget)), label="m", notice=print)
requests = [ChatRequest((Message("user", f"question {i}"),), "test", i) for i in range(int(first), int(last))]
try:
    for place, answer in model.answers(requests):
        assert answer is not None and answer.text == f"re: question {int(first) + place}", answer
        print("got", int(first) + place, flush=True)
except BudgetError as error:
    print("budget", flush=True)
"""


def asker(path: Path, url: str, first: int, last: int, budget: int = 10**6) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ASKER, str(path), url, *map(str, (first, last, budget))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_share_answers_and_pay_for_none_twice(tmp_path):
    journal = tmp_path / "journal.sqlite"
    with FaultServer(delay=0.02) as server:
        both = [asker(journal, server.url, 0, 200), asker(journal, server.url, 0, 200)]
        said = [one.communicate(timeout=60)[0] for one in both]
        assert [one.returncode for one in both] == [0, 0]
        assert [text.count("got") for text in said] == [200, 200]
        assert server.count == Journal(journal).totals()["user"].attempts == 200


def test_two_processes_never_exceed_a_budget_together(tmp_path):
    journal = tmp_path / "journal.sqlite"
    with FaultServer(delay=0.01) as server:
        both = [asker(journal, server.url, 0, 200, 90), asker(journal, server.url, 200, 400, 90)]
        said = [one.communicate(timeout=60)[0] for one in both]
        assert all("budget" in text for text in said)
        assert server.count == sum(text.count("got") for text in said) == 90


def test_a_killed_process_has_lost_at_most_what_was_under_way(tmp_path):
    journal = tmp_path / "journal.sqlite"
    with FaultServer(delay=0.02) as server:
        victim = asker(journal, server.url, 0, 200)
        for _ in range(60):
            assert victim.stdout is not None
            assert victim.stdout.readline().startswith("got")
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        time.sleep(0.2)
        with sqlite3.connect(journal) as db:
            (stored,) = db.execute("SELECT count(*) FROM answers WHERE state = 'answered'").fetchone()
            (under_way,) = db.execute("SELECT count(*) FROM attempts WHERE outcome IS NULL").fetchone()
        assert stored >= 60
        assert under_way <= 8
        before = server.count
        again = asker(journal, server.url, 0, 200)
        assert again.communicate(timeout=60)[0].count("got") == 200
        assert server.count - before == 200 - stored
        totals = Journal(journal).totals()["user"]
        # What was written down but not sent when the kill came is in the ledger only.
        assert totals.attempts == 200 + under_way >= server.count


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    texts = ["I feel sad today", "Tell me more about it"] * 50
    new_policy(texts, vocab_size=320, hidden=32, layers=1, heads=2, max_context=64, seed=0).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def real_server(tiny) -> Iterator[str]:
    """``transformers serve`` with a tiny model: an OpenAI-compatible server that shares no code with this project."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", tiny, "--host", "127.0.0.1"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [*command, "--port", str(port), "--device", "cpu"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 90
        while not _healthy(port):
            assert server.poll() is None and time.monotonic() < end, "the server did not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _healthy(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def test_a_real_server_answers(tmp_path, tiny, real_server):
    spec = ModelSpec(url=real_server, name=tiny, max_tokens=8, concurrency=3, attempts=2)
    told: list[str] = []
    model = connect(spec, Journal(tmp_path / "j.sqlite"), "judge", Calls(), label="tiny", notice=told.append)
    schema = {"type": "object"}
    requests = [ChatRequest((Message("user", f"I feel {i}"),), "test", i, schema if i else None) for i in range(4)]
    first = ask(model, requests)
    assert all(answer is not None and 0 < answer.completion_tokens <= 8 and answer.prompt_tokens for answer in first)
    assert ask(model, requests) == first
    totals = model.account.journal.totals()["judge"]
    assert (totals.calls, totals.attempts, totals.answers) == (4, 4, 4)
    assert told == []
    # This server refuses a model it does not have with 400.
    other = ModelSpec(url=real_server, name="another", max_tokens=8)
    model = connect(other, Journal(tmp_path / "k.sqlite"), "judge", Calls(), label="other", notice=told.append)
    assert ask(model, requests[:1]) == [None]
    assert "refuses a request" in told[0]
