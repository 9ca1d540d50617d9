"""Folders of strangers: what lies in them runs nothing until the user says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from .conftest import one_line, run_rapo

EVIL = """
import pathlib
from transformers import LlamaConfig, LlamaForCausalLM

pathlib.Path("{}").touch()

class Config(LlamaConfig):
    model_type = "evil"

class Model(LlamaForCausalLM):
    config_class = Config
"""


@pytest.mark.parametrize("command", [["eval"], ["compare", "other"], ["chat"]], ids=lambda words: words[0])
def test_a_config_beside_a_model_starts_no_program(command, tmp_path):
    options = {"args": f"touch {tmp_path}/PWNED", "shell": True}
    config = {"users": {"kind": "subprocess:Popen", "options": options}, "judge": {"kind": "contrast"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"teacher": {"replay": 0}}))
    line = one_line(run_rapo(command[0], tmp_path, *command[1:]))
    assert f"users.kind in {tmp_path}/config.yaml runs code" in line and f"--config {tmp_path}/config.yaml" in line
    assert not (tmp_path / "PWNED").exists()


@pytest.fixture
def folder_with_code(start: Path, tmp_path: Path) -> Path:
    """A run folder whose model brings Python code, and whose config lets it run."""
    run, proof = tmp_path / "run", tmp_path / "PWNED"
    shutil.copytree(start, run / "sft")
    (run / "sft" / "evil.py").write_text(EVIL.format(proof))
    config = json.loads((run / "sft" / "config.json").read_text())
    auto = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    (run / "sft" / "config.json").write_text(json.dumps(config | {"auto_map": auto, "model_type": "evil"}))
    (run / "config.yaml").write_text("policy: {trust_remote_code: true}\n")
    return run


def test_an_export_runs_a_models_code_only_where_it_is_told_to(folder_with_code, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    line = one_line(run_rapo("export", folder_with_code, tmp_path / "out"))
    assert "needs its own Python code" in line and "rapo export --trust-remote-code" in line
    assert not (tmp_path / "PWNED").exists()
    assert run_rapo("export", folder_with_code, tmp_path / "out", "--trust-remote-code").code == 0
    assert (tmp_path / "PWNED").exists()
