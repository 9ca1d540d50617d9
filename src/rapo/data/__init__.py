"""Importers of real data: scenarios to play, and conversations with the ratings people gave."""

from __future__ import annotations

from rapo.data.conversation import RATING, Conversation, Domain, Loaded, Problem, set_aside
from rapo.data.formats import fingerprint, load_conversations, load_scenarios, load_sotopia, played_scenario
from rapo.data.scenarios import scenario_from_row
from rapo.data.summary import FileSummary, describe, print_summary

__all__ = [
    "RATING",
    "Conversation",
    "Domain",
    "FileSummary",
    "Loaded",
    "Problem",
    "describe",
    "fingerprint",
    "load_conversations",
    "load_scenarios",
    "load_sotopia",
    "played_scenario",
    "print_summary",
    "scenario_from_row",
    "set_aside",
]
