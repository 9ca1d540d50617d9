"""What a person meets: help that comes at once, plain text where nobody watches, and a program that calls nobody."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import statistics
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import rapo

from .conftest import DEMO, EVAL, ONE_STEP, TINY, run_rapo

FIXTURES = Path(__file__).parents[1] / "fixtures" / "esconv"
RAPO = [sys.executable, "-m", "rapo.cli"]
SITE = """
import os, sys
WATCHED = {"socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname"}
def watch(event, args, WATCHED=WATCHED, path=os.environ["SOCKETS"], open=os.open):
    if event in WATCHED:
        descriptor = open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, (event + repr(args) + chr(10)).encode())
        os.close(descriptor)
sys.addaudithook(watch)
"""


def cpu_seconds(*args: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*RAPO, *args], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"]])
def test_help_comes_at_once(args):
    # About 0.2 s on an idle machine.
    assert statistics.median(cpu_seconds(*args) for _ in range(3)) < 1.5


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"], ["demo", "--help"], ["--version"]])
def test_help_loads_no_torch(args):
    code = (
        f"import sys; from rapo.cli import main; sys.argv = ['rapo', *{args!r}]\n"
        "try: main()\nfinally: print('loaded', 'torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded False\n")


def test_version():
    assert run_rapo("--version").out == f"rapo {rapo.__version__}\n"


def sockets(tmp_path: Path, *command: str) -> str:
    """What the command did with sockets, one line each."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    log = tmp_path / "sockets"
    env = os.environ | {"PYTHONPATH": str(tmp_path), "SOCKETS": str(log)}
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=env, cwd=tmp_path)
    return log.read_text() if log.exists() else ""


def test_the_watch_sees_a_socket(tmp_path):
    assert "socket.__new__" in sockets(tmp_path, "-c", "import socket; socket.socket()")


def test_light_commands_open_no_socket(tmp_path):
    assert sockets(tmp_path, "-c", "import rapo") == ""
    assert sockets(tmp_path, "-m", "rapo.cli", "--help") == ""
    assert sockets(tmp_path, "-m", "rapo.cli", "data", str(FIXTURES)) == ""


def test_training_opens_no_socket(start, tmp_path):
    settings = (*TINY, *ONE_STEP, f"policy.path={start}", f"run.dir={tmp_path / 'run'}")
    assert sockets(tmp_path, "-m", "rapo.cli", "train", DEMO, *settings) == ""
    assert (tmp_path / "run" / "summary.json").exists()


def test_data_prints_a_table_of_the_fixtures(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    result = run_rapo("data", FIXTURES)
    assert result.code == 0
    for path in FIXTURES.iterdir():
        assert path.name in result.out
    assert "sft, replay" in result.out
    assert_plain(result.out)


def test_data_shows_no_control_bytes_of_the_data(tmp_path):
    name = "a\x1b[31m\x07.jsonl"
    good = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]})
    bad = json.dumps({"messages": [{"role": "\x1b]0;owned\x07", "content": "\x1b[2J"}]})
    (tmp_path / name).write_text(f"{good}\n{bad}\n")
    result = run_rapo("data", tmp_path)
    assert "left out" in result.out
    assert_plain(result.out)


def assert_plain(text: str) -> None:
    """No colours, no cursor movements, nothing else a file or a pager would choke on."""
    assert not re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_without_a_terminal_a_run_is_plain_lines(start, tmp_path):
    result = run_rapo("train", DEMO, *TINY, *ONE_STEP, f"policy.path={start}", f"run.dir={tmp_path / 'run'}")
    assert_plain(result.out + result.err)
    assert "reinforce      1/1" in result.out
    assert "Loading weights" not in result.out + result.err
    assert result.out.startswith(f"a run in {tmp_path / 'run'}")
    assert max(map(len, result.out.splitlines()[1:-1])) <= 80


def test_quiet_prints_the_result_and_nothing_of_progress(start, tmp_path):
    settings = (*TINY, *ONE_STEP, f"policy.path={start}", f"run.dir={tmp_path / 'run'}", "--quiet")
    out = run_rapo("train", DEMO, *settings).out
    assert "reinforce" not in out
    assert "Change of ease over a talk" in out


def test_json_prints_events_and_nothing_else(start, tmp_path):
    settings = (*TINY, *ONE_STEP, f"policy.path={start}", f"run.dir={tmp_path / 'run'}")
    result = run_rapo("train", DEMO, *settings, "--json")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert (result.code, result.err) == (0, "")
    kinds = list(dict.fromkeys(each["event"] for each in events))
    assert kinds == ["text", "progress", "step", "result"]
    (step,) = (each for each in events if each["event"] == "step")
    assert step["metrics"] | {"v": 1, "step": 1} == json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    again = run_rapo("resume", tmp_path / "run", "--json", "--quiet")
    first = json.loads(again.out.splitlines()[0])
    assert (first["event"], first["summary"]["steps"]) == ("result", 1)


def test_eval_prints_the_ladder_and_writes_it(trained, tmp_path):
    settings = [part for each in EVAL if "exploits" not in each for part in ("--set", each)]
    target = tmp_path / "table.json"
    result = run_rapo("eval", trained, *settings, "--set", "eval.exploits=true", "--quiet", "--json", target)
    assert result.code == 0, result
    for speaker in ("oracle", "cue rule", "generic", "parrot", "constant reply"):
        assert result.out.count(f"  {speaker} ") == 2, "once per population"
    assert f"exploits not clearly below {trained}: " in result.out
    written = json.loads(target.read_text())
    assert written["v"] == 2
    assert {row["users"] for row in written["results"] if row["suite"] == "support"} == {"familiar", "held_out"}
    assert "safety" in {row["suite"] for row in written["results"]}, "always part of it"
    change = next(row for row in written["results"] if row["speaker"] == "oracle")["figures"]["change"]
    assert f"{change['mean']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}]" in result.out
    assert_plain(result.out)


@pytest.mark.parametrize("columns", [80, 120])
def test_in_a_terminal_everything_fits(trained, columns):
    """The result as a person sees it: nothing wraps, no header is cut."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        [*RAPO, "resume", trained], stdin=follower, stdout=follower, stderr=follower, env=env | {"TERM": "xterm"}
    )
    os.close(follower)
    shown = b""
    while chunk := _read(leader):
        shown += chunk
    assert process.wait() == 0
    os.close(leader)
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in shown.decode().replace("\r", "").split("\n")]
    assert b"\x1b[" in shown, "colours where a person watches"
    (header,) = [line for line in lines if "distinct-2" in line]
    assert header.split() == ["speaker", "change", "[95%]", "resolved", "distinct-2", "same", "reply"]
    assert max(len(line) for line in lines if str(trained) not in line) <= columns
    assert "…" not in "".join(lines)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says so when the last writer is gone
        return b""
