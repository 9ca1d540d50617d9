"""What a user gets wrong ends in one line that says what and the way out, without a traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from rapo.data import scenario_from_row, set_aside

from .conftest import DEMO, TINY, one_line, run_rapo

TALK = [
    {"role": "user", "content": "I feel low today."},
    {"role": "assistant", "content": "What happened?"},
    {"role": "user", "content": "My friend moved away.", "rating": 4},
]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


CONFIG_ERRORS = {
    "an unknown key": ("update.lrr=1", "unknown key update.lrr; did you mean update.lr?"),
    "an unknown section": ("updat.lr=1", "did you mean update.lr?"),
    "a wrong type": ("train.steps=many", "train.steps is not valid; got many; expected a whole number >= 1"),
    "out of range": ("play.dialogues=0", "play.dialogues is not valid; got 0; expected a whole number >= 1"),
    "no equals sign": ("train.steps", "override is not valid; got train.steps; expected section.key=value"),
    "broken YAML in a value": ("eval.populations=[familiar", "value of eval.populations is not YAML"),
    "both terms off": ("update.macro=0 update.micro=0", "update.macro and update.micro are both 0"),
    "replay without files": ("users.kind=replay judge.kind=contrast", "users.kind=replay has no users.files"),
    "scripted judge of replayed users": (
        "users.kind=replay users.files=[a.jsonl]",
        "judge.kind=support cannot judge replayed users; expected judge.kind=contrast",
    ),
    "heads that do not divide": ("policy.hidden=100 policy.heads=3", "expected a multiple of twice policy.heads"),
}


@pytest.mark.parametrize("case", CONFIG_ERRORS)
def test_a_config_error_is_one_line_and_leaves_nothing_behind(tmp_path, case):
    overrides, expected = CONFIG_ERRORS[case]
    run = tmp_path / "run"
    assert expected in one_line(run_rapo("train", DEMO, f"run.dir={run}", *overrides.split()))
    assert not run.exists()


@pytest.mark.parametrize("command", ["sft", "train"])
@pytest.mark.parametrize("path", ["", "hub/model"])
def test_weights_that_bfloat16_would_round_the_steps_away_of_are_not_trained(command, path, tmp_path):
    run, given = tmp_path / "run", [f"policy.path={path}", "sft.optimizer=adamw"] if path else []
    line = one_line(run_rapo(command, DEMO, f"run.dir={run}", *TINY, *given, "run.dtype=bfloat16"))
    assert "weights in bfloat16 cannot be trained" in line and "lora.rank; run.autocast=true" in line
    assert not (run / "config.yaml").exists()


def test_fine_tuning_that_comes_apart_writes_no_model(tmp_path):
    run = tmp_path / "run"
    line = one_line(run_rapo("sft", DEMO, f"run.dir={run}", *TINY, "sft.optimizer=adamw", "sft.adam_lr=1e30"))
    assert "of fine-tuning is not finite at step 2 of " in line and "lower sft.adam_lr" in line
    assert not (run / "sft").exists()


def test_a_recipe_that_is_not_there(tmp_path):
    assert f"config file {tmp_path}/no.yaml cannot be read" in one_line(run_rapo("train", tmp_path / "no.yaml"))


@pytest.mark.parametrize("command", [["data"], ["screen"], ["check"], ["eval"], ["view"]])
def test_a_name_that_no_file_can_have(command):
    name = "a" * 300
    assert one_line(run_rapo(*command, name)).count(name) == 1


def test_a_recipe_that_is_not_yaml(tmp_path):
    recipe = write(tmp_path / "a.yaml", "run: {dir: x\ntrain: 3\n")
    assert f"line 2 of {recipe} is not valid YAML" in one_line(run_rapo("train", recipe))


def test_config_errors_load_no_torch(tmp_path):
    code = (
        "import sys; from rapo.cli import main\n"
        f"sys.argv = ['rapo', 'train', {DEMO!r}, 'update.lrr=1']\n"
        "try: main()\nexcept SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith("rapo: unknown key")


DATA_ERRORS: dict[str, tuple[str, str | bytes | None, str]] = {
    "an empty file": ("a.jsonl", "", "a.jsonl is empty"),
    "a missing file": ("a.jsonl", None, "No such file or directory"),
    "corrupt lines only": ("a.jsonl", '{"messages": [\n{"messa\n', "the format of"),
    "rows without a usable one": ("a.jsonl", '{"messages": []}\n', "has no usable row"),
    "another format": ("a.csv", "role,text\nuser,hello\n", "the format of"),
    "not UTF-8": ("a.jsonl", b'{"messages": "caf\xe9"}\n', "a.jsonl:1 is not UTF-8"),
    "no replies": (
        "a.jsonl",
        json.dumps({"messages": [TALK[0], TALK[2]]}),
        "the assistant says nothing",
    ),
}


@pytest.mark.parametrize("case", DATA_ERRORS)
@pytest.mark.parametrize("command", ["sft", "train"])
def test_unusable_data_is_one_line_and_the_folder_can_be_used_again(tmp_path, case, command):
    name, content, expected = DATA_ERRORS[case]
    if content is not None:
        write(tmp_path / name, content)
    run, files = tmp_path / "run", f"sft.files=[{tmp_path / name}]"
    for _ in range(2):
        assert expected in (line := one_line(run_rapo(command, DEMO, f"run.dir={run}", *TINY, files)))
        assert "already" not in line
    if command == "sft":
        assert expected in one_line(run_rapo("data", tmp_path / name))


@pytest.mark.parametrize("count", [0, 1])
def test_replay_needs_rated_conversations(tmp_path, count):
    plain = [{key: value for key, value in message.items() if key != "rating"} for message in TALK]
    rows = [{"messages": TALK}] * count + [{"messages": plain}] * 3
    logs = write(tmp_path / "logs.jsonl", "\n".join(map(json.dumps, rows)))
    settings = (
        "users.kind=replay",
        "judge.kind=contrast",
        "teacher.replay=0",
        f"users.files=[{logs}]",
        f"run.dir={tmp_path / 'run'}",
    )
    line = one_line(run_rapo("train", DEMO, *TINY, *settings))
    assert "too few rated conversations to replay" in line
    assert not (tmp_path / "run" / "sft").exists(), "found out only after the model was made"


def test_dialogues_that_are_all_set_aside_say_so(tmp_path, monkeypatch):
    about = (f"case {i}" for i in range(100))
    aside = next(each for each in about if set_aside(scenario_from_row({"situation": each}, "x", "x")))
    rows = [{"messages": TALK, "situation": aside}, {"messages": TALK[:2], "situation": aside.upper()}]
    write(tmp_path / "logs.jsonl", "\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    line = one_line(run_rapo("sft", DEMO, "run.dir=run", *TINY, "sft.files=[logs.jsonl]"))
    assert line == (
        "rapo: there is nothing to learn from; got logs.jsonl: 2 dialogues, all set aside for evaluation; "
        "expected dialogues that differ in situation or first message"
    )


def broken(start: Path, folder: Path, name: str) -> Path:
    shutil.copytree(start, folder)
    for path in folder.glob(name):
        path.unlink()
    return folder


@pytest.mark.parametrize(
    ("lacking", "expected"),
    [
        ("config.json", "has no config.json"),
        ("*.safetensors", "has no weights; expected *.safetensors"),
        ("tokenizer*", "has no tokenizer; expected tokenizer.json"),
        ("chat_template.jinja", "has no chat template"),
    ],
)
def test_a_model_folder_that_lacks_something(start, tmp_path, lacking, expected):
    folder = broken(start, tmp_path / "model", lacking)
    assert expected in one_line(run_rapo("train", DEMO, *TINY, f"run.dir={tmp_path / 'run'}", f"policy.path={folder}"))
    assert expected in one_line(run_rapo("eval", folder, "--set", "eval.dialogues=4"))


def test_torn_weights(start, tmp_path):
    folder = broken(start, tmp_path / "model", "nothing")
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    assert "cannot be loaded" in one_line(run_rapo("eval", folder))


def test_a_model_folder_that_is_not_there(tmp_path):
    line = one_line(run_rapo("train", DEMO, *TINY, f"run.dir={tmp_path / 'run'}", f"policy.path={tmp_path}/none"))
    assert "no such model folder" in line


def test_a_mistyped_hub_id_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    line = one_line(run_rapo("train", DEMO, *TINY, f"run.dir={tmp_path / 'run'}", "policy.path=Qwen/Qwen3-0.6C"))
    assert "Qwen/Qwen3-0.6C is neither a folder nor a model that could be read from the Hugging Face hub" in line


@pytest.mark.parametrize("command", ["sft", "train"])
def test_a_context_too_small_for_the_dialogues(tmp_path, command):
    line = one_line(run_rapo(command, DEMO, *TINY, f"run.dir={tmp_path / 'run'}", "policy.max_context=40"))
    assert "longer than the model's context" in line
    assert "policy.max_context" in line


def test_a_loaded_model_with_too_small_a_context(start, tmp_path):
    folder = broken(start, tmp_path / "model", "nothing")
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 40}
    write(folder / "config.json", json.dumps(config))
    line = one_line(run_rapo("train", DEMO, *TINY, f"run.dir={tmp_path / 'run'}", f"policy.path={folder}"))
    assert "expected at most 16 (40 less max_tokens 24)" in line


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_run_directory_that_cannot_be_made(tmp_path, place):
    write(tmp_path / "file", "mine")
    line = one_line(run_rapo("train", DEMO, *TINY, f"run.dir={tmp_path / place}"))
    assert "cannot be written" in line
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_directory_in_use(trained, tmp_path):
    assert f"go on with `rapo resume {trained}`" in one_line(run_rapo("train", DEMO, *TINY, f"run.dir={trained}"))
    write(tmp_path / "thesis.txt", "years of work")
    assert "is not empty; got thesis.txt" in one_line(run_rapo("train", DEMO, *TINY, f"run.dir={tmp_path}"))


def test_resume_without_a_run(tmp_path):
    assert f"{tmp_path} holds no run" in one_line(run_rapo("resume", tmp_path))
    assert "none holds no run" in one_line(run_rapo("resume", tmp_path / "none"))


def test_a_model_that_is_not_ready_is_told_which_skills_it_lacks(start, tmp_path):
    gate = ("gate.enabled=true", "gate.cases=8")
    line = one_line(run_rapo("train", DEMO, *TINY, *gate, f"run.dir={tmp_path / 'run'}", f"policy.path={start}"))
    assert "it does not copy facts (loss" in line
    assert "it does not follow critiques (lift" in line
    assert "gate.enabled=false" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("command", ["sft", "train"])
def test_a_gpu_that_is_not_there(tmp_path, command):
    line = one_line(run_rapo(command, DEMO, *TINY, f"run.dir={tmp_path / 'run'}", "run.device=cuda"))
    assert "no GPU" in line
    assert "run.device=cpu" in line


def test_eval_of_a_run_without_a_model(trained, tmp_path):
    shutil.copy(trained / "config.yaml", tmp_path)
    assert f"holds no model yet; finish it first: rapo resume {tmp_path}" in one_line(run_rapo("eval", tmp_path))


def test_eval_into_a_folder_that_is_not_there(trained, tmp_path):
    line = one_line(run_rapo("eval", trained, "--json", tmp_path / "no" / "table.json"))
    assert "table.json cannot be written" in line


def test_a_message_carries_no_terminal_sequences():
    assert "\x1b" not in one_line(run_rapo("data", "\x1b[31mred.jsonl"))
