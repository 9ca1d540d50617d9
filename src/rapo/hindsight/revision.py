"""What the feedback-aware teacher is shown: the dialogue, its own failed reply, and the critique of it."""

from __future__ import annotations

from collections.abc import Sequence

from rapo import prompts
from rapo.types import Message


def teacher_messages(context: Sequence[Message], reply: str, critique: str) -> tuple[Message, ...]:
    """The teacher's prompt. Its beginning is the student's prompt, so that both can share one encoding of it."""
    told = prompts.load("revise").fill(critique=critique)
    return (*context, Message("assistant", reply), Message("user", told))
