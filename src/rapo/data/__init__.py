"""Importers of real data: conversations with the ratings people gave, and the situations they start from."""

from __future__ import annotations

from rapo.data.conversation import RATING, Conversation, Loaded, Problem
from rapo.data.formats import load_conversations
from rapo.data.summary import FileSummary, describe, print_summary

__all__ = [
    "RATING",
    "Conversation",
    "FileSummary",
    "Loaded",
    "Problem",
    "describe",
    "load_conversations",
    "print_summary",
]
