"""Stopped at any moment, a run ends as if it had never been stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .conftest import DEMO, TINY, everything, kill_when, one_line, records, run_rapo

# Long enough to be hit, and twice evaluated.
LONGER = (*TINY, "teacher.replay=0", "train.steps=6", "eval.dialogues=12", "eval.turns=3")


@pytest.fixture(scope="module")
def uninterrupted(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert run_rapo("train", DEMO, f"run.dir={run}", *LONGER).code == 0
    return run


def test_killed_within_a_step_it_ends_with_the_same_bits(launch, uninterrupted, tmp_path):
    run = tmp_path / "run"
    process = launch("train", DEMO, f"run.dir={run}", *LONGER)

    def within_step_3() -> bool:
        return (run / "checkpoints" / "step-000002").exists()

    kill_when(process, within_step_3)
    assert [row["step"] for row in records(run, "metrics")] == [1, 2]
    assert not (run / "summary.json").exists()
    result = run_rapo("resume", run)
    assert result.code == 0, result
    assert "reinforce      2/6" in result.out
    assert everything(run) == everything(uninterrupted)


def test_killed_at_every_stage_in_turn_it_ends_with_the_same_bits(launch, uninterrupted, tmp_path):
    run = tmp_path / "run"
    process = launch("train", DEMO, f"run.dir={run}", *LONGER)
    kill_when(process, (run / "config.yaml").exists)  # in supervised fine-tuning
    assert not (run / "sft").exists()
    kill_when(launch("resume", run), (run / "sft").exists)  # in the first evaluation
    assert not (run / "evaluation-before.json").exists()
    kill_when(launch("resume", run), (run / "checkpoints" / "step-000006").exists)  # in the last evaluation
    assert not (run / "evaluation-after.json").exists()
    assert run_rapo("resume", run).code == 0
    assert everything(run) == everything(uninterrupted)


def test_fine_tuning_that_was_killed_begins_anew_and_nothing_follows_it(launch, tmp_path):
    run = tmp_path / "run"
    kill_when(launch("sft", DEMO, f"run.dir={run}", *LONGER), (run / "config.yaml").exists)
    assert not (run / "sft").exists()
    for _ in range(2):  # the second time nothing is left to do
        result = run_rapo("resume", run)
        assert result.code == 0 and f"the model is in {run}/sft" in result.out, result
    assert not (run / "checkpoints").exists() and not list(run.glob("evaluation-*.json"))


@pytest.mark.parametrize("damage", ["half written", "records ahead"])
def test_a_damaged_newest_checkpoint_costs_steps_and_nothing_else(uninterrupted, tmp_path, damage):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    newest = run / "checkpoints" / "step-000006"
    for name in ("summary.json", "evaluation-after.json"):
        (run / name).unlink()
    if damage == "half written":
        (newest / "model.safetensors").write_bytes(b"torn")
    else:
        shutil.rmtree(newest)
    if damage == "records ahead":
        with (run / "groups.jsonl").open("a") as file:
            file.write('{"v": 1, "step": 7, "gro')
    result = run_rapo("resume", run)
    assert result.code == 0, result
    assert ("passed over" in result.err) == (damage == "half written")
    assert everything(run) == everything(uninterrupted)


def test_records_are_not_dropped_because_the_checkpoints_are_gone(uninterrupted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    shutil.rmtree(run / "checkpoints")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    line = one_line(run_rapo("resume", run, "train.steps=8"))
    assert (
        f"{run}/checkpoints holds no whole checkpoint, though the run was at step 6; put the checkpoints back" in line
    )
    assert {path: path.read_bytes() for path in before if path.name != "config.yaml"} == {
        path: content for path, content in before.items() if path.name != "config.yaml"
    }


def test_a_run_in_work_is_refused_to_a_second_process(launch, uninterrupted, tmp_path):
    run = tmp_path / "run"
    process = launch("train", DEMO, f"run.dir={run}", *LONGER, "sft.dialogues=2000")
    while not (run / "config.yaml").exists():
        assert process.is_alive()
    assert "another process" in one_line(run_rapo("resume", run))
    assert "already holds a run" in one_line(run_rapo("train", DEMO, f"run.dir={run}"))
    assert process.is_alive()


def test_a_finished_run_says_so_and_shows_its_result_again(uninterrupted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = run_rapo("resume", run)
    assert result.code == 0
    assert "is finished" in result.out
    assert "Change of ease over a talk" in result.out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_the_clock_ended_goes_on_and_is_evaluated_anew(train):
    run = train("train.max_minutes=0.0001", "eval.dialogues=2", "teacher.replay=0")
    assert json.loads((run / "summary.json").read_text())["steps"] == 1
    assert run_rapo("resume", run).code == 0  # one step at a time
    assert json.loads((run / "summary.json").read_text())["steps"] == 2
    assert [row["step"] for row in records(run, "metrics")] == [1, 2]
