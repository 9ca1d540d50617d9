"""rapo check names what a run will lack, each in a line with its way out, before it costs anything."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_llm import fake_llm
from fault_server import FaultServer, always, closed_url, never

from .conftest import DEMO, Result, run_rapo

Usage = namedtuple("Usage", "total used free")


def row(i: int) -> dict[str, Any]:
    return {"id": f"s{i}", "situation": f"Case {i}.", "opening": f"I lost job {i}.", "profile": {"need": "to be asked"}}


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    path = tmp_path / "scenarios.jsonl"
    path.write_text("".join(json.dumps(row(i)) + "\n" for i in range(30)))
    return path


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(reply=fake_llm, slow=40.0) as running:
        yield running


@pytest.fixture
def check(tmp_path: Path, scenarios: Path, server: FaultServer, start: Path) -> Callable[..., Result]:
    """``check(*overrides)`` of a run that would be fine without them."""

    def run(*overrides: str) -> Result:
        models = [
            f"models.{name}.{key}" for name in ("player", "judge") for key in (f"url={server.url}", f"name={name}")
        ]
        users = ["users.kind=llm", f"users.files=[{scenarios}]", "users.models=[player]", "teacher.replay=0"]
        judge = ["judge.kind=llm", "judge.model=judge", "play.dialogues=8"]
        own = [f"run.dir={tmp_path / 'run'}", f"policy.path={start}", "policy.max_tokens=24"]
        return run_rapo("check", DEMO, *own, *users, *judge, *models, *overrides)

    return run


def test_nothing_to_mend(check, tmp_path):
    result = check()
    assert result.code == 0, result
    lines = [line.split() for line in result.out.splitlines() if line[:4] in {"ok  ", "warn", "fail"}]
    assert {line[0] for line in lines} == {"ok"}
    assert "0 to know, 0 to mend: the run can start" in result.out
    assert not (tmp_path / "run").exists()


def test_the_estimate_is_what_a_run_would_ask(check, server):
    found = re.search(r"up to ([\d,]+): ([\d,]+) as user, ([\d,]+) as judge, ([\d,]+) as evaluation", check().out)
    # 40 steps; 8 dialogues x 3 replies = 24, a quarter of them in groups: 6 of 8 candidates, 4 x 0.25 corrections
    # verified: 24 + 6 x 9 = 78 echoes of two calls. Evaluation: twice 64 dialogues of 6 replies.
    user, judge, evaluation = 40 * 78 * 2, 40 * 6, 2 * 64 * 6 * 2
    assert [int(n.replace(",", "")) for n in found.groups()] == [user + judge + evaluation, user, judge, evaluation]


def forgets(body: dict[str, Any]) -> str:
    """A server that silently reads the end of long prompts only."""
    short = [{**message, "content": message["content"][-4000:]} for message in body["messages"]]
    return fake_llm({**body, "messages": short})


def babbles(body: dict[str, Any]) -> str:
    return fake_llm(body) if body["model"] == "player" or len(body["messages"]) == 1 else "I would rather not."


# name: (level, in which line, what it says, its way out; None where a fault is set on the machine and not by override)
FAULTS: dict[str, tuple[str, str, str, str]] = {
    "a model folder that is missing": ("fail", "policy", "no such model folder", "check the path"),
    "torn weights": ("fail", "policy", "cannot be loaded", ""),
    "a data file that is missing": ("fail", "users", "cannot read", "check the path and its permissions"),
    "a corrupt row": ("warn", "users", "1 rows left out, first {scenarios}:31", "rapo data names all"),
    "a row against the schema": ("warn", "users", "{scenarios}:31", "rapo data names all"),
    "too few scenarios": ("warn", "users", "different scenarios for 500 dialogues", "lower play.dialogues"),
    "a run folder below a file": ("fail", "run folder", "cannot be written to", "choose another run.dir"),
    "a full disk": ("fail", "disk", "0.0 GiB free", "free some space"),
    "a closed port": ("fail", "judge", "no connection", "start it, or mend models.judge.url"),
    "a key that is not set": ("fail", "judge", "RAPO_NO_KEY holds no usable key", "set RAPO_NO_KEY"),
    "a key that is refused": ("fail", "player", "401", "check models.player.key_env, which is not set"),
    "a model that is not served": ("fail", "player", "404", "and the model name player"),
    "another model that answers": ("fail", "player", "answers as another model", "models.player.name"),
    "a redirect": ("fail", "player", "does not answer itself", "give the final address"),
    "no JSON schemas": ("warn", "judge: JSON", "only asked for in words", "models.judge.json_schema=off"),
    "a context that is cut silently": ("fail", "judge: context", "are cut or refused", "num_ctx"),
    "an endpoint that hangs": ("fail", "player", "no complete answer within 6 s", "models.player.url"),
    "a judge that will not judge": ("fail", "a judge's verdict", "no usable answer", "take a stronger model"),
    "a budget that is too small": ("warn", "budget", "calls.max_calls=50 ends the run early", "raise calls.max_calls"),
}


def cause(fault: str, server: FaultServer, scenarios: Path, start: Path, tmp_path: Path, patch: Any) -> list[str]:
    """Set the fault; the overrides that go with it."""
    responses = {
        "a key that is refused": "401",
        "a model that is not served": "404",
        "another model that answers": "wrong model",
        "a redirect": "redirect",
        "an endpoint that hangs": "hang",
    }
    server.faults = always(responses[fault]) if fault in responses else never
    server.schemas = fault != "no JSON schemas"
    server.reply = {"a context that is cut silently": forgets, "a judge that will not judge": babbles}.get(
        fault, fake_llm
    )
    if fault == "a corrupt row":
        scenarios.write_text(scenarios.read_text() + '{"situation": \n')
    if fault == "a row against the schema":
        scenarios.write_text(scenarios.read_text() + json.dumps({"situation": "x", "opening": 7}) + "\n")
    if fault == "a full disk":
        patch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    if fault == "torn weights":
        shutil.copytree(start, tmp_path / "torn")
        weights = tmp_path / "torn" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "file").write_text("")
    overrides = {
        "a model folder that is missing": [f"policy.path={tmp_path / 'nowhere'}"],
        "torn weights": [f"policy.path={tmp_path / 'torn'}"],
        "a data file that is missing": [f"users.files=[{tmp_path / 'nowhere.jsonl'}]"],
        "too few scenarios": ["play.dialogues=500", "users.personas=false"],
        "a run folder below a file": [f"run.dir={tmp_path / 'file' / 'run'}"],
        "a closed port": [f"models.judge.url={closed_url()}"],
        "a key that is not set": ["models.judge.key_env=RAPO_NO_KEY"],
        "a budget that is too small": ["calls.max_calls=50"],
    }
    return overrides.get(fault, [])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_way_out(check, server, scenarios, start, tmp_path, monkeypatch, fault):
    level, what, found, fix = FAULTS[fault]
    overrides = cause(fault, server, scenarios, start, tmp_path, monkeypatch)
    began = time.monotonic()
    result = check(*overrides)
    assert time.monotonic() - began < 30
    assert result.code == (1 if level == "fail" else 0), result
    lines = result.out.splitlines()
    start_of_line = f"{level:<5} {what} "
    places = [
        i
        for i, line in enumerate(lines)
        if line.startswith(start_of_line) and found.format(scenarios=scenarios) in line
    ]
    assert places, result.out
    assert fix in lines[places[0] + 1]
    assert "Traceback" not in result.out + result.err
