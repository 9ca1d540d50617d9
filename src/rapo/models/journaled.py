"""A model whose answers are on disk before they are used, and are never asked for twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rapo.models.chat import ChatAnswer, ChatModel, ChatRequest
from rapo.models.journal import Taken
from rapo.models.ledger import Account
from rapo.overlap import concurrency

_POLL = 0.1


@dataclass(slots=True)
class Journaled:
    """``model``, asked only for what the journal of ``account`` does not hold.

    Attributes:
        model: whoever is asked.
        account: whose journal keeps the answers.
        notice: told once when answers are waited for that another process is asking for.
    """

    model: ChatModel
    account: Account
    notice: Callable[[str], None]
    _told: bool = False

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name

    @property
    def concurrency(self) -> int:
        """The model's."""
        return concurrency(self.model)

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        """Every request's answer: from the journal at once; what is being asked for elsewhere, when it is there.

        Requests alike are asked once, and a failed one replays as None.

        Raises:
            EndpointError: the model cannot be asked.
            BudgetError: the next attempt could exceed the budget.
            RunError: the journal cannot be written.
        """
        places: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            places.setdefault(self.account.key(request), []).append(place)
        journal, claimed = self.account.journal, set[str]()
        waiting = {key: requests[some[0]] for key, some in places.items()}
        try:
            while waiting:
                began = time.monotonic()
                taken = journal.take(self.account.spec, self.account.role, waiting)
                claimed |= taken.mine
                for key, answer in taken.found.items():
                    del waiting[key]
                    for place in places[key]:
                        yield place, answer
                mine = [key for key in waiting if key in taken.mine]
                for number, answer in self.model.answers([waiting[key] for key in mine]) if mine else ():
                    kept = self.account.store(waiting[mine[number]], answer)
                    del waiting[mine[number]]
                    claimed.remove(mine[number])
                    journal.settled(mine[number])
                    for place in places[mine[number]]:
                        yield place, kept
                if waiting and not mine:
                    self._tell(taken)
                    # Looking takes the lock that the others need to store what is waited for.
                    time.sleep(max(_POLL, 5 * (time.monotonic() - began)))
        finally:
            # Also when the caller stops in the middle: nobody shall wait for what nobody asks.
            if claimed:
                journal.release(claimed)

    def reject(self, requests: Sequence[ChatRequest]) -> None:
        """Mark the answers to ``requests`` as unusable: ``Journal.void_unusable`` makes them be asked for again."""
        self.account.reject(requests)

    def _tell(self, taken: Taken) -> None:
        """Give notice, once, of whom this process waits for."""
        if taken.theirs is not None and not self._told:
            self._told = True
            (host, pid, _), until = taken.theirs[0].rsplit(" ", 2), taken.theirs[1]
            last = time.strftime("%H:%M:%S", time.localtime(until))
            self.notice(
                f"{self.name}: waits for answers that process {pid} on {host!r} is asking for,"
                f" until {last} at the latest unless it asks on"
            )
