"""What a user simulator is: anything that answers a reply with a reaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rapo.overlap import concurrency
from rapo.types import EchoRequest, Reaction, Scenario


class UserSimulator(Protocol):
    """Plays the user. Stateless: everything it needs is in the request, so any turn can be branched.

    With an attribute ``concurrency`` of 1 or more it is asked request by request, from so many threads at once, while
    replies are sampled elsewhere. Without it, all requests that are there come in one call.
    """

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        """``count`` scenarios to play, the same ones for the same seed."""
        ...

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """One reaction per request, in order; None where none could be had (the reply is then left out of training)."""
        ...


class WrappedUsers:
    """The users of a simulator as they are; whoever inherits sees or changes how they react."""

    def __init__(self, users: UserSimulator) -> None:
        self._users = users

    @property
    def concurrency(self) -> int:
        """The simulator's."""
        return concurrency(self._users)

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        """The simulator's."""
        return self._users.scenarios(count, seed)

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """The simulator's."""
        return self._users.react(requests)
