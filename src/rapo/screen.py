"""What ``rapo screen`` does: show signs of risk in data, or how many the rules find in texts whose risk is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from rapo.data import load_conversations
from rapo.evals.detection import detection
from rapo.progress import Terminal
from rapo.safety import detector, situations
from rapo.show import printable
from rapo.types import Message

AID = "a screening aid for research data, no clinical instrument (docs/safety.md)"


def run_screen(files: Sequence[Path], locale: str, terminal: Terminal) -> None:
    """Print the flagged messages of users in ``files``, or the measured shares of the rules where there are none.

    Raises:
        DataError: a file cannot be read, or there are no rules for the locale's language.
    """
    if files:
        _show_flagged(files, locale, terminal)
    else:
        terminal.console.print(_measured(locale))
    terminal.report(AID)


def _show_flagged(files: Sequence[Path], locale: str, terminal: Terminal) -> None:
    talks = list(_talks(files))
    flagged = messages = 0
    for ident, said in talks:
        found = [(cue, text) for text in said for cue in detector(locale).cues(text)]
        flagged += bool(found)
        messages += len(said)
        for cue, text in found:
            around = text[max(0, cue.start - 30) : cue.end + 30]
            terminal.report(f"{printable(ident)}  {cue.category} ({cue.tier})  ...{printable(around)}...")
    terminal.report(f"{flagged} of {len(talks)} talks are flagged, {messages} messages of users were read")


def _talks(files: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    """The id and the user's messages of every talk and scenario."""
    loaded = load_conversations(files)
    for talk in loaded.conversations:
        yield talk.id, _said(talk.messages)
    for dialogue in loaded.dialogues:
        yield dialogue.scenario.id, _said(dialogue.messages)
    for scenario in (*loaded.situations, *loaded.negotiations):
        yield scenario.id, _said(scenario.opening)


def _said(messages: Sequence[Message]) -> list[str]:
    return [message.content for message in messages if message.role == "user"]


def _measured(locale: str) -> Table:
    grid = Table(title=f"Signs of risk found by the rules for {locale}, share [95%]", title_justify="left")
    for name in ("situations", "risks found", "clear", "harmless flagged", "clear"):
        grid.add_column(name, justify="left" if name == "situations" else "right")
    for part in ("development", "held_out"):
        found = detection(situations(locale, part), locale)
        grid.add_row(
            f"{part.replace('_', ' ')} ({found.risks} + {found.harmless})",
            f"{found.recall:.0%}",
            str(found.clear),
            f"{found.false_positives:.0%}",
            str(found.clear_alarms),
        )
    return grid
