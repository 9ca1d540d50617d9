"""The training steps as a person or a program sees them, on any width and whatever models write."""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import sys
import time

import pytest
from rich.cells import cell_len
from rich.console import Console

from rapo import cli
from rapo.live import begin, draw, extremes, spark, watch
from rapo.progress import Events, Terminal
from rapo.types import Candidate, Completion, Dialogue, Feedback, Group, Message, PivotalTurn, Reaction, Scenario

HOSTILE = "\x1b[2J\x1b]0;owned\x07 [bold]x[/] \u202eright\u202c \x9b31m 漢字漢字 👩‍👩‍👧 " * 20
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def group(states: list[float], ranks: list[float] | None = None, text: str = "") -> Group:
    """The user stands at 5; reply n is "rn"."""
    dialogue = Dialogue(Scenario("s", "", (Message("user", "hi"),), 5.0))
    candidates = tuple(
        Candidate(Completion(f"r{n}{text}", (1,), (0.0,), True), Reaction(f"e{n}{text}", state))
        for n, state in enumerate(states)
    )
    feedback = tuple(Feedback(rank, "c") for rank in ranks) if ranks else None
    return Group(PivotalTurn(dialogue, 1.0), candidates, feedback)


def test_a_line_of_blocks() -> None:
    # Seven blocks for a span of 7: one each, and the end falls into the last.
    assert spark([0, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7], 8) == "▁▂▃▄▅▆▇▇"
    assert spark([0, math.nan, 7], 8) == "▁ ▇"
    assert spark([2.0, 2.0], 8) == "▄▄"
    assert spark([], 8) == ""
    # Pairs have means of 1 and 7; a mean leaves out what is not there.
    assert spark([0, 2, 7, math.nan], 2) == "▁▇"
    # One of 40 values is far out: it is drawn as high as the next one.
    assert spark([*[0.0, 7.0] * 19, 7.0, 1000.0], 40)[-3:] == "▇▇▇"
    assert len(spark(range(1000), 30)) <= 30


def test_the_best_and_the_worst_are_those_of_the_judge_or_else_of_the_state() -> None:
    found = extremes([group([1, 2, 3]), group([5, 9, 4, 6], [2, 4, 1, 3])])
    assert found is not None
    assert (found["best"].reply, found["best"].echo, found["best"].change) == ("r2", "e2", -1.0)
    assert (found["worst"].reply, found["worst"].change) == ("r1", 4.0)
    found = extremes([group([5, 9, 4, 6])])
    assert found is not None
    assert (found["best"].reply, found["worst"].reply) == ("r1", "r2")
    assert extremes([]) is None


@pytest.mark.parametrize("width", [120, 80, 40, 20])
@pytest.mark.parametrize("steps", [0, 3, 500])
def test_the_board_fits_and_shows_no_control_bytes(width: int, steps: int) -> None:
    board = begin(500, [])
    for number in range(1, steps + 1):
        metrics = {"state_change": number / 7, "entropy": math.nan, "kl_to_start": 1e9, "seconds_play": 12345.6}
        board = board.after(number, metrics, [group([5, 9], text=HOSTILE)], ["ties", "variety collapse"] * 4)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False)
    console.print(draw(board, board.began + 98765.4, width))
    shown = STYLE.sub("", console.file.getvalue())  # type: ignore[attr-defined]
    assert not re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert max(map(cell_len, shown.splitlines())) <= width
    assert len(shown.splitlines()) == (13 if steps else 9)
    if width >= 80:
        assert f"{steps}/500" in shown


def test_the_cursor_comes_back_after_ctrl_c() -> None:
    terminal = Terminal()
    terminal.console = Console(file=io.StringIO(), width=80, height=30, force_terminal=True, color_system="standard")
    with pytest.raises(KeyboardInterrupt), watch(terminal, 3) as watcher:
        watcher.phase("play")
        watcher.step(1, {"state_change": 1.0}, [group([5, 9], text=HOSTILE)], [])
        raise KeyboardInterrupt
    shown = terminal.console.file.getvalue()  # type: ignore[attr-defined]
    assert "1/3" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_program_that_is_told_to_end_shows_the_cursor_and_says_where_things_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    terminal = Terminal()
    terminal.console = Console(file=io.StringIO(), width=80, height=30, force_terminal=True, color_system="standard")

    def work(files: object) -> None:
        with watch(terminal, 3):
            os.kill(os.getpid(), number)
            time.sleep(60)

    def mine(number: int, frame: object) -> None:
        raise AssertionError("nobody else minds the signal")

    monkeypatch.setattr("rapo.data.describe", work)
    monkeypatch.setattr(sys, "argv", ["rapo", "data", "file"])
    before = signal.signal(signal.SIGTERM, mine)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    # 128 and the signal, as shells tell it.
    assert ended.value.code == code
    assert "rapo: stopped; what was finished is on disk" in capsys.readouterr().err
    shown = terminal.console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_events_are_json_and_alone_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    terminal = Events()
    print("a plugin says hello")
    terminal.say(HOSTILE)
    with watch(terminal, 2) as watcher:
        watcher.phase("play")
        watcher.alarm(1, "ties")
        watcher.step(1, {"entropy": math.nan}, [group([5, 9], text=HOSTILE)], ["ties"])
    assert out.getvalue().isascii()
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [each["event"] for each in events] == ["text", "alarm", "step"]
    step = events[2]
    assert (step["step"], step["steps"], step["metrics"], step["standing_alarms"]) == (
        1,
        2,
        {"entropy": None},
        ["ties"],
    )
    assert step["last_group"]["best"] == {"reply": f"r1{HOSTILE}", "echo": f"e1{HOSTILE}", "change": 4.0}
    assert err.getvalue() == "a plugin says hello\n"
