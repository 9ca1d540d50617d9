"""The run directory: whole lines, one writer, and files a resumed run continues as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from rapo.config import RunConfig
from rapo.errors import RunError
from rapo.records import RunDirectory, atomic_open, atomic_write, disk_errors, from_json, read_records, to_json
from rapo.types import (
    Candidate,
    Completion,
    Correction,
    Dialogue,
    Feedback,
    Group,
    Message,
    PivotalTurn,
    Reaction,
    Scenario,
    Turn,
)

FULL_DISK = Path("/dev/full")
SCENARIO = Scenario(
    "s-1",
    "lost\na job ✓",
    (Message("user", "hi \ud83d"),),  # half a surrogate pair, as broken endpoints send it
    3.5,
    profile={"need": "vent", "facts": ["dog", 2, None, {"deep": True}]},
)
DIALOGUE = Dialogue(SCENARIO, (Turn("oh", Reaction("yes", 4, "hm", True)),))
COMPLETION = Completion("oh", (1, 2), (-0.1, -1e-300), True)
GROUP = Group(
    PivotalTurn(DIALOGUE, -1.25),
    (Candidate(COMPLETION, Reaction("a", 1.0)), Candidate(COMPLETION, Reaction("b", 2.0))),
    (Feedback(1.5, "x"), Feedback(1.5, "y")),
    0.5,
    (Correction(1, COMPLETION),),
)


@pytest.fixture
def run(tmp_path):
    with RunDirectory.create(tmp_path / "runs" / "a", RunConfig()) as run:
        yield run


def fill(run, steps):
    for step in steps:
        run.append("metrics", step, {"loss": step / 4})
        run.append("groups", step, {"group": GROUP})
        run.append("groups", step, {"group": GROUP, "advantages": [1.0, -1.0]})
        run.flush()


def contents(run):
    return {path.name: path.read_bytes() for path in run.path.glob("*.jsonl")}


@pytest.mark.parametrize("value", [DIALOGUE, GROUP, Group(GROUP.pivot, GROUP.candidates)])
def test_records_read_back_equal(value):
    text = json.dumps(to_json(value), allow_nan=False)
    assert from_json(type(value), json.loads(text)) == value


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_json_lacks_becomes_null_and_reads_back_as_nan(number):
    data = to_json(Reaction("a", number))
    assert data["state"] is None
    assert math.isnan(from_json(Reaction, data).state)


def test_defaults_may_be_missing_so_that_new_fields_can_be_added():
    assert from_json(Reaction, {"text": "a", "state": 1}) == Reaction("a", 1.0)


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (Message, {"role": "robot", "content": "a"}, "Literal"),
        (Message, {"role": "user", "content": 3}, "<class 'str'>"),
        (Message, {"role": "user"}, "Message with role, content"),
        (Message, {"role": "user", "content": "a", "x": 1}, "Message with role, content"),
        (Message, ["user", "a"], "Message with role, content"),
        (Completion, to_json(COMPLETION) | {"token_ids": 3}, "tuple[int, ...]"),
        (Completion, to_json(COMPLETION) | {"token_ids": ["3"]}, "<class 'int'>"),
        (Completion, to_json(COMPLETION) | {"logps": ["3"]}, "<class 'float'>"),
    ],
)
def test_a_record_that_does_not_fit_is_named(kind, data, expected):
    with pytest.raises(RunError) as caught:
        from_json(kind, data)
    assert expected in str(caught.value)


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {3}}, b"x"])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(RunError, match="a value cannot be recorded"):
        to_json(value)


def test_lines_carry_version_and_step(run):
    run.append("metrics", 3, {"loss": math.nan, "state": 1})
    assert list(read_records(run.path, "metrics")) == []
    run.flush()
    assert (run.path / "metrics.jsonl").read_text() == '{"v": 1, "step": 3, "loss": null, "state": 1}\n'
    assert list(read_records(run.path, "metrics")) == [{"v": 1, "step": 3, "loss": None, "state": 1}]


def test_version_and_step_cannot_be_overwritten(run):
    with pytest.raises(RunError, match=r"got \['step'\]"):
        run.append("metrics", 3, {"step": 4})


def test_dataclasses_in_a_record_are_encoded(run):
    fill(run, [1])
    rows = list(read_records(run.path, "groups"))
    assert [from_json(Group, row["group"]) for row in rows] == [GROUP, GROUP]
    assert rows[1]["advantages"] == [1.0, -1.0]


def test_the_config_is_kept(tmp_path):
    config = RunConfig.model_validate({"update": {"lr": 0.125}})
    with RunDirectory.create(tmp_path / "a", config):
        pass
    with RunDirectory.open(tmp_path / "a") as run:
        assert run.config == config


def test_a_torn_line_is_not_read_and_not_continued(run):
    fill(run, [1])
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"v": 1, "step": 2')
    assert [row["step"] for row in read_records(run.path, "metrics")] == [1]
    fill(run, [3])
    assert [row["step"] for row in read_records(run.path, "metrics")] == [1, 3]


def test_a_file_of_nothing_but_a_torn_line(run):
    (run.path / "metrics.jsonl").write_text('{"v"')
    fill(run, [1])
    assert [row["step"] for row in read_records(run.path, "metrics")] == [1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops}", "line 2 of .*metrics.jsonl is not a record; got {oops}"),
        ("[1]", "line 2 of .*metrics.jsonl is not a record"),
        ('{"v": 1}', "line 2 of .*metrics.jsonl is not a record"),
        ('{"v": 2, "step": 1}', "line 2 of .*metrics.jsonl has another format; got 2; expected format 1"),
    ],
)
def test_a_whole_line_that_is_no_record_is_an_error(run, line, message):
    fill(run, [1])
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RunError, match=message):
        list(read_records(run.path, "metrics"))


def test_a_resumed_run_ends_with_the_files_of_an_uninterrupted_one(tmp_path):
    with RunDirectory.create(tmp_path / "whole", RunConfig()) as whole:
        fill(whole, [1, 2, 3, 4])
    with RunDirectory.create(tmp_path / "cut", RunConfig()) as cut:
        fill(cut, [1, 2, 3])
        with (cut.path / "groups.jsonl").open("a") as file:
            file.write('{"v": 1, "st')
    with RunDirectory.open(tmp_path / "cut") as cut:
        cut.append("metrics", 9, {"of": "the step that was cut"})
        cut.truncate(2)
        assert [row["step"] for row in read_records(cut.path, "groups")] == [1, 1, 2, 2]
        fill(cut, [3, 4])
    assert contents(cut) == contents(whole)
    assert not list(cut.path.glob(".tmp-*"))


def test_an_error_drops_the_lines_of_its_step(tmp_path):
    with pytest.raises(ZeroDivisionError), RunDirectory.create(tmp_path / "a", RunConfig()) as run:
        fill(run, [1])
        run.append("metrics", 2, {})
        raise ZeroDivisionError
    assert [row["step"] for row in read_records(run.path, "metrics")] == [1]
    RunDirectory.open(run.path).close()


def test_a_used_folder_is_never_overwritten(run, tmp_path):
    with pytest.raises(RunError, match=r"already holds a run; choose another run\.dir, or go on with `rapo resume"):
        RunDirectory.create(run.path, RunConfig())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"is not empty; got thesis\.tex; choose another run.dir"):
        RunDirectory.create(tmp_path / "other", RunConfig())
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def test_a_folder_without_a_run_cannot_be_opened(tmp_path):
    with pytest.raises(RunError, match=r"holds no run; expected a config\.yaml"):
        RunDirectory.open(tmp_path)


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file/run cannot be written; got Not a directory") as caught:
        RunDirectory.create(tmp_path / "file" / "run", RunConfig())
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not FULL_DISK.exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(run):
    (run.path / "metrics.jsonl").symlink_to(FULL_DISK)
    run.append("metrics", 1, {})
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be written; got No space left on device; free some"):
        run.flush()
    (run.path / "metrics.jsonl").unlink()


def test_one_process_at_a_time(run):
    with pytest.raises(RunError, match="is being written by another process"):
        RunDirectory.open(run.path)


def test_the_lock_dies_with_its_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from rapo.config import RunConfig;"
        "from rapo.records import RunDirectory; run = RunDirectory.create(Path(sys.argv[1]), RunConfig());"
        "print('locked', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RunError, match="another process"):
            RunDirectory.open(tmp_path / "a")
        os.kill(process.pid, signal.SIGKILL)
    RunDirectory.open(tmp_path / "a").close()


def test_an_atomic_write_is_whole_or_nothing(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_open(path) as file:
        file.write(b"ne")
        raise ZeroDivisionError
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]
    atomic_write(path, "new")
    assert path.read_text() == "new"


def test_disk_errors_leave_other_errors_alone(tmp_path):
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path):
        raise ZeroDivisionError


@dataclass(frozen=True)
class Flags:
    on: bool
    size: int


def test_truth_is_not_a_number():
    with pytest.raises(RunError, match="got True; expected <class 'int'>"):
        from_json(Flags, {"on": True, "size": True})


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "results.json"
    with atomic_open(path) as slow:
        slow.write(b"the slow")
        with atomic_open(path) as quick:
            quick.write(b"the quick one's")
        assert path.read_bytes() == b"the quick one's"
        slow.write(b" one's")
    assert path.read_bytes() == b"the slow one's"
    assert [each.name for each in tmp_path.iterdir()] == ["results.json"]
