"""The findings of a check as a person reads them: line by line as they come, and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rapo.check.findings import Finding
from rapo.progress import Terminal

STYLES = {"ok": "green", "warn": "yellow", "fail": "red bold"}
INDENT = " " * 28


def print_findings(findings: Iterable[Finding], terminal: Terminal) -> bool:
    """Print every finding as it comes; whether one of them keeps the run from working."""
    counts: Counter[str] = Counter()
    for each in findings:
        counts[each.level] += 1
        head = f"{each.level:<5} {each.what:<21}"
        terminal.report(f"{head} {_plain(each.found)}", STYLES[each.level] if each.level != "ok" else None)
        if each.fix:
            terminal.report(f"{INDENT}{_plain(each.fix)}")
    failed = counts["fail"] > 0
    words = f"{counts['ok']} ok, {counts['warn']} to know, {counts['fail']} to mend"
    terminal.report(f"\n{words}: the run {'would fail' if failed else 'can start'}", "red bold" if failed else "green")
    return failed


def _plain(text: str) -> str:
    # Servers and files are quoted here: nothing in them may steer a terminal.
    return "".join(c if c.isprintable() else "?" for c in text)
