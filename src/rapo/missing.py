"""What did not come back: counted, and too much of it stops a run before it learns or reports from the rest."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from rapo.errors import EndpointError
from rapo.interact.play import Speaker
from rapo.interact.users import UserSimulator, WrappedUsers
from rapo.types import Dialogue, EchoRequest, Reaction


class CountingUsers(WrappedUsers):
    """A user simulator that counts how often it is asked and how often it gives no answer."""

    def __init__(self, users: UserSimulator) -> None:
        super().__init__(users)
        self._lock, self.calls, self.missing = threading.Lock(), 0, 0

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """The simulator's."""
        reactions = super().react(requests)
        with self._lock:
            self.calls += len(requests)
            self.missing += sum(reaction is None for reaction in reactions)
        return reactions


class CountingSpeaker:
    """A speaker that counts how often it is asked and how often it gives no reply."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker, self.calls, self.missing = speaker, 0, 0

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        """The speaker's."""
        replies = list(self._speaker.reply(dialogues, seeds))
        self.calls += len(replies)
        self.missing += replies.count(None)
        return replies


def demand(what: str, *, missing: int, asked: int, limit: float) -> None:
    """Raise EndpointError when more than ``limit`` (a share, ``calls.max_missing``) of what was asked is missing."""
    if missing > limit * asked:
        raise EndpointError(
            f"{missing} of {asked} {what} are missing",
            expected=f"at most {limit:.0%} (calls.max_missing)",
            fix="look at the endpoint with rapo check, mend it, and start again (a run: rapo resume RUN)",
        )


def demand_any(what: str, *, missing: int, asked: int) -> None:
    """Raise EndpointError when all that was asked is missing: no figure can be had of it, whatever may be missing."""
    if missing == asked:
        raise EndpointError(
            f"all {asked} {what} are missing",
            expected="at least one, whatever calls.max_missing allows",
            fix="look at the endpoint with rapo check, mend it, and give the command again",
        )
