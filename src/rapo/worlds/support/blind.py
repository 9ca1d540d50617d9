"""What the embedded judge of support makes of replies alone: it reads as well as ever, and no echo tells it more."""

from __future__ import annotations

from dataclasses import dataclass

from rapo.hindsight.feedback import JudgeRequest, Verdict
from rapo.worlds.support.language import ADVICE, MOVE_FOR, Need, critique, facts_in
from rapo.worlds.support.reader import Reading, read_need, read_reply

# What can be held against a reply that nobody has answered yet, the worst first; a critique names the first.
FAULTS = ("lost", "invented", "repeated", "parroted", "crowded", "unfit", "advice", "stock", "missed", "vague")


@dataclass(frozen=True, slots=True)
class Guess:
    """What a plain reader expects of a reply: ``fit`` 0 (another move than the cue asks for) to 2, and its faults."""

    fit: int
    faults: tuple[str, ...]

    @property
    def place(self) -> tuple[bool, int]:
        """Lower is better; every fault weighs the same: who minds which is hidden."""
        return "lost" in self.faults, len(self.faults) - self.fit


def judge_replies(request: JudgeRequest) -> Verdict:
    """Ranks with ties by fit to the need that the user's last words show and by visible faults."""
    wanted = read_need(request.context[-1].content)
    guesses = [_guess(request, reply, wanted) for reply in request.replies]
    places = [guess.place for guess in guesses]
    critiques = [
        critique(next(iter(guess.faults), None), wanted, key=(reply,), good=guess.fit == 2 and not guess.faults)
        for reply, guess in zip(request.replies, guesses, strict=True)
    ]
    return Verdict(tuple(1.0 + sum(other < mine for other in places) for mine in places), tuple(critiques))


def _guess(request: JudgeRequest, reply: str, wanted: Need | None) -> Guess:
    heard = [message.content for message in request.context if message.role == "user"]
    before = [message.content for message in request.context if message.role == "assistant"]
    topic = next((value for text in heard for kind, value in sorted(facts_in(text)) if kind == "topic"), "")
    reading = read_reply(reply, topic=topic, heard=heard, replies=before)
    # Where no need shows, any move may be right.
    aims = [MOVE_FOR[wanted]] if wanted else list(reading.moves)
    made = [move for move in aims if move in reading.moves]
    telling = any(_is_telling(reading, move) for move in made)
    found = {
        *reading.defects,
        *(["unfit"] if any(reading.fit.get(move) is False for move in reading.moves) else []),
        *(["advice"] if wanted and MOVE_FOR[wanted] not in ADVICE and ADVICE & set(reading.moves) else []),
        *(["missed"] if not made else ["vague"] if not telling else []),
    }
    fit = 0 if not made else 2 if telling else 1
    return Guess(fit, tuple(fault for fault in FAULTS if fault in found))


def _is_telling(reading: Reading, move: str) -> bool:
    """Whether a move is about this user: advice for their problem, or something they told."""
    return reading.fit[move] is True if move in ADVICE else reading.told >= 1
