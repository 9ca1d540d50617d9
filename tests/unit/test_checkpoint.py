"""Checkpoints: bit-identical, whole or absent, and never trusted unseen."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from rapo.errors import RunError
from rapo.optimize import checkpoint
from rapo.optimize.checkpoint import Cursor, best, clean, latest, read_cursor, read_optimizers, save


def write_model(folder):
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"w" * (checkpoint.HASHED_BYTES + 2))


def saved(folder, step, *, score=None, keep=9, write=write_model, **more):
    return save(folder, Cursor(step, score), write_model=write, optimizers={}, keep=keep, **more)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_optimizers(model):
    groups = [
        {"params": [model.weight], "lr": 0.1 + 0.2, "betas": (0.9, 0.95)},
        {"params": [model.bias], "weight_decay": 0.0},
    ]
    return {"adam": torch.optim.AdamW(groups), "muon": torch.optim.Muon([model.weight], lr=0.02)}


def train(model, optimizers, steps):
    for step in steps:
        inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        for optimizer in optimizers.values():
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()


def test_training_goes_on_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    straight, resumed = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    first = make_optimizers(straight)
    train(straight, first, range(3))
    state = {name: optimizer.state_dict() for name, optimizer in first.items()}
    path = save(tmp_path, Cursor(3), write_model=write_model, optimizers=state, keep=1)
    weights = {name: tensor.clone() for name, tensor in straight.state_dict().items()}
    train(straight, first, range(3, 6))

    resumed.load_state_dict(weights)
    second = make_optimizers(resumed)
    for name, loaded in read_optimizers(path).items():
        second[name].load_state_dict(loaded)
    train(resumed, second, range(3, 6))
    assert torch.equal(straight.weight, resumed.weight)
    assert torch.equal(straight.bias, resumed.bias)


def test_optimizer_states_read_back_with_their_types(tmp_path):
    state = {"state": {0: {"step": torch.tensor(3.0), "m": torch.randn(2, 3).T}}, "param_groups": [{"betas": (0.1, 1)}]}
    path = save(tmp_path, Cursor(1), write_model=write_model, optimizers={"a": state}, keep=1)
    loaded = read_optimizers(path)["a"]
    assert loaded["param_groups"] == [{"betas": (0.1, 1)}]
    assert isinstance(loaded["param_groups"][0]["betas"], tuple)
    assert loaded["state"].keys() == {0}
    for name in ("step", "m"):
        assert torch.equal(loaded["state"][0][name], state["state"][0][name])


def test_the_folder_holds_model_teacher_and_cursor(tmp_path):
    cursor = Cursor(20, 1.5, {"lift": 0.25, "seen": [1, 2]})
    path = save(tmp_path, cursor, write_model=write_model, optimizers={}, keep=1, extra={"teacher": write_model})
    assert path.name == "step-000020"
    assert names(path) == [
        "config.json",
        "cursor.json",
        "manifest.json",
        "model.safetensors",
        "optimizer.json",
        "optimizer.safetensors",
        "teacher",
    ]
    assert names(path / "teacher") == ["config.json", "model.safetensors"]
    assert read_cursor(path) == cursor


def test_without_checkpoints_there_is_no_latest(tmp_path):
    assert latest(tmp_path) == (None, [])
    assert best(tmp_path / "nowhere") is None
    assert clean(tmp_path / "nowhere") == []


def test_the_newest_and_the_best_are_kept(tmp_path):
    # After each save with keep=2: the two newest, and the best one so far (the earliest of equals).
    for step, score in [(1, 0.5), (2, 0.9), (3, None), (4, 0.9), (10, 0.1)]:
        saved(tmp_path, step, score=score, keep=2)
    assert names(tmp_path) == ["step-000002", "step-000004", "step-000010"]
    assert best(tmp_path) == tmp_path / "step-000002"


def test_steps_are_ordered_as_numbers(tmp_path):
    saved(tmp_path, 999999)
    newest = saved(tmp_path, 1000000)
    assert latest(tmp_path) == (newest, [])


DAMAGES = {
    "model.safetensors is damaged": lambda path: os.truncate(path / "model.safetensors", checkpoint.HASHED_BYTES + 1),
    "config.json is damaged": lambda path: (path / "config.json").write_text("[]"),  # as long as "{}"
    "cursor.json is missing or unreadable": lambda path: (path / "cursor.json").unlink(),
    "manifest.json is missing or unreadable": lambda path: (path / "manifest.json").unlink(),
    "manifest.json is damaged": lambda path: (path / "manifest.json").write_text("{"),
    "format 2, not 1": lambda path: (path / "manifest.json").write_text('{"v": 2, "files": {}}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_one_is_passed_over_with_a_notice(tmp_path, damage):
    whole = saved(tmp_path, 1, score=0.0)
    broken = saved(tmp_path, 2, score=1.0)
    DAMAGES[damage](broken)
    assert latest(tmp_path) == (whole, [f"checkpoint {broken} is passed over: {damage}"])
    assert best(tmp_path) == whole


def test_damaged_ones_never_push_out_whole_ones(tmp_path):
    saved(tmp_path, 1)
    os.truncate(saved(tmp_path, 9) / "model.safetensors", 7)
    saved(tmp_path, 2, keep=2)
    assert names(tmp_path) == ["step-000001", "step-000002"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    saved(tmp_path, 1, score=1.0)
    saved(tmp_path, 1, score=2.0)
    assert read_cursor(tmp_path / "step-000001").score == 2.0


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def write_half_a_model_and_die(folder):
    (folder / "model.safetensors").write_bytes(b"w")
    die()


@pytest.mark.parametrize("where", ["write_model", "_write_tree", "_describe", "_sync"])
def test_killed_in_the_middle_the_previous_one_stays_the_latest(tmp_path, where, monkeypatch):
    previous = saved(tmp_path, 1)
    if where != "write_model":
        monkeypatch.setattr(checkpoint, where, die)
    if (child := os.fork()) == 0:
        try:
            saved(tmp_path, 2, write=write_half_a_model_and_die if where == "write_model" else write_model)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    monkeypatch.undo()
    assert latest(tmp_path) == (previous, [])
    assert clean(tmp_path) == [".tmp-step-000002"]
    assert names(tmp_path) == ["step-000001"]
    saved(tmp_path, 2)


def test_everything_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    done = []
    real_sync, real_replace = checkpoint._sync, type(tmp_path).replace
    monkeypatch.setattr(checkpoint, "_sync", lambda folder: (done.append(names(folder)), real_sync(folder)))
    monkeypatch.setattr(type(tmp_path), "replace", lambda a, b: (done.append(b.name), real_replace(a, b)))
    saved(tmp_path, 1)
    assert done[1] == "step-000001"
    assert "manifest.json" in done[0]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), checkpoint.SafetensorError("I/O: no space")])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, error):
    def write(folder):
        (folder / "model.safetensors").write_bytes(b"w")
        raise error

    saved(tmp_path, 1)
    with pytest.raises(RunError, match=r"step-000002 cannot be written; got (No space left|I/O: no space)"):
        saved(tmp_path, 2, write=write)
    assert names(tmp_path) == ["step-000001"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written; got Not a directory"):
        saved(tmp_path / "file" / "checkpoints", 1)


def test_unreadable_state_is_a_run_error(tmp_path):
    path = saved(tmp_path, 1)
    (path / "cursor.json").write_text("{")
    with pytest.raises(RunError, match=r"cursor\.json cannot be read"):
        read_cursor(path)
    (path / "optimizer.safetensors").write_bytes(b"oops")
    with pytest.raises(RunError, match=r"optimizer\.safetensors cannot be read"):
        read_optimizers(path)


def test_numbers_are_kept_exactly(tmp_path):
    numbers = {"a": 0.1 + 0.2, "b": 1e-300, "c": 2**60}
    path = save(tmp_path, Cursor(1, numbers=numbers), write_model=write_model, optimizers={}, keep=1)
    assert read_cursor(path).numbers == numbers
