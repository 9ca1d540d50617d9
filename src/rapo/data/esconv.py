"""The ESConv family: real people in distress who rate the help they get.

One row is one dialogue; the published files differ in names only:

- ``ESConv.json``, ``FailedESConv.json``: an array; ``speaker`` seeker/supporter or speaker/listener, ``content``, in
  ``annotation`` the ``feedback`` of a seeker turn and the ``strategy`` of a supporter turn; ``survey_score``
- the Hugging Face hub's ``thu-coai/esconv`` and PPDPP: JSON lines; ``speaker`` usr/sys, ``text``, ``strategy``
- MultiESC: JSON lines like these with ``feedback``, ``init_intensity``, ``final_intensity`` and space-tokenised text
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from rapo.data.conversation import RATING, Conversation, RowError, Said, as_number, as_text, kind, merge
from rapo.types import Role

SITUATION = "A person in distress seeks emotional support."
SPEAKERS: dict[str, Role] = {
    "seeker": "user",
    "speaker": "user",
    "usr": "user",
    "user": "user",
    "supporter": "assistant",
    "listener": "assistant",
    "sys": "assistant",
    "assistant": "assistant",
}


def unwrap(row: Any) -> Any:
    """The dialogue in a row that the hub's viewer wrapped as ``{"text": "<json>"}``; any other row as it is."""
    if isinstance(row, dict) and set(row) == {"text"} and isinstance(row["text"], str):
        try:
            return json.loads(row["text"])
        except (ValueError, RecursionError):
            return row
    return row


def recognise(row: Any) -> str | None:
    """``"esconv"``, ``"multiesc"`` or ``"esconv-lines"`` for a row of this family, None for any other."""
    row = unwrap(row)
    if not isinstance(row, dict) or "dialog" not in row:
        return None
    if "init_intensity" in row:
        return "multiesc"
    turns = row["dialog"] if isinstance(row["dialog"], list) else []
    return "esconv" if any(isinstance(turn, dict) and "annotation" in turn for turn in turns) else "esconv-lines"


def parse(row: Any, ident: str, source: str) -> Conversation:
    """The conversation of one row.

    Raises:
        RowError: a key is missing, a speaker is unknown, a value has the wrong type or a rating is out of 1-5.
    """
    row = unwrap(row)
    if not isinstance(row, dict):
        raise RowError(f"the row is {kind(row)}, expected an object")
    if not isinstance(row.get("dialog"), list):
        raise RowError(f"dialog is {kind(row.get('dialog'))}, expected a list")
    if not row["dialog"]:
        raise RowError("dialog is empty")
    tidy = detokenise if recognise(row) == "multiesc" else str
    messages, ratings, strategies = merge(
        _utterance(turn, f"dialog[{number}]", tidy) for number, turn in enumerate(row["dialog"])
    )
    start, end = _intensities(row)
    situation = as_text(row.get("situation", ""), "situation")
    return Conversation(ident, situation, messages, ratings, start, end, strategies, source, private=True)


def _utterance(turn: Any, name: str, tidy: Callable[[str], str]) -> Said:
    if not isinstance(turn, dict):
        raise RowError(f"{name} is {kind(turn)}, expected an object")
    speaker = as_text(turn.get("speaker"), f"{name}.speaker").lower()
    if speaker not in SPEAKERS:
        raise RowError(f"{name}.speaker is {speaker!r:.40}, expected one of {', '.join(SPEAKERS)}")
    text = tidy(as_text(turn.get("content", turn.get("text")), f"{name}.content"))
    notes = turn.get("annotation") or {}
    if not isinstance(notes, dict):
        raise RowError(f"{name}.annotation is {kind(notes)}, expected an object")
    if SPEAKERS[speaker] == "user":
        feedback = notes.get("feedback", turn.get("feedback"))
        return Said("user", text, as_number(feedback, f"{name}.feedback", RATING.low, RATING.high))
    strategy = notes.get("strategy", turn.get("strategy"))
    return Said("assistant", text, strategies=(as_text(strategy, f"{name}.strategy"),) if strategy else ())


def _intensities(row: dict[str, Any]) -> tuple[float | None, float | None]:
    """Distress before and after the talk, wherever this variant keeps them."""
    survey = row.get("survey_score") or {}
    if not isinstance(survey, dict):
        raise RowError(f"survey_score is {kind(survey)}, expected an object")
    seeker = survey.get("seeker", survey) or {}
    if not isinstance(seeker, dict):
        raise RowError(f"survey_score.seeker is {kind(seeker)}, expected an object")
    before = seeker.get("initial_emotion_intensity", row.get("init_intensity"))
    after = seeker.get("final_emotion_intensity", row.get("final_intensity"))
    return as_number(before, "initial intensity", 1, 5), as_number(after, "final intensity", 1, 5)


_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), new)
    for pattern, new in (
        (r"(?<!\S)([:;=]) (?:- )?([()])(?!\S)", r"\1\2"),  # smileys, before a colon is taken for punctuation
        (r"(\w) ?' ?(s|t|m|re|ve|ll|d)\b", r"\1'\2"),
        (r"(?<!\S)([\"']) ([^\"']+?) \1(?!\S)", r"\1\2\1"),
        (r"(\w) ([-/]) (?=\w)", r"\1\2"),
        (r"(\d) ([.:]) (?=\d)", r"\1\2"),
        (r"(\d) , (?=\d{3}\b)", r"\1,"),
        (r"(?<!\S)([$#]) (?=\d)", r"\1"),
        (r"([(\[]) ", r"\1"),
        (r" +(?=[.,!?%)\]]|[:;](?![()]))", ""),
        (r"(?<=s) '(?!\S)", "'"),
    )
)


def detokenise(text: str) -> str:
    """Space-tokenised English as people write it: ``"I don ' t know , sorry !"`` becomes ``"I don't know, sorry!"``.

    What tokenising lost stays lost: a dash between words comes back as a hyphen, an unpaired quotation mark stays
    apart.
    """
    for pattern, new in _RULES:
        text = pattern.sub(new, text)
    return text
