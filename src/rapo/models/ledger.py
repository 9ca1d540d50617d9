"""What calls cost: every attempt is written down at its worst before it is sent, and at its true cost after."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from rapo.config.sections import Calls, ModelSpec
from rapo.errors import BudgetError
from rapo.models.chat import ChatAnswer, ChatRequest
from rapo.models.journal import LEASE, LOCAL, Journal, Role


def request_key(spec: ModelSpec, request: ChatRequest, identity: str = "") -> str:
    """What makes two requests one call: model, sampling, messages, purpose, seed and schema; not where it runs.

    A model is known by its name, and one in this process by its ``identity`` too.
    """
    known = [identity] if identity else []
    sampling = json.dumps([spec.name or spec.path, spec.temperature, spec.max_tokens, *known])
    return blake2b(f"[{sampling},{request.as_json()}]".encode(), digest_size=20).hexdigest()


def spent(journal: Journal, calls: Calls) -> dict[str, float]:
    """The share of each budget that is spent or under way, by its key; those without a limit are absent."""
    with journal.read() as db:
        return {f"calls.{name}": used / limit for name, (used, limit) in _budgets(db, calls).items() if limit}


def _budgets(db: sqlite3.Connection, calls: Calls) -> dict[str, tuple[float, float | None]]:
    """What counts against each budget, and its limit."""
    used = db.execute(
        "SELECT coalesce(sum(attempts), 0), coalesce(sum(prompt_tokens + completion_tokens), 0),"
        " coalesce(sum(cost), 0) FROM totals WHERE role NOT LIKE ?",
        ("%" + LOCAL,),
    ).fetchone()
    limits = {"max_calls": calls.max_calls, "max_tokens": calls.max_tokens, "max_cost": calls.max_cost}
    return {name: (mine, limit) for mine, (name, limit) in zip(used, limits.items(), strict=True)}


@dataclass(frozen=True, slots=True)
class Account:
    """One model in one role, and the journal that keeps its answers and its costs.

    The budget is that of the whole journal: all its roles, endpoints, runs and processes together.

    Attributes:
        journal: where everything is written.
        role: on whose behalf the model is asked.
        spec: the model's name, sampling and prices.
        calls: the budget.
        identity: what tells the model from others of its name.
    """

    journal: Journal
    role: Role
    spec: ModelSpec
    calls: Calls
    identity: str = ""

    def key(self, request: ChatRequest) -> str:
        """The key of a request in the journal."""
        return request_key(self.spec, request, self.identity)

    def start(self, request: ChatRequest, size: int, *, first: bool) -> int:
        """Write down an attempt about to be sent, at the most it can cost; ``first`` of its call.

        Args:
            request: what is asked.
            size: bytes of the HTTP body: no fewer than the tokens of the prompt.
            first: whether the call had no attempt before.

        Returns:
            The attempt's number.

        Raises:
            BudgetError: everything spent, under way, and this attempt at its worst exceed the budget.
        """
        cost = self._cost(size, self.spec.max_tokens)
        with self.journal.write() as db:
            self._afford(db, size + self.spec.max_tokens, cost)
            self.journal.renew(db, LEASE + 2 * self.spec.timeout)
            self._count(db, calls=int(first), attempts=1, prompt=size, answer=self.spec.max_tokens, cost=cost)
            row = db.execute(
                "INSERT INTO attempts (key, role, model, owner, started, reserved_prompt, reserved_answer,"
                " reserved_cost) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self.key(request),
                    self.role,
                    self.spec.name or self.spec.path,
                    self.journal.owner,
                    time.time(),
                    size,
                    self.spec.max_tokens,
                    cost,
                ),
            )
            return int(row.lastrowid or 0)

    def finish(
        self,
        attempt: int,
        request: ChatRequest,
        outcome: str,
        *,
        status: int | None = None,
        tokens: tuple[int, int] | None = None,
        answer: ChatAnswer | None = None,
    ) -> None:
        """Write down how an attempt ended and, in the same transaction, the answer if it brought one.

        Args:
            attempt: its number.
            request: what was asked.
            outcome: one word.
            status: the HTTP status, if there was one.
            tokens: (prompt, answer) tokens to be paid for; None keeps the reservation: nobody knows.
            answer: the answer.
        """
        with self.journal.write() as db:
            held = db.execute(
                "SELECT reserved_prompt, reserved_answer, reserved_cost FROM attempts WHERE id = ?", (attempt,)
            ).fetchone()
            prompt, written = tokens or held[:2]
            cost = self._cost(prompt, written) if tokens else held[2]
            db.execute(
                "UPDATE attempts SET ended = ?, outcome = ?, status = ?, prompt_tokens = ?, completion_tokens = ?,"
                " cost = ? WHERE id = ?",
                (time.time(), outcome, status, prompt, written, cost, attempt),
            )
            self._count(db, prompt=prompt - held[0], answer=written - held[1], cost=cost - held[2])
            if answer is not None:
                self._keep(db, request, answer)

    def give_up(self, request: ChatRequest) -> None:
        """Store that all attempts of a call failed."""
        with self.journal.write() as db:
            self._keep(db, request, None)

    def store(self, request: ChatRequest, answer: ChatAnswer | None) -> ChatAnswer | None:
        """Store the outcome of a call made without HTTP, unless there is one; the one that counts from here on."""
        key = self.key(request)
        known, stored = self.journal.answer(key)
        if known:
            return stored
        with self.journal.write() as db:
            self.journal.renew(db, LEASE + 2 * self.spec.timeout)
            read, written = (answer.prompt_tokens, answer.completion_tokens) if answer else (0, 0)
            self._count(db, calls=1, prompt=read, answer=written, cost=self._cost(read, written), row=self.role + LOCAL)
            self._keep(db, request, answer)
        return self.journal.answer(key)[1]

    def reject(self, requests: Iterable[ChatRequest]) -> None:
        """Mark the answers to these requests as unusable."""
        self.journal.reject([self.key(request) for request in requests])

    def _keep(self, db: sqlite3.Connection, request: ChatRequest, answer: ChatAnswer | None) -> None:
        """The first outcome stays, also where a second process or thread asked as well."""
        state = "failed" if answer is None else "answered"
        content = answer or ChatAnswer("", finished=False)
        kept = db.execute(
            "INSERT INTO answers (key, state, role, model, purpose, request, text, finished, prompt_tokens,"
            " completion_tokens, owner, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"
            " ON CONFLICT (key) DO UPDATE SET state = excluded.state, text = excluded.text,"
            " finished = excluded.finished, prompt_tokens = excluded.prompt_tokens,"
            " completion_tokens = excluded.completion_tokens WHERE state = 'claimed'",
            (
                self.key(request),
                state,
                self.role,
                self.spec.name or self.spec.path,
                request.purpose,
                request.as_json(),
                content.text,
                content.finished,
                content.prompt_tokens,
                content.completion_tokens,
                self.journal.owner,
            ),
        ).rowcount
        if kept:
            self._count(db, answers=int(answer is not None), failed=int(answer is None))

    def _cost(self, prompt: int, answer: int) -> float:
        return (prompt * self.spec.price_in + answer * self.spec.price_out) / 1e6

    def _afford(self, db: sqlite3.Connection, tokens: int, cost: float) -> None:
        for (name, (used, limit)), more in zip(_budgets(db, self.calls).items(), (1, tokens, cost), strict=True):
            if limit is not None and used + more > limit:
                raise BudgetError(
                    f"the next call could exceed the budget calls.{name}",
                    got=f"{used:,.10g} spent and under way, and up to {more:,.10g} for this one",
                    expected=f"at most {limit:,.10g} for everything in {self.journal.path}",
                    fix=f"raise calls.{name} and go on with: rapo resume RUN",
                )

    def _count(
        self,
        db: sqlite3.Connection,
        *,
        calls: int = 0,
        attempts: int = 0,
        answers: int = 0,
        failed: int = 0,
        prompt: int = 0,
        answer: int = 0,
        cost: float = 0.0,
        row: str | None = None,
    ) -> None:
        db.execute(
            "INSERT INTO totals (role, calls, attempts, answers, failed, prompt_tokens, completion_tokens, cost)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (role) DO UPDATE SET calls = calls + excluded.calls,"
            " attempts = attempts + excluded.attempts, answers = answers + excluded.answers,"
            " failed = failed + excluded.failed, prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
            " completion_tokens = completion_tokens + excluded.completion_tokens, cost = cost + excluded.cost",
            (row or self.role, calls, attempts, answers, failed, prompt, answer, cost),
        )
