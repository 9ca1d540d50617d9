"""What the embedded judge of support makes of replies alone: a plain reader's guesses (:mod:`rapo.worlds.blind`)."""

from __future__ import annotations

from rapo.hindsight.feedback import JudgeRequest, Verdict
from rapo.worlds import blind
from rapo.worlds.support.language import ADVICE, MOVE_FOR, Need, critique, facts_in
from rapo.worlds.support.reader import Reading, read_need, read_reply

# What can be held against a reply that nobody has answered yet, the worst first; a critique names the first.
FAULTS = ("lost", "invented", "repeated", "parroted", "crowded", "unfit", "advice", "stock", "missed", "vague")


def judge_replies(request: JudgeRequest) -> Verdict:
    """Ranks with ties by fit to the need that the user's last words show and by visible faults."""
    return blind.judge_replies(request, read_need(request.context[-1].content), _guess, critique)


def _guess(request: JudgeRequest, reply: str, wanted: Need | None) -> blind.Guess:
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
    return blind.Guess(fit, tuple(fault for fault in FAULTS if fault in found))


def _is_telling(reading: Reading, move: str) -> bool:
    """Whether a move is about this user: advice for their problem, or something they told."""
    return reading.fit[move] is True if move in ADVICE else reading.told >= 1
