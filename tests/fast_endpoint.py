"""An endpoint on a clock that runs fast, and what it is asked."""

from __future__ import annotations

import asyncio
import sqlite3
import time

from rapo.config.sections import Calls, ModelSpec
from rapo.models.chat import ChatRequest
from rapo.models.endpoint import Endpoint
from rapo.models.journal import Journal
from rapo.models.journaled import Journaled
from rapo.models.ledger import Account
from rapo.models.retry import Timing
from rapo.models.server import Server
from rapo.types import Message

CANARY = "sk-canary-5f0c2a9e71"
PACE = 30
# A clock that runs 30 times as fast: the rests between attempts are real, and short.
FAST = Timing(now=lambda: time.monotonic() * PACE, sleep=lambda seconds: asyncio.sleep(seconds / PACE))


def connect(path, url, calls=None, **spec):
    defaults = {"url": url, "name": "m", "timeout": 20.0, "max_tokens": 20}
    account = Account(Journal(path / "journal.sqlite"), "user", ModelSpec(**defaults | spec), calls or Calls())
    told = []
    server = Server(account.spec, account.calls, label="helper", notice=told.append, timing=FAST)
    return Journaled(Endpoint(server, account), account, told.append), told


def requests(count, schema=None):
    return [ChatRequest((Message("user", f"question {i}"),), "test", i, schema) for i in range(count)]


def texts(answers):
    return [answer and answer.text for answer in answers]


def good(count):
    return [f"re: question {i}" for i in range(count)]


def rows(path, sql):
    with sqlite3.connect(path / "journal.sqlite") as db:
        return db.execute(sql).fetchall()
