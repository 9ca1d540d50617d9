"""``rapo eval`` and ``rapo compare`` as a person gives them: what is kept, when it is taken again, and mistakes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from rapo.config import RunConfig
from rapo.evals.suite import Result
from rapo.evaluate import Kept

from .conftest import DEMO, one_line, run_rapo

DATA = Path(__file__).parents[1] / "fixtures" / "sotopia"
STAND_IN = "rapo.models.stand_in:answer"


def settings(folder: Path, *given: str) -> list[str]:
    every = [f"run.dir={folder}", *(f"models.{name}.path={STAND_IN}" for name in "ab"), "eval.bootstrap=50", *given]
    return ["--config", str(DEMO), *(part for each in every for part in ("--set", each))]


def kept(folder: Path) -> dict[str, Any]:
    files = (folder / "evaluations").iterdir()
    return {path.name: (json.loads(path.read_text()), path.stat().st_mtime_ns) for path in files}


def test_one_model_twice_is_nothing_to_compare(tmp_path: Path) -> None:
    assert "nothing to compare" in one_line(run_rapo("compare", "a", "a", *settings(tmp_path)))
    assert not tmp_path.joinpath("evaluations").exists()


def test_a_model_named_twice_is_measured_once(tmp_path: Path) -> None:
    ran = run_rapo("compare", "a", "b", "b", "--suite", "safety", *settings(tmp_path, "suites.items=2"))
    assert ran.code == 0, ran
    against = ran.out[ran.out.index("against a") :]
    assert [line.split()[0] for line in against.splitlines() if "safety" in line] == ["b"]


@pytest.mark.parametrize(
    ("mistyped", "told"),
    [
        ("runs/TYPO", "no such model folder; got runs/TYPO"),
        ("TYPO", "TYPO is neither a folder nor a model"),
        ("f", "path=no_such:answer cannot be imported"),
    ],
)
def test_all_names_are_looked_for_before_anything_is_measured(tmp_path: Path, monkeypatch, mistyped, told) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    given = settings(tmp_path / "run", "suites.items=2", "models.f.path=no_such:answer")
    assert told in one_line(run_rapo("compare", "a", mistyped, "--suite", "safety", *given))
    assert not kept(tmp_path / "run")


@pytest.mark.parametrize("changed", ["contents", "a model without a part in it", "nothing"])
def test_what_is_kept_is_taken_again_when_what_it_depends_on_changes(tmp_path: Path, changed: str) -> None:
    data = tmp_path / "profiles.jsonl"
    rows = [{"id": f"p{i}", "situation": f"Situation {i}.", "opening": "Hello."} for i in range(2)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [f"suites.emoharbor=[{data}]", "suites.users=a", "eval.turns=1"]
    assert run_rapo("eval", "a", "--suite", "emoharbor", *settings(tmp_path / "run", *given)).code == 0
    before = kept(tmp_path / "run")["emoharbor--a.json"]
    if changed == "contents":
        # The same size, and the same path.
        data.write_text(data.read_text().replace("Situation 1", "Situation 9"))
    if changed == "a model without a part in it":
        given.append(f"models.c.path={STAND_IN}")
    assert run_rapo("eval", "a", "--suite", "emoharbor", *settings(tmp_path / "run", *given)).code == 0
    after = kept(tmp_path / "run")["emoharbor--a.json"]
    assert (before == after) is (changed != "contents")


def test_one_folder_by_two_names_is_two_speakers(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "safety", RunConfig())
    for name in ("runs/a", "runs/a/", "runs/a"):
        (found,) = kept.get(name, "the same folder", lambda name=name: [Result("safety", name, "", "care", ())])
        assert found.speaker == name


def test_a_comparison_uses_what_an_evaluation_has_kept(tmp_path: Path) -> None:
    given = ["--suite", "safety", *settings(tmp_path, "suites.items=2")]
    assert run_rapo("eval", "a", "b", *given).code == 0
    before = kept(tmp_path)
    assert run_rapo("compare", "a", "b", *given).code == 0
    assert kept(tmp_path) == before


def test_a_speaker_that_fails_too_often_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It greets everybody, and then has no more to say.
    body = "def answer(request):\n    return 'Hello.' if len(request.messages) < 3 else None\n"
    (tmp_path / "falls_silent.py").write_text(body)
    monkeypatch.chdir(tmp_path)
    given = ["--suite", "support", *settings(tmp_path, "eval.dialogues=4", "models.s.path=falls_silent:answer")]
    given += ["--set", "eval.exploits=false", "--set", "policy.system_prompt=null"]
    strict = one_line(run_rapo("eval", "s", *given, "--set", "calls.max_missing=0.4"))
    assert "8 of 16 replies of s are missing; expected at most 40%" in strict
    assert not kept(tmp_path)
    assert run_rapo("eval", "s", *given, "--set", "calls.max_missing=0.5").code == 0


def test_a_talk_of_ones_own_needs_no_simulated_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello.\n/watch\nMore.\n"))
    missing = ("users.kind=replay", "judge.kind=contrast", "teacher.replay=0", f"users.files=[{tmp_path}/none.jsonl]")
    given = [*settings(tmp_path, *missing), "--out", tmp_path / "chats"]
    ran = run_rapo("chat", "a", *given)
    assert ran.code == 0, ran
    assert "none.jsonl" in ran.err
    # What could not be watched ended nothing: both messages are in one talk.
    (file,) = (tmp_path / "chats").iterdir()
    said = [message["content"] for message in json.loads(file.read_text())["messages"]]
    assert said[0] == "Hello." and "More." in said
    assert "none.jsonl" in one_line(run_rapo("chat", "a", "--watch", *given))
