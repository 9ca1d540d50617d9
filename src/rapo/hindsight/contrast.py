"""A judge without a language model: it ranks by how the user was after each reply and lets the echoes speak."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from rapo.errors import ConfigError
from rapo.hindsight.feedback import JudgeRequest, Verdict, tells_author

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")


class ContrastJudge:
    """Ranks a group by state; its critiques quote the echoes and the reply the user took best.

    A quotation that would tell the author of another reply something of the hidden profile is left out.

    Replies are sorted by state and cut into ties: a tie holds every reply within ``tolerance`` of its best one, so a
    long chain of small steps does not become one tie. The replies of a tie share their mean rank.

    Args:
        tolerance: difference in state, on the scenario's scale, up to which replies are equally good.
        quote: characters of a quotation, at most.

    Raises:
        ConfigError: an argument is out of range.
    """

    concurrency = 1  # it waits for nobody, and need not wait for all groups either

    def __init__(self, tolerance: float = 0.1, quote: int = 200) -> None:
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ConfigError("judge.tie is out of range", got=tolerance, expected="0 or more", fix="change it")
        if quote < 20:
            raise ConfigError("judge.quote is out of range", got=quote, expected="20 or more", fix="change it")
        self._tolerance, self._quote = tolerance, quote

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        """One verdict per request, in order; None for a group without replies or with a state that is no number."""
        return [self._verdict(request) for request in requests]

    def _verdict(self, request: JudgeRequest) -> Verdict | None:
        states = [reaction.state for reaction in request.reactions]
        if not states or not all(map(math.isfinite, states)):
            return None
        ranks = tied_ranks(states, self._tolerance)
        return Verdict(ranks, tuple(self._critique(request, ranks, place) for place in range(len(ranks))))

    def _critique(self, request: JudgeRequest, ranks: tuple[float, ...], place: int) -> str:
        echoes = [self._said(reaction.text) for reaction in request.reactions]
        answered = f"The user answered: {echoes[place]}."
        if len(set(ranks)) == 1:
            return f"{answered} The user took every reply of this group alike; none is a model for the others."
        if ranks[place] == min(ranks):
            return f"{answered} No reply of this group was received better: keep what it does."
        best = max(range(len(ranks)), key=lambda one: (request.reactions[one].state, request.replies[one], echoes[one]))
        better = self._said(request.replies[best])
        told = (f"the reply {better}: to it the user said {echoes[best]}", f"the reply {better}", "another reply")
        critiques = [f"{answered} Better received was {each}." for each in told]
        # What the user told the author of the best reply only, the others must not learn.
        return next((each for each in critiques if not tells_author(request, place, each)), critiques[-1])

    def _said(self, text: str) -> str:
        """A quotation on one line, shortened, without control characters; "nothing" for no words."""
        flat = " ".join(_ANSI.sub("", text).split())
        flat = "".join(char for char in flat if char.isprintable()).replace("“", '"').replace("”", '"')
        if not flat:
            return "nothing"
        return f"“{flat}”" if len(flat) <= self._quote else f"“{flat[: self._quote - 1].rstrip()}…”"


def tied_ranks(states: Sequence[float], tolerance: float) -> tuple[float, ...]:
    """Ranks of the states, 1 for the highest; states within ``tolerance`` of a tie's first share their mean rank."""
    order = sorted(range(len(states)), key=lambda one: -states[one])
    ties: list[list[int]] = []
    for one in order:
        # The slack is for sums that binary fractions miss by a hair, such as 0.3 - 0.2 <= 0.1.
        if ties and states[ties[-1][0]] - states[one] <= tolerance + 1e-9:
            ties[-1].append(one)
        else:
            ties.append([one])
    ranks, before = [0.0] * len(states), 0
    for tie in ties:
        for one in tie:
            ranks[one] = before + (len(tie) + 1) / 2
        before += len(tie)
    return tuple(ranks)
