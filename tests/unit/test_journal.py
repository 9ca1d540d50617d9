from __future__ import annotations

import math
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from rapo.config import RunConfig
from rapo.config.sections import Calls, ModelSpec
from rapo.errors import BudgetError, EndpointError, RunError
from rapo.models import owner
from rapo.models.chat import ChatAnswer, ChatRequest, Scripted, ask
from rapo.models.journal import Journal, Totals
from rapo.models.journaled import Journaled
from rapo.models.ledger import Account, request_key, spent
from rapo.parts import Parts
from rapo.types import Message

SPEC = ModelSpec(url="http://127.0.0.1:1/v1", name="m", max_tokens=100, price_in=2.0, price_out=10.0)


def request(text: str = "hi", **changes) -> ChatRequest:
    return replace(ChatRequest((Message("user", text),), "test", 1), **changes)


def account(path, calls: Calls | None = None, spec: ModelSpec = SPEC) -> Account:
    return Account(Journal(path / "journal.sqlite"), "user", spec, calls or Calls())


def journaled(model, mine: Account, told: list[str] | None = None) -> Journaled:
    return Journaled(model, mine, [].append if told is None else told.append)


class Counting:
    """A model that counts what it is asked."""

    def __init__(self, reply=lambda request: request.messages[-1].content.upper()):
        self.asked: list[ChatRequest] = []
        self.name, self._reply = "m", reply

    def answers(self, requests):
        for place, one in enumerate(requests):
            self.asked.append(one)
            text = self._reply(one)
            yield place, None if text is None else ChatAnswer(text, True, 3, 2)


def test_the_key_is_what_is_asked_of_whom_and_not_where():
    key = request_key(SPEC, request())
    assert key == request_key(SPEC.model_copy(update={"url": "http://elsewhere/v1", "timeout": 1.0}), request())
    others = [request_key(SPEC.model_copy(update=change), request()) for change in ({"name": "n"}, {"max_tokens": 9})]
    others += [request_key(SPEC.model_copy(update={"temperature": 0.0}), request())]
    changes = [{"purpose": "x"}, {"seed": 2}, {"schema": {"type": "object"}}, {"messages": (Message("system", "hi"),)}]
    others += [request_key(SPEC, request(**change)) for change in changes]
    assert len({key, *others}) == 8


def test_what_was_answered_is_never_asked_again_by_anybody(tmp_path):
    model = Counting()
    requests = [request("a"), request("b"), request("a")]
    first = ask(journaled(model, account(tmp_path)), requests)
    assert [answer.text for answer in first] == ["A", "B", "A"]
    assert len(model.asked) == 2
    assert ask(journaled(model, account(tmp_path)), requests) == first
    assert len(model.asked) == 2


def test_what_another_run_had_to_do_without_is_not_forgotten(tmp_path):
    theirs, mine = account(tmp_path), account(tmp_path)
    model = journaled(Counting(lambda one: None if "lost" in one.messages[-1].content else "bad"), theirs)
    ask(model, [request("lost"), request("lost too"), request("bad")])
    model.reject([request("bad")])
    assert mine.journal.void_unusable() == 0
    # A run that stopped and goes on meets its gaps again.
    assert ask(journaled(Counting(), mine), [request("lost")]) == [None]
    assert mine.journal.void_unusable() == 1
    assert ask(journaled(Counting(), mine), [request("lost")])[0].text == "LOST"
    assert ask(journaled(Counting(), mine), [request("lost too"), request("bad")])[0] is None
    # One of them is answered by now.
    assert theirs.journal.void_unusable() == 2


def test_an_answer_is_on_disk_before_it_is_used(tmp_path):
    answers = journaled(Counting(), account(tmp_path)).answers([request("a"), request("b")])
    next(answers)
    other = Counting()
    assert ask(journaled(other, account(tmp_path)), [request("a")])[0].text == "A"
    assert other.asked == []


def test_a_failed_request_replays_as_none_until_it_is_voided(tmp_path):
    failing, working = Counting(lambda _: None), Counting()
    mine = account(tmp_path)
    assert ask(journaled(failing, mine), [request()]) == [None]
    assert ask(journaled(working, mine), [request()]) == [None]
    assert mine.journal.void_unusable() == 1
    assert ask(journaled(working, mine), [request()])[0].text == "HI"
    totals = mine.journal.totals()["user"]
    assert (totals.calls, totals.answers, totals.failed) == (2, 1, 1)


def test_a_rejected_answer_stays_until_it_is_voided_and_its_cost_stays_for_ever(tmp_path):
    model = journaled(counting := Counting(), account(tmp_path))
    ask(model, [request("a"), request("b")])
    model.reject([request("a")])
    assert ask(model, [request("a")])[0].text == "A"
    assert len(counting.asked) == 2
    assert model.account.journal.void_unusable() == 1
    ask(model, [request("a"), request("b")])
    assert len(counting.asked) == 3
    # 3 calls of 3 + 2 tokens: 3 * (3 * 2 + 2 * 10) / 1e6
    expected = Totals(calls=3, attempts=0, answers=3, prompt_tokens=9, completion_tokens=6, cost=pytest.approx(78e-6))
    assert model.account.journal.totals() == {"user": expected}


def test_strange_text_survives(tmp_path):
    text = "\0 ' ; -- ☃ 😀 \u202e" + "x" * 100_000
    model = journaled(Scripted("m", lambda _: text), account(tmp_path))
    assert ask(model, [request("\ud800")])[0].text == text
    assert ask(journaled(Counting(), account(tmp_path)), [request("\ud800")])[0].text == text


def test_an_attempt_is_written_at_its_worst_and_settled_at_its_cost(tmp_path):
    mine = account(tmp_path)
    number = mine.start(request(), 50, first=True)
    # 50 bytes and 100 tokens: (50 * 2 + 100 * 10) / 1e6
    held = Totals(calls=1, attempts=1, prompt_tokens=50, completion_tokens=100, cost=pytest.approx(1100e-6))
    assert mine.journal.totals() == {"user": held}
    mine.finish(number, request(), "error", status=503, tokens=(0, 0))
    assert mine.journal.totals() == {"user": Totals(calls=1, attempts=1)}
    lost = mine.start(request(), 50, first=False)
    mine.finish(lost, request(), "timeout")
    assert mine.journal.totals() == {"user": replace(held, attempts=2)}
    good = mine.start(request(), 50, first=False)
    mine.finish(good, request(), "answered", status=200, tokens=(5, 7), answer=ChatAnswer("x", True, 5, 7))
    expected = Totals(1, 3, 1, 0, 55, 107, pytest.approx(1100e-6 + 80e-6))
    assert mine.journal.totals() == {"user": expected}


@pytest.mark.parametrize(
    ("calls", "name", "used"),
    [
        # Two attempts of 150 tokens and 1100e-6 fit, a third does not.
        (Calls(max_calls=2), "max_calls", "2"),
        (Calls(max_tokens=449), "max_tokens", "300"),
        (Calls(max_cost=0.0032), "max_cost", "0.0022"),
    ],
)
def test_no_attempt_starts_that_could_exceed_the_budget(tmp_path, calls, name, used):
    mine = account(tmp_path, calls)
    for _ in range(2):
        mine.start(request(), 50, first=True)
    with pytest.raises(BudgetError, match=f"calls.{name}; got {used} spent.*raise calls.{name}"):
        account(tmp_path, calls).start(request(), 50, first=True)
    assert mine.journal.totals()["user"].attempts == 2


def test_the_share_of_each_budget_that_is_spent(tmp_path):
    calls = Calls(max_calls=4, max_cost=0.0044)
    mine = account(tmp_path, calls)
    mine.start(request(), 50, first=True)
    # 1 of 4 attempts; 50 tokens read at 2e-6 and 100 written at 10e-6 are 0.0011.
    assert spent(mine.journal, calls) == {"calls.max_calls": 0.25, "calls.max_cost": pytest.approx(0.25)}


def test_a_model_in_this_process_uses_up_no_budget(tmp_path):
    here = ModelSpec(path="/m", price_in=1.0)
    mine = account(tmp_path, calls := Calls(max_calls=1, max_tokens=150, max_cost=0.0011), here)
    ask(journaled(Counting(lambda _: "x" * 99), mine), [request(str(i)) for i in range(100)])
    assert mine.journal.totals()["user"].prompt_tokens == 300
    number = account(tmp_path, calls).start(request(), 50, first=True)
    assert number == 1
    # One row for people: 300 tokens read here, and 50 reserved there.
    assert mine.journal.totals()["user"].prompt_tokens == 350


def test_a_freed_reservation_can_be_spent(tmp_path):
    mine = account(tmp_path, Calls(max_tokens=150))
    number = mine.start(request(), 50, first=True)
    with pytest.raises(BudgetError):
        mine.start(request(), 50, first=True)
    mine.finish(number, request(), "error", status=500, tokens=(0, 0))
    mine.start(request(), 50, first=True)


def test_what_a_dead_process_left_is_settled_and_its_claims_are_void(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, 'tests/unit'); import test_journal as t\n"
        f"mine = t.account(Path({str(tmp_path)!r})); r = t.request()\n"
        "mine.journal.take(mine.spec, 'user', {mine.key(r): r}); mine.start(r, 50, first=True); os.kill(os.getpid(), 9)"
    )
    # Not waited for yet, the dead process still has its number.
    dead = subprocess.Popen([sys.executable, "-c", code])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    mine = account(tmp_path)
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        assert db.execute("SELECT outcome, prompt_tokens, completion_tokens FROM attempts").fetchall() == [
            ("killed", 50, 100)
        ]
    assert ask(journaled(Counting(), mine), [request()])[0].text == "HI"
    dead.wait()


def test_a_request_under_way_in_another_live_process_is_waited_for(tmp_path, monkeypatch):
    other = account(tmp_path)
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        other.journal.owner = owner.this_process().replace(
            f" {os.getpid()} {owner._started(os.getpid())}", f" {sleeper.pid} {owner._started(sleeper.pid)}"
        )
        other.journal.take(SPEC, "user", {other.key(request()): request()})
        timer = threading.Timer(0.4, lambda: other.store(request(), ChatAnswer("theirs")))
        timer.start()
        model = Counting()
        told: list[str] = []
        assert ask(journaled(model, account(tmp_path), told), [request()])[0].text == "theirs"
        assert model.asked == []
        assert len(told) == 1
        assert f"process {sleeper.pid} on '{socket.gethostname()}'" in told[0]
        timer.join()
    finally:
        sleeper.communicate(b"\n")


def test_a_claim_from_elsewhere_ends_with_its_lease(tmp_path):
    other = account(tmp_path)
    other.journal.owner = "elsewhere 1 1"
    other.journal.take(SPEC, "user", {other.key(request()): request()})
    number = other.start(request(), 50, first=True)
    mine = account(tmp_path)
    assert mine.journal.take(SPEC, "user", {mine.key(request()): request()}).mine == frozenset()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("UPDATE answers SET expires = 5")
    assert ask(journaled(Counting(), mine), [request()])[0].text == "HI"
    # The late answer of the first asker changes nothing: what was used is what is kept.
    assert other.store(request(), ChatAnswer("late")).text == "HI"
    other.finish(number, request(), "answered", tokens=(1, 1), answer=ChatAnswer("late"))
    assert ask(journaled(Counting(), mine), [request()])[0].text == "HI"


def test_a_fast_model_shortens_no_lease_of_a_slow_one(tmp_path):
    mine = account(tmp_path)
    mine.journal.take(SPEC, "user", {mine.key(request()): request()})

    def lease():
        with sqlite3.connect(tmp_path / "journal.sqlite") as db:
            return db.execute("SELECT expires FROM answers").fetchone()[0]

    began = lease()
    for seconds, longer in ((10**6, True), (1, False)):
        before = lease()
        mine.journal._renewed = -math.inf
        with mine.journal.write() as db:
            mine.journal.renew(db, seconds)
        assert (lease() > before) == longer
    assert lease() > began


@pytest.mark.parametrize("known", [False, True])
def test_an_asker_that_stops_leaves_no_claims(tmp_path, known):
    mine = account(tmp_path)
    if known:
        ask(journaled(Counting(), mine), [request("a")])
    answers = journaled(Counting(), mine).answers([request("a"), request("b")])
    next(answers)
    answers.close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        assert db.execute("SELECT state FROM answers").fetchall() == [("answered",)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("some notes\n" * 50), "is not a journal"),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE t (a)").connection.commit(), "is not a journal"),
        (lambda path: path.mkdir(), "cannot be used as a journal"),
        (lambda path: Journal(path)._db.execute("PRAGMA user_version = 9"), "another version; got 9; expected 1"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"\1" * 2000), "is not a journal|cannot be"),
    ],
)
def test_a_file_that_is_no_journal_is_refused_in_one_line(tmp_path, make, message):
    make(tmp_path / "journal.sqlite")
    with pytest.raises(RunError, match=message) as error:
        Journal(tmp_path / "journal.sqlite")
    assert "\n" not in str(error.value)


def test_an_empty_file_becomes_a_journal(tmp_path):
    (tmp_path / "journal.sqlite").touch()
    assert ask(journaled(Counting(), account(tmp_path)), [request()])[0].text == "HI"


def test_a_full_disk_is_one_line(tmp_path):
    mine = account(tmp_path)
    pages = mine.journal._db.execute("PRAGMA page_count").fetchone()[0]
    mine.journal._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RunError, match="cannot be written; got database or disk is full"):
        ask(journaled(Counting(lambda _: "x" * 100_000), mine), [request()])


def test_a_damaged_file_is_one_line(tmp_path):
    mine = account(tmp_path)
    requests = [request(f"{i}" * 300) for i in range(60)]
    ask(journaled(Counting(lambda _: "x" * 500), mine), requests)
    # All but what opening it reads: the list of tables, and of attempts under way.
    (kept,) = mine.journal._db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'open_attempts'").fetchone()
    (size,) = mine.journal._db.execute("PRAGMA page_size").fetchone()
    mine.journal.close()
    path = tmp_path / "journal.sqlite"
    content = path.read_bytes()
    pages = [content[start : start + size] for start in range(0, len(content), size)]
    path.write_bytes(b"".join(page if n in (1, kept) else b"\xff" * size for n, page in enumerate(pages, start=1)))
    damaged = Journal(path)
    for look in (lambda: damaged.answer("x"), damaged.totals, damaged.averages):
        with pytest.raises(RunError, match=r"cannot be read; got .*malformed"):
            look()


def test_a_journal_may_be_closed_while_others_use_it(tmp_path):
    code = (
        "import sys, threading, time; from pathlib import Path; from rapo.models.journal import Journal\n"
        "def use(journal):\n"
        "    try:\n"
        "        while True: journal.release(['x']), journal.answer('x')\n"
        "    except Exception: pass\n"
        "for i in range(10):\n"
        "    journal = Journal(Path(sys.argv[1]) / f'{i}.sqlite')\n"
        "    threads = [threading.Thread(target=use, args=(journal,)) for _ in range(4)]\n"
        "    for thread in threads: thread.start()\n"
        "    time.sleep(0.01); journal.close()\n"
        "    for thread in threads: thread.join()\n"
    )
    # SQLite takes the whole process with it.
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 0


class Interrupted:
    """A database in the middle of whose next command somebody presses Ctrl-C."""

    def __init__(self, db: sqlite3.Connection):
        self._db, self._pressed = db, False

    def __getattr__(self, name):
        return getattr(self._db, name)

    def execute(self, sql, *more):
        found = self._db.execute(sql, *more)
        if not self._pressed:
            self._pressed = True
            raise KeyboardInterrupt
        return found


def test_an_interrupted_transaction_ends(tmp_path):
    journal = account(tmp_path).journal
    journal._db = Interrupted(journal._db)
    with pytest.raises(KeyboardInterrupt):
        journal.release(["x"])
    journal.release(["x"])


def test_the_error_under_way_is_heard_also_where_nothing_can_be_forgotten(tmp_path):
    told: list[str] = []
    with pytest.raises(EndpointError, match="away"), Parts(RunConfig(), tmp_path, told.append) as parts:
        journal = parts.journal
        journal._db.execute("PRAGMA query_only = 1")
        journal.answer("x")
        raise EndpointError("away")
    assert "cannot be written" in told[0]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        journal._db.execute("SELECT 1")
