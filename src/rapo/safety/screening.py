"""Which talks are kept out of training: those in which what a user says shows a sign of risk, clear or possible."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from rapo.safety.cues import detector
from rapo.types import Dialogue, Group, Message


def risky(messages: Iterable[Message], locale: str) -> bool:
    """Whether any message of the user shows a sign of risk, by the rules of the locale's language.

    Raises:
        DataError: there are no rules for it.
    """
    return any(message.role == "user" and _at_risk(message.content, locale) for message in messages)


def risky_group(group: Group, locale: str) -> bool:
    """The same of a group: of its context, its candidates' echoes and its corrections'. Raises as ``risky``."""
    echoes = [candidate.reaction for candidate in group.candidates]
    echoes += [correction.reaction for correction in group.corrections if correction.reaction is not None]
    texts = [Message("user", echo.text) for echo in echoes]
    return risky((*group.pivot.dialogue.messages, *texts), locale)


def safe(dialogues: Iterable[Dialogue], locale: str) -> list[Dialogue]:
    """The dialogues without any sign of risk. Raises as ``risky``."""
    return [dialogue for dialogue in dialogues if not risky(dialogue.messages, locale)]


# What was said is read once per group and turn, each time with all that came before it.
@lru_cache(maxsize=1 << 16)
def _at_risk(text: str, locale: str) -> bool:
    return bool(detector(locale).cues(text))
