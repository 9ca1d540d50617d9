"""A model whose answers are on disk before they are used, and are never asked for twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapo.models.chat import ChatAnswer, ChatModel, ChatRequest
from rapo.models.ledger import Account

_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Journaled:
    """``model``, asked only for what the journal of ``account`` does not hold."""

    model: ChatModel
    account: Account

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        """Every request's answer: from the journal at once; what another process is asking for, when it has it.

        Requests alike are asked once, and a failed one replays as None.

        Raises:
            EndpointError: the model cannot be asked.
            BudgetError: the next attempt could exceed the budget.
            RunError: the journal cannot be written.
        """
        places: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            places.setdefault(self.account.key(request), []).append(place)
        waiting = {key: requests[some[0]] for key, some in places.items()}
        while waiting:
            began = time.monotonic()
            taken = self.account.journal.take(self.account.spec, self.account.role, waiting)
            for key, answer in taken.found.items():
                del waiting[key]
                for place in places[key]:
                    yield place, answer
            mine = [key for key in waiting if key in taken.mine]
            for key, answer in self._ask({key: waiting[key] for key in mine}):
                del waiting[key]
                for place in places[key]:
                    yield place, answer
            if waiting and not mine:
                # Looking takes the lock that the others need to store what is waited for.
                time.sleep(max(_POLL, 5 * (time.monotonic() - began)))

    def reject(self, requests: Sequence[ChatRequest]) -> None:
        """Mark the answers to ``requests`` as unusable: ``Journal.void_unusable`` makes them be asked for again."""
        self.account.reject(requests)

    def _ask(self, asked: dict[str, ChatRequest]) -> Iterator[tuple[str, ChatAnswer | None]]:
        keys, left = list(asked), set(asked)
        try:
            for place, answer in self.model.answers(list(asked.values())) if asked else ():
                kept = self.account.store(asked[keys[place]], answer)
                left.discard(keys[place])
                yield keys[place], kept
        finally:
            # Also when the caller stops in the middle: nobody shall wait for what nobody asks.
            self.account.journal.release(left)
