"""The journal of calls: every request and answer is on disk before it is used, and no answer is paid for twice.

One SQLite file in WAL mode, which several processes of one machine may share. ``synchronous=NORMAL``: whatever was
stored survives the death of the process (``kill -9``); after a power cut the file is whole, and the answers of the last
seconds may have to be asked again. ``FULL`` would survive that too, for a disk flush at both ends of every attempt.

Tables: ``answers`` (one row per request; its claim while it is under way), ``attempts`` (the ledger, one row per HTTP
attempt) and ``totals`` (the ledger's sums per role, so that a budget is checked without adding up everything; models
in this process have rows of their own).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Literal

from rapo.config.sections import ModelSpec
from rapo.errors import RunError
from rapo.models.chat import ChatAnswer, ChatRequest
from rapo.models.owner import alive, this_process
from rapo.models.retry import RetryBudget, Stop

Role = Literal["user", "judge", "evaluation", "policy"]
VERSION = 1
_APPLICATION = 0x5241504F
_BUSY_SECONDS = 60.0
# A claim is renewed with every attempt; so much silence beyond its deadline from another machine's process voids it.
LEASE = 120.0
_RENEW = 30.0
# Ends the name of a role's second row of totals: models in this process, which no budget is for.
LOCAL = " local"
TOTALS_BY_ROLE = (
    "SELECT replace(role, ?, ''), sum(calls), sum(attempts), sum(answers), sum(failed), sum(prompt_tokens),"
    " sum(completion_tokens), sum(cost) FROM totals GROUP BY 1"
)
_TABLES = """
CREATE TABLE answers (
  key TEXT PRIMARY KEY, state TEXT NOT NULL CHECK (state IN ('claimed', 'answered', 'failed')),
  rejected INTEGER NOT NULL DEFAULT 0, role TEXT NOT NULL, model TEXT NOT NULL, purpose TEXT NOT NULL,
  request TEXT NOT NULL, text TEXT, finished INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER,
  owner TEXT NOT NULL, expires REAL NOT NULL);
CREATE INDEX claims ON answers (owner) WHERE state = 'claimed';
CREATE TABLE attempts (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL, owner TEXT NOT NULL,
  started REAL NOT NULL, ended REAL, outcome TEXT, status INTEGER,
  reserved_prompt INTEGER NOT NULL, reserved_answer INTEGER NOT NULL, reserved_cost REAL NOT NULL,
  prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL);
CREATE INDEX open_attempts ON attempts (owner) WHERE outcome IS NULL;
CREATE TABLE totals (
  role TEXT PRIMARY KEY, calls INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
  answers INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, prompt_tokens INTEGER NOT NULL DEFAULT 0,
  completion_tokens INTEGER NOT NULL DEFAULT 0, cost REAL NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """What one role has used.

    Attributes:
        calls: requests that were sent to a model.
        attempts: HTTP requests made for them.
        answers: calls that got an answer.
        failed: calls whose attempts all failed.
        prompt_tokens: read by the models; attempts under way and of unknown outcome count at their upper bound.
        completion_tokens: written by the models, likewise.
        cost: by the prices in the config, likewise.
    """

    calls: int = 0
    attempts: int = 0
    answers: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Average:
    """What one answered attempt of a role took: seconds, tokens read and written, cost."""

    seconds: float
    prompt_tokens: float
    completion_tokens: float
    cost: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What the journal says to some requests.

    Attributes:
        found: the answers it has.
        mine: the keys that are now the asker's to ask for; the rest is under way elsewhere.
        theirs: of other processes' claims the last to expire: whose, and when (seconds since the epoch).
    """

    found: Mapping[str, ChatAnswer | None]
    mine: frozenset[str]
    theirs: tuple[str, float] | None = None


class Journal:
    """The journal at ``path``, made if it is missing; may be used from several threads.

    Attributes:
        path: the file.
        owner: this process's name in it.
        retries: the retry budget of all models that share this object.
        stop: why none of them may start an attempt.

    Raises:
        RunError: the file is not a journal, is one of another version, or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.owner, self.retries, self.stop = path, this_process(), RetryBudget(), Stop()
        self._lock = threading.RLock()
        self._asking = dict[str, int]()  # which thread of this process asks for a key
        self._renewed = 0.0
        self._unusable = set[str]()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and _head(path) not in (b"", b"SQLite format 3\0"):
                raise _foreign(path)
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            with self.write() as db:
                self._create(db)
            self._pragma("journal_mode=WAL")
            self._pragma("synchronous=NORMAL")
        except (sqlite3.Error, OSError) as error:
            raise RunError(f"{path} cannot be used as a journal", got=str(error), fix="give another file") from None
        self._bury()

    def close(self) -> None:
        """Close the file; SQLite must not be in the middle of something for another thread."""
        with self._lock:
            self._db.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that no other process can come between; raises RunError where the file cannot be written."""
        with self._lock:
            try:
                try:
                    self._db.execute("BEGIN IMMEDIATE")
                    yield self._db
                    self._db.execute("COMMIT")
                finally:
                    # After a full disk SQLite has rolled back by itself.
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise RunError(
                    f"the journal {self.path} cannot be written", got=str(error), fix="make room or end who holds it"
                ) from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A look into the file; raises RunError where it cannot be read."""
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise RunError(
                    f"the journal {self.path} cannot be read", got=str(error), fix="restore a copy, or remove it"
                ) from error

    def take(self, spec: ModelSpec, role: Role, requests: Mapping[str, ChatRequest]) -> Taken:
        """The answers to requests by key; of the others, those nobody alive is asking for are claimed.

        Only other processes and threads are waited for: within a thread whoever waits is the one who is waited for.
        """
        found = self._answers(requests)
        wanted = {key: request for key, request in requests.items() if key not in found}
        if not wanted:
            return Taken(found, frozenset())
        with self._lock:
            with self.write() as db:
                found |= (late := self._answers(wanted))
                claims = {key: self._claimant(key) for key in wanted.keys() - late.keys()}
                free = (key for key, claim in claims.items() if claim is None)
                mine = frozenset(key for key in free if self._asking.get(key, get_ident()) == get_ident())
                self._claim(db, spec, role, {key: request for key, request in wanted.items() if key in mine})
            self._asking.update(dict.fromkeys(mine, get_ident()))
        theirs = [claim for claim in claims.values() if claim is not None]
        return Taken(found, mine, max(theirs, key=lambda claim: claim[1], default=None))

    def answer(self, key: str) -> tuple[bool, ChatAnswer | None]:
        """Whether the journal holds the outcome of a request, and the answer."""
        found = self._answers([key])
        return key in found, found.get(key)

    def settled(self, key: str) -> None:
        """Note that the outcome of a request is stored: no thread asks for it any more."""
        with self._lock:
            self._asking.pop(key, None)

    def release(self, keys: Collection[str]) -> None:
        """Give up claims that :meth:`take` gave, so that others need not wait."""
        for key in keys:
            self.settled(key)
        with self.write() as db:
            db.executemany(
                "DELETE FROM answers WHERE key = ? AND state = 'claimed' AND owner = ?",
                [(key, self.owner) for key in keys],
            )

    def renew(self, db: sqlite3.Connection, seconds: float) -> None:
        """Let this process's claims last ``seconds`` from now at least; twice a minute at most."""
        if time.monotonic() - self._renewed > _RENEW:
            self._renewed = time.monotonic()
            db.execute(
                "UPDATE answers SET expires = max(expires, ?) WHERE owner = ? AND state = 'claimed'",
                (time.time() + seconds, self.owner),
            )

    def reject(self, keys: Iterable[str]) -> None:
        """Mark answers as unusable; they stay as they are until :meth:`void_unusable`."""
        with self.write() as db:
            self._unusable |= (rejected := set(keys))
            db.executemany("UPDATE answers SET rejected = 1 WHERE key = ?", [(key,) for key in rejected])

    def void_unusable(self) -> int:
        """Forget the failed and rejected answers that this object has met, so that they are asked for again.

        Those of others who share the file are part of their results. What the answers cost stays in the ledger.

        Returns:
            How many.
        """
        with self.write() as db:
            met = [(key,) for key in self._unusable]
            return db.executemany("DELETE FROM answers WHERE key = ? AND (state = 'failed' OR rejected)", met).rowcount

    def totals(self) -> dict[str, Totals]:
        """What each role has used, over the whole life of the journal."""
        with self.read() as db:
            rows = db.execute(TOTALS_BY_ROLE, (LOCAL,)).fetchall()
        return {role: Totals(*counts) for role, *counts in rows}

    def averages(self) -> dict[tuple[Role, str], Average]:
        """What an answered attempt took on average, by role and the first word of its purpose, such as "user"."""
        with self.read() as db:
            rows = db.execute(
                "SELECT t.role, substr(a.purpose, 1, instr(a.purpose || '.', '.') - 1), avg(t.ended - t.started),"
                " avg(t.prompt_tokens), avg(t.completion_tokens), avg(t.cost)"
                " FROM attempts t JOIN answers a USING (key) WHERE t.outcome = 'answered' GROUP BY 1, 2"
            ).fetchall()
        return {(role, word): Average(*means) for role, word, *means in rows}

    def _answers(self, keys: Iterable[str]) -> dict[str, ChatAnswer | None]:
        found: dict[str, ChatAnswer | None] = {}
        with self.read() as db:
            for key in keys:
                row = db.execute(
                    "SELECT state, text, finished, prompt_tokens, completion_tokens FROM answers"
                    " WHERE key = ? AND state != 'claimed'",
                    (key,),
                ).fetchone()
                if row is not None:
                    state, text, finished, prompt, completion = row
                    found[key] = ChatAnswer(text, bool(finished), prompt, completion) if state == "answered" else None
            self._unusable.update(key for key, answer in found.items() if answer is None)
        return found

    def _claim(self, db: sqlite3.Connection, spec: ModelSpec, role: Role, requests: Mapping[str, ChatRequest]) -> None:
        name, expires = spec.name or spec.path, time.time() + LEASE + 2 * spec.timeout
        db.executemany(
            "INSERT INTO answers (key, state, role, model, purpose, request, owner, expires)"
            " VALUES (?, 'claimed', ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, expires = excluded.expires",
            [
                (key, role, name, request.purpose, request.as_json(), self.owner, expires)
                for key, request in requests.items()
            ],
        )

    def _claimant(self, key: str) -> tuple[str, float] | None:
        """The other live process that is asking for ``key``, and when its claim expires."""
        claim = "SELECT owner, expires FROM answers WHERE key = ? AND owner != ? AND expires > ?"
        row = self._db.execute(claim, (key, self.owner, time.time())).fetchone()
        return (row[0], row[1]) if row is not None and alive(row[0]) else None

    def _create(self, db: sqlite3.Connection) -> None:
        application, version, tables = (
            db.execute(f"SELECT {what}").fetchone()[0]
            for what in (
                "application_id FROM pragma_application_id",
                "user_version FROM pragma_user_version",
                "count(*) FROM sqlite_master",
            )
        )
        if not tables and not application:
            for statement in _TABLES.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {VERSION}")
        elif application != _APPLICATION:
            raise _foreign(self.path)
        elif version != VERSION:
            raise RunError(
                f"the journal {self.path} has another version",
                got=version,
                expected=str(VERSION),
                fix="read it with the version of rapo that wrote it, or give another file",
            )

    def _pragma(self, setting: str) -> None:
        # Switching to WAL takes a lock that SQLite does not wait for when two processes start together.
        for _ in range(100):
            try:
                self._db.execute(f"PRAGMA {setting}")
            except sqlite3.OperationalError:
                time.sleep(0.05)
            else:
                return
        self._db.execute(f"PRAGMA {setting}")

    def _bury(self) -> None:
        """Settle what processes left open that are no more: nobody knows what became of their attempts."""
        with self.write() as db:
            owners = [row[0] for row in db.execute("SELECT DISTINCT owner FROM attempts WHERE outcome IS NULL")]
            for owner in owners:
                if not alive(owner):
                    db.execute(
                        "UPDATE attempts SET outcome = 'killed', ended = ?, prompt_tokens = reserved_prompt,"
                        " completion_tokens = reserved_answer, cost = reserved_cost"
                        " WHERE owner = ? AND outcome IS NULL",
                        (time.time(), owner),
                    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _foreign(path: Path) -> RunError:
    return RunError(f"{path} is not a journal", expected="a file that a run has written", fix="give another file")
