"""A run that trains an adapter: saved as peft saves it, resumed to the same bits, merged into an ordinary model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rapo.models.policy import Policy

from .conftest import DEMO, ONE_STEP, TINY, everything, kill_when, one_line, records, run_rapo, weights

# Long enough to be hit.
LORA = (*TINY, "lora.rank=4", "update.lr=0.02", "train.steps=6", "eval.dialogues=16", "eval.populations=[familiar]")


@pytest.fixture(scope="module")
def adapted(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that trained an adapter, not to be changed."""
    run = tmp_path_factory.mktemp("adapted") / "run"
    result = run_rapo("train", DEMO, f"run.dir={run}", f"policy.path={start}", *LORA)
    assert result.code == 0, result
    return run


@pytest.fixture
def newest(adapted: Path) -> Path:
    return adapted / "checkpoints" / "step-000006"


def logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.arange(24)[None] * 7
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_a_checkpoint_holds_the_adapter_and_not_the_model(start, newest):
    names = {path.name for path in newest.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "teacher"} <= names
    assert not names & {"config.json", "model.safetensors"}
    assert json.loads((newest / "adapter_config.json").read_text())["base_model_name_or_path"] == str(start)
    sizes = {name: tensor.numel() for name, tensor in load_file(newest / "optimizer.safetensors").items()}
    factors = sum(tensor.numel() for tensor in load_file(newest / "adapter_model.safetensors").values())
    # Two moments of each factor, and one step count for each of the 7 layers' two factors.
    assert sum(sizes.values()) == 2 * factors + 14


@pytest.mark.parametrize("folder", [".", "teacher"])
def test_peft_and_transformers_load_it(start, newest, folder):
    base = AutoModelForCausalLM.from_pretrained(start)
    before = logits(base)
    by_peft = logits(PeftModel.from_pretrained(base, newest / folder))
    assert not torch.equal(by_peft, before)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(newest / folder)), by_peft)
    assert AutoTokenizer.from_pretrained(newest / folder).chat_template


def test_the_update_sees_the_policy_that_was_sampled_from(adapted):
    # The adapter is more than nothing from the second step on.
    ratios = [row["ratio"] for row in records(adapted, "metrics")[1:] if row["macro_tokens"]]
    assert len(ratios) > 2
    assert ratios == pytest.approx([1.0] * len(ratios), abs=1e-4)


def test_killed_and_resumed_it_ends_with_the_same_bits(launch, adapted, start, tmp_path, monkeypatch):
    run = tmp_path / "run"
    process = launch("train", DEMO, f"run.dir={run}", f"policy.path={start}", *LORA)
    kill_when(process, (run / "checkpoints" / "step-000002").exists)
    loaded, load = [], Policy.load
    monkeypatch.setattr(Policy, "load", lambda source, **how: (loaded.append(source), load(source, **how))[1])
    result = run_rapo("resume", run)
    assert result.code == 0, result
    assert "reinforce      2/6" in result.out
    assert loaded == [str(start)]  # student and teacher stand on the one base
    assert everything(run) == everything(adapted)


def test_another_base_in_its_place_is_noticed(adapted, start, tmp_path):
    base, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(start, base)
    shutil.copytree(adapted, run)
    for name in ("summary.json", "evaluation-after.json"):
        (run / name).unlink()
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(start), str(base)))
    changed = {name: tensor * 1.01 for name, tensor in load_file(start / "model.safetensors").items()}
    save_file(changed, base / "model.safetensors", metadata={"format": "pt"})
    assert "the base model is not the one that the adapter in" in one_line(run_rapo("resume", run))
    save_file(load_file(start / "model.safetensors"), base / "model.safetensors", metadata={"format": "pt"})
    assert run_rapo("resume", run).code == 0


def test_exported_it_is_an_ordinary_model(adapted, newest, tmp_path):
    out = tmp_path / "deep" / "out"
    result = run_rapo("export", adapted, out)
    assert result.code == 0, result
    assert f"{out} holds the model of {newest}" in result.out
    merged = AutoModelForCausalLM.from_pretrained(out)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    gap = logits(merged) - logits(AutoModelForCausalLM.from_pretrained(newest))
    assert gap.abs().max() < 1e-4
    assert AutoTokenizer.from_pretrained(out).chat_template
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert "exists already" in one_line(run_rapo("export", newest, out))


def test_a_run_of_all_weights_is_exported_too(trained, tmp_path):
    assert run_rapo("export", trained, tmp_path / "out").code == 0
    assert weights(tmp_path / "out") == weights(trained / "checkpoints" / "step-000004")
    assert not list((tmp_path / "out").glob("optimizer*"))


def test_an_export_that_fails_leaves_nothing(adapted, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    assert "cannot be written; got No space left" in one_line(run_rapo("export", adapted, tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_is_evaluated_like_a_model(adapted, tmp_path):
    table = tmp_path / "table.json"
    settings = ("--set", "eval.dialogues=1", "--set", "eval.turns=1")
    result = run_rapo("eval", adapted, *settings, "--json", table)
    assert result.code == 0, result
    assert str(adapted) in {row["speaker"] for row in json.loads(table.read_text())["results"]}


def test_a_check_says_how_much_is_trained(start, tmp_path):
    result = run_rapo("check", DEMO, f"run.dir={tmp_path / 'run'}", f"policy.path={start}", *LORA)
    assert result.code == 0, result
    assert "0.0M of them trained" in " ".join(result.out.split())
    wrong = ("lora.targets=[q_proj,v_prj]",)
    result = run_rapo("check", DEMO, f"run.dir={tmp_path / 'run'}", f"policy.path={start}", *LORA, *wrong)
    assert result.code == 1
    assert "lora.targets names no linear layer of this model; got v_prj" in " ".join(result.out.split())


def test_fine_tuning_makes_an_adapter_that_training_goes_on_with(start, tmp_path):
    sft, run = tmp_path / "sft", tmp_path / "run"
    short = ("sft.optimizer=adamw", "sft.adam_lr=1e-3", "sft.practice=0", "sft.dialogues=4", "sft.corrections=4")
    result = run_rapo("sft", DEMO, f"run.dir={sft}", f"policy.path={start}", *LORA, *short, "lora.alpha=6")
    assert result.code == 0, result
    own = f"policy.path={sft / 'sft'}"
    result = run_rapo("train", DEMO, f"run.dir={run}", own, *LORA, *ONE_STEP)
    assert result.code == 0, result
    assert len(records(run, "metrics")) == 1
    settings = json.loads((run / "checkpoints" / "step-000001" / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["lora_alpha"]) == (str(start), 6)
    assert weights(run / "checkpoints" / "step-000001") != weights(sft / "sft")
    another = tmp_path / "another"
    for overrides, message in [
        (("lora.rank=8",), "is not what lora asks for; got rank 4, alpha 6"),
        (("lora.alpha=7",), "expected rank 4, alpha 7"),
        (("lora.targets=[q_proj]",), "expected rank 4, alpha 6 on q_proj"),
        (("lora.rank=",), "is an adapter; set lora.rank=4 to train it on"),
    ]:
        assert message in one_line(run_rapo("train", DEMO, f"run.dir={another}", own, *LORA, *overrides))
