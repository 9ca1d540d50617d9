"""What a person is told stays as it was written."""

from __future__ import annotations

import pytest

from rapo.progress import Terminal


def test_a_text_is_not_read_as_emoji_or_markup(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    text = "users.kind=bad_user:Ok:smiley: [bold]"
    terminal.say(text)
    terminal.warn(text)
    told = capsys.readouterr()
    assert told.out == f"{text}\n"
    assert told.err == f"warning: {text}\n"
