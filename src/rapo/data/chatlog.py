"""Chat logs as JSON lines, the format in which a team brings its own conversations.

One conversation per line, as an object or as the bare list of its messages::

    {"messages": [{"role": "user", "content": "...", "rating": 4}, {"role": "assistant", "content": "..."}],
     "id": "optional", "situation": "optional", "scale": [0, 10]}

``rating`` says how the user took what was said before; it is optional, stands on user messages, and lies on ``scale``
(1 to 5 where none is given), higher being better. A system message may come first and is left out: it tells the
assistant who to be (``policy.system_prompt`` does that here), and not what a conversation is about.
"""

from __future__ import annotations

from typing import Any, cast

from rapo.data.conversation import RATING, Conversation, RowError, Said, as_number, as_text, kind, merge
from rapo.types import Role


def recognise(row: Any) -> str | None:
    """``"chat log"`` for a row of this format, None for any other."""
    if isinstance(row, dict) and "messages" in row:
        return "chat log"
    is_talk = isinstance(row, list) and row and isinstance(row[0], dict) and "role" in row[0]
    return "chat log" if is_talk else None


def parse(row: Any, ident: str, source: str) -> Conversation:
    """The conversation of one row, its ratings moved linearly from their scale to 1-5.

    Raises:
        RowError: a key is missing, a role is unknown, a value has the wrong type or a rating is out of its scale.
    """
    row = {"messages": row} if isinstance(row, list) else row
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
        raise RowError("messages is missing or no list")
    if not row["messages"]:
        raise RowError("messages is empty")
    low, high = _scale(row.get("scale"))
    talk = _without_system(row["messages"])
    messages, ratings, _ = merge(_said(one, f"messages[{place}]", low, high) for place, one in talk)
    situation = as_text(row.get("situation") or "", "situation")
    own = row.get("id")
    ident = ident if own is None or own == "" else as_text(str(own) if isinstance(own, int) else own, "id")
    return Conversation(ident, situation, messages, ratings, source=source)


def _scale(value: Any) -> tuple[float, float]:
    if value is None:
        return RATING.low, RATING.high
    if not isinstance(value, list) or len(value) != 2:
        raise RowError("scale is no pair, expected [low, high]")
    low, high = (as_number(end, "scale", -1e9, 1e9) for end in value)
    if low is None or high is None or low >= high:
        raise RowError("scale is empty, expected [low, high] with low below high")
    return low, high


def _without_system(messages: list[Any]) -> list[tuple[int, Any]]:
    """The messages with their places, but for a system message that comes first."""
    first = messages[0]
    skipped = isinstance(first, dict) and first.get("role") == "system"
    return list(enumerate(messages))[skipped:]


def _said(message: Any, name: str, low: float, high: float) -> Said:
    if not isinstance(message, dict):
        raise RowError(f"{name} is {kind(message)}, expected an object")
    role = message.get("role")
    if role not in ("user", "assistant"):
        raise RowError(f"{name}.role is {role!r:.40}, expected user or assistant (system only first)")
    text = as_text(message.get("content"), f"{name}.content")
    rating = as_number(message.get("rating"), f"{name}.rating", low, high)
    if rating is not None and role == "assistant":
        raise RowError(f"{name}.rating stands on a reply, expected it on the user's next message")
    if rating is not None:
        rating = RATING.low + (RATING.high - RATING.low) * (rating - low) / (high - low)
    return Said(cast(Role, role), text, rating)
