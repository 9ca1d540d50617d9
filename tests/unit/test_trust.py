"""A config that lies beside a model runs no code and calls nobody unless the user names it, or the very key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rapo.config import describe_config
from rapo.config.trust import load_found
from rapo.errors import ConfigError

OWN_USERS = {"users": {"kind": "a.b:C"}, "judge": {"kind": "contrast"}, "teacher": {"replay": 0}}
POWERS: dict[str, dict[str, Any]] = {
    "users.kind": OWN_USERS,
    "users.importer": {
        "users": {"kind": "replay", "files": ["x"], "importer": "a:b"},
        "judge": {"kind": "contrast"},
        "teacher": {"replay": 0},
    },
    "judge.kind": {"judge": {"kind": "a:B"}},
    "sft.importer": {"sft": {"files": ["x"], "importer": "a:b"}},
    "models.m.path": {"models": {"m": {"path": "os:system"}}},
    "models.m.url": {"models": {"m": {"url": "http://127.0.0.1:9/v1", "name": "m"}}},
    "models.m.key_env": {"models": {"m": {"path": "folder", "key_env": "HOME"}}},
    "calls.journal": {"calls": {"journal": "/home/me/.bashrc"}},
    "policy.trust_remote_code": {"policy": {"trust_remote_code": True}},
}


def found(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("key", POWERS)
def test_each_key_that_reaches_out_is_refused_with_the_way_out(key, tmp_path):
    path = found(tmp_path, POWERS[key])
    with pytest.raises(ConfigError, match=rf"^{key} in {path} .* add: --config {path}$"):
        load_found(path)


def test_every_key_that_takes_a_dotted_path_is_one_of_them():
    dotted = {row.key.replace("NAME", "m") for row in describe_config() if "package.module:Name" in row.type}
    assert dotted == {"users.kind", "users.importer", "judge.kind", "sft.importer"}
    assert dotted < POWERS.keys()


def test_a_key_that_the_user_gives_is_the_users_own(tmp_path):
    path = found(tmp_path, POWERS["policy.trust_remote_code"])
    assert load_found(path, ["policy.trust_remote_code=true"]).policy.trust_remote_code
    assert load_found(found(tmp_path, OWN_USERS), [" users.kind=d:E"]).users.kind == "d:E"


def test_everything_else_is_taken_as_it_is(tmp_path):
    harmless = {
        "eval": {"dialogues": 3},
        "policy": {"system_prompt": "prompt:supporter"},
        "models": {"m": {"path": "hub/id"}},
    }
    config = load_found(found(tmp_path, harmless | {"run": {"dir": "/home/me"}}))
    assert config.eval.dialogues == 3 and config.models["m"].path == "hub/id"


def test_results_stay_in_the_folder_unless_the_user_says_otherwise(tmp_path):
    path = found(tmp_path, {"run": {"dir": "/home/me", "seed": 5}})
    assert (load_found(path).run.dir, load_found(path).run.seed) == (tmp_path, 5)
    assert load_found(path, ["run.dir=there"]).run.dir == Path("there")
