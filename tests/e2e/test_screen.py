"""``rapo screen`` shows what data holds, and nothing of it reaches the terminal as a command."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import one_line, run_rapo


def test_hostile_ids_and_texts_are_shown_harmless(tmp_path: Path) -> None:
    said = ("I want to \x1b[2J kill myself.", "I see.", "Yes.", "Tell me more.", "No.")
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    row = {"id": "a\x1b]0;title\x07b", "messages": messages}
    (tmp_path / "logs.jsonl").write_text(json.dumps(row) + "\n")
    ran = run_rapo("screen", tmp_path / "logs.jsonl")
    assert ran.code == 0 and "1 of 1 talks are flagged, 3 messages" in ran.out, ran
    assert not [c for c in ran.out if not c.isprintable() and c != "\n"]


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    assert "no such file" in one_line(run_rapo("screen", tmp_path / "none.jsonl")).lower()
    assert "expected en" in one_line(run_rapo("screen", "--locale", "zz"))
