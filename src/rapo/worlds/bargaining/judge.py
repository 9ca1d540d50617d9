"""The embedded judge of bargaining: reads context, candidates and echoes as a language-model judge would, no more."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapo.hindsight.feedback import JudgeRequest, Verdict
from rapo.worlds.bargaining.blind import judge_replies
from rapo.worlds.bargaining.language import critique, prices_in
from rapo.worlds.bargaining.reader import BUYING, read_need
from rapo.worlds.text import sentences

# How the first words of an echo read, best first; the place in the list is the rank class.
LANDINGS = (
    r"a deal|wanted to hear|helps me a lot",
    r"something|better",
    r"\bhm\b|if you",
    r"\bquick\b|feared",
    r"^no\b|not help",
    r"worse and worse|getting worse|do not like",
    r"goodbye|end this|sense|follow",
)
COMPLAINTS = {
    "lost": r"no sense|follow you",
    "pressure": r"tone|force me",
    "stock": r"just talk|anyone (would )?says? that|anyone would say",
    "repeated": r"said that before|^that again|^again that|said the same",
    "invented": r"never said|get that from",
    "crowded": r"too many things|one thing",
    "parroted": r"own words|repeat me",
    "extreme": r"joke|sort of number",
    "backtrack": r"you had another|go back",
    "mismatch": r"number i gave|gave another",
    "noprice": r"your number\?|your number is what|and the number",
    "vague": r"to anyone|exact",
    "missed": r"answer me|asked (for|you) something",
    "stalled": r"hear me|meant",
    "early": r"quick|feared",
}


class BargainingJudge:
    """A scripted generative reward model: it sees what was said, never a state or a hidden profile.

    Without echoes it reads context and replies alone (``blind.py``).
    """

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        """Ranks with ties by how the echoes sound and what they offer, and a critique per reply: what to change."""
        return [self._verdict(request) if request.reactions else judge_replies(request) for request in requests]

    def _verdict(self, request: JudgeRequest) -> Verdict:
        said = request.context[-1].content
        pairs = [(reply, echo.text) for reply, echo in zip(request.replies, request.reactions, strict=True)]
        places = [(landing(echo), -progress(said, reply, echo)) for reply, echo in pairs]
        ranks = tuple(1.0 + sum(other < mine for other in places) for mine in places)
        wanted = read_need(said) or "ask"
        return Verdict(ranks, tuple(criticise(reply, echo, wanted) for reply, echo in pairs))


def landing(echo: str) -> int:
    """How an echo sounds, 0 (it moved the partner) to 6 (the partner could not follow, or is gone)."""
    first = _beginning(echo)
    return next((i for i, pattern in reversed(list(enumerate(LANDINGS))) if re.search(pattern, first)), 2)


def progress(said: str, reply: str, echo: str) -> int:
    """How much better for the policy the price is that stands after an echo than the one before it."""
    before = prices_in(said)
    after = prices_in(echo) or prices_in(reply) or before
    if not before or landing(echo) == len(LANDINGS) - 1:
        return 0
    return (after[0] - before[0]) * (1 if BUYING.search(said.lower()) else -1)


def complaint(echo: str) -> str | None:
    """What the partner holds against the reply, or gives away about it, if the echo says so."""
    said = [sentence.lower() for sentence in sentences(echo)[:2]]
    return next((name for name, pattern in COMPLAINTS.items() if any(re.search(pattern, s) for s in said)), None)


def criticise(reply: str, echo: str, wanted: str) -> str:
    """What to change, or that nothing needs to change."""
    problem = complaint(echo) if landing(echo) > 0 else None
    return critique(problem, wanted, key=(reply, echo), good=landing(echo) <= 1 and problem is None)


def _beginning(echo: str) -> str:
    return sentences(echo)[0].lower() if echo.strip() else ""
