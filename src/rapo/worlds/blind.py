"""How an embedded judge ranks replies that nobody has answered: it reads as well as ever, and no echo tells it more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from rapo.hindsight.feedback import JudgeRequest, Verdict

Need = TypeVar("Need", bound="str | None")


@dataclass(frozen=True, slots=True)
class Guess:
    """What a plain reader expects of a reply.

    Attributes:
        fit: 0 (another move than the cue asks for) to 2.
        faults: what can be held against it, the worst first.
    """

    fit: int
    faults: tuple[str, ...]

    @property
    def place(self) -> tuple[bool, int]:
        """Lower is better; every fault weighs the same: who minds which is hidden."""
        return "lost" in self.faults, len(self.faults) - self.fit


def judge_replies(
    request: JudgeRequest,
    wanted: Need,
    guess: Callable[[JudgeRequest, str, Need], Guess],
    critique: Callable[..., str],
) -> Verdict:
    """Ranks with ties by fit to what is wanted and by visible faults.

    Args:
        request: without echoes.
        wanted: the need that the user's last words show.
        guess: reads a reply.
        critique: ``critique(fault, wanted, key=, good=)`` words what it made of it; a critique names the worst fault.
    """
    guesses = [guess(request, reply, wanted) for reply in request.replies]
    places = [each.place for each in guesses]
    critiques = [
        critique(next(iter(each.faults), None), wanted, key=(reply,), good=each.fit == 2 and not each.faults)
        for reply, each in zip(request.replies, guesses, strict=True)
    ]
    return Verdict(tuple(1.0 + sum(other < mine for other in places) for mine in places), tuple(critiques))
