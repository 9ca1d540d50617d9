"""The embedded judge: reads context, candidates and echoes as a language-model judge would, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapo.hindsight.feedback import JudgeRequest, Verdict
from rapo.worlds.support.blind import judge_replies
from rapo.worlds.support.language import critique
from rapo.worlds.support.reader import read_need
from rapo.worlds.text import sentences

# How the first words of an echo read, best first; the place in the list is the rank class.
LANDINGS = (
    r"exactly|thank you|let me tell|weight|breathe|really do|can do|calms me|will do|lighter|be fine",
    r"maybe|a little|suppose",
    r"do not know|if you say so|well",
    r"\bno\b|does not help|not really",
    r"forget it|worse|hurts|stop here|someone else",
    r"follow|sense|are you saying",
)
COMPLAINTS = {
    "lost": r"follow|sense",
    "advice": r"telling me what to do|ask for advice",
    "stock": r"everybody says|cards",
    "invented": r"never said|where did you get",
    "crowded": r"too much|slow down",
    "parroted": r"own words|repeat me",
    "repeated": r"said that before|said before|\bagain\.$",
    "unfit": r"nothing to do|would that help|not help with",
    "vague": r"to anyone|about me|anyone could",
    "missed": r"not what i need|asking for|need something else",
}


class SupportJudge:
    """A scripted generative reward model: it sees what was said, never a state or a hidden profile.

    Without echoes it reads context and replies alone (``blind.py``).
    """

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        """Ranks with ties by how the echoes sound, and a critique per reply that names what to change."""
        return [self._verdict(request) if request.reactions else judge_replies(request) for request in requests]

    def _verdict(self, request: JudgeRequest) -> Verdict:
        classes = [landing(echo.text) for echo in request.reactions]
        ranks = tuple(1.0 + sum(other < mine for other in classes) for mine in classes)
        wanted = read_need(request.context[-1].content)
        critiques = tuple(
            criticise(reply, echo.text, wanted or read_need(echo.text))
            for reply, echo in zip(request.replies, request.reactions, strict=True)
        )
        return Verdict(ranks, critiques)


def landing(echo: str) -> int:
    """How an echo sounds, 0 (it helped) to 5 (it could not be followed)."""
    first = _beginning(echo)
    return next((i for i, pattern in reversed(list(enumerate(LANDINGS))) if re.search(pattern, first)), 2)


def complaint(echo: str) -> str | None:
    """What the seeker holds against the reply, if the echo says so."""
    said = [sentence.lower() for sentence in sentences(echo)[:3]]
    return next((name for name, pattern in COMPLAINTS.items() if any(re.search(pattern, s) for s in said)), None)


def criticise(reply: str, echo: str, wanted: str | None) -> str:
    """What to change, or that nothing needs to change."""
    return critique(complaint(echo), wanted, key=(reply, echo), good=landing(echo) == 0)


def _beginning(echo: str) -> str:
    return sentences(echo)[0].lower() if echo.strip() else ""
