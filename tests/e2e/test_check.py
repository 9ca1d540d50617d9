"""rapo check names what a run will lack, each in a line with its way out, before it costs anything."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import logging

from fake_llm import fake_llm
from fault_server import FaultServer, always, closed_url, never
from rapo import check as checks
from rapo.check import remote, weights
from rapo.data import load_scenarios, set_aside
from rapo.models import local
from rapo.models.policy import Policy

from .conftest import DEMO, Result, run_rapo

Usage = namedtuple("Usage", "total used free")
SLACK = 5.0  # seconds for all that asks no model, on a busy machine


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
def llm_run(tmp_path: Path, scenarios: Path, server: FaultServer, start: Path) -> Callable[[], list[str]]:
    """The overrides of a run that would be fine."""

    def settings() -> list[str]:
        models = [
            f"models.{name}.{key}" for name in ("player", "judge") for key in (f"url={server.url}", f"name={name}")
        ]
        users = ["users.kind=llm", f"users.files=[{scenarios}]", "users.models=[player]", "teacher.replay=0"]
        judge = ["judge.kind=llm", "judge.model=judge", "play.dialogues=8"]
        own = [f"run.dir={tmp_path / 'run'}", f"policy.path={start}", "policy.max_tokens=24"]
        return [*own, *users, *judge, *models]

    return settings


@pytest.fixture
def check(llm_run: Callable[[], list[str]]) -> Callable[..., Result]:
    """``check(*overrides)`` of a run that would be fine without them."""
    return lambda *overrides: run_rapo("check", DEMO, *llm_run(), *overrides)


def test_nothing_to_mend(check, tmp_path):
    result = check()
    assert result.code == 0, result
    lines = [line.split() for line in result.out.splitlines() if line[:4] in {"ok  ", "warn", "fail"}]
    assert {line[0] for line in lines} == {"ok"}
    assert "0 to know, 0 to mend: the run can start" in result.out
    assert not (tmp_path / "run").exists()


def test_the_estimate_is_what_a_run_asks(check, llm_run, server, tmp_path):
    sizes = ("train.steps=2", "play.dialogues=4", "eval.dialogues=3", "eval.turns=2", "eval.bootstrap=50")
    settings = (*llm_run(), *sizes, "eval.judge=judge", "correct.verify=0.5")
    found = re.search(r"about ([\d,]+): (.*)", check(*settings).out)
    told = {role: int(n.replace(",", "")) for n, role in re.findall(r"([\d,]+) as ([a-z ]+)", found[2])}
    # 4 dialogues x 3 replies = 12, a quarter of them in groups: 3 of 8 candidates, 4 corrections, half verified.
    plain, verified = 2 * (12 + 3 * 8) * 2, 2 * 3 * 4 * 2
    evaluation = {"user of the evaluation": 2 * 3 * 2 * 2, "evaluation judge": 2 * 3}
    assert told == {"user": plain + verified // 2, "judge": 2 * 3} | evaluation
    assert int(found[1].replace(",", "")) == sum(told.values())

    result = run_rapo("train", DEMO, *settings)
    assert result.code == 0, result
    with sqlite3.connect(tmp_path / "run" / "journal.sqlite") as db:
        asked = dict(db.execute("SELECT role || ' ' || substr(purpose, 1, 4), count(*) FROM answers GROUP BY 1"))
        (attempts,) = db.execute("SELECT count(*) FROM attempts").fetchone()
    assert attempts == sum(asked.values())
    assert asked["judge judg"] == told["judge"]
    # A draw decides which corrections are verified: any number of them may be.
    assert plain <= asked["user user"] <= plain + verified
    # The trained policy may say what it said before, to which the journal knows the answer.
    assert told["user of the evaluation"] / 2 <= asked["evaluation user"] <= told["user of the evaluation"]
    assert told["evaluation judge"] / 2 <= asked["evaluation rate"] <= told["evaluation judge"]


def test_the_longest_prompt_is_measured_by_the_scenarios(check, server, scenarios):
    def longest() -> int:
        return int(re.search(r"reads prompts of (\d+) tokens", check().out)[1])

    short = longest()
    probe = max((hit.body["messages"][0]["content"] for hit in server.hits if hit.body["model"] == "player"), key=len)
    assert len(re.findall(r"\w+|\.", probe)) >= short
    scenarios.write_text(scenarios.read_text() + json.dumps(row(30) | {"profile": {"past": "word " * 1600}}) + "\n")
    assert 1900 < longest() - short < 2100


def test_a_folder_that_a_failed_start_left_is_free(check, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").touch()
    (tmp_path / "run" / "journal.sqlite").touch()
    result = check()
    assert result.code == 0, result


def test_no_bars_of_other_libraries_are_shown(check):
    logging.enable_progress_bar()
    check()
    assert not logging.is_progress_bar_enabled()


def test_a_class_that_is_none_leaves_a_way_out(tmp_path, start):
    own = ["users.kind=os:sep", "judge.kind=contrast", "teacher.replay=0"]
    result = run_rapo("check", DEMO, f"run.dir={tmp_path / 'run'}", f"policy.path={start}", *own)
    assert result.code == 1, result
    assert "names no class or function" in result.out
    assert "None" not in result.out


def test_a_model_in_this_process_is_loaded_as_the_run_will_have_it(check, start, monkeypatch):
    loaded, load = [], Policy.load
    monkeypatch.setattr(Policy, "load", lambda path, **kw: loaded.append(kw["dtype"]) or load(path, **kw))
    local._load.cache_clear()
    here = ["judge.model=here", f"models.here.path={start}", "models.here.max_tokens=40"]
    result = check(*here, "run.dtype=bfloat16", "lora.rank=2")
    # The policy, and the judge once.
    assert loaded == ["bfloat16"] * 2, result.out
    assert result.code == 1, result.out
    assert re.search(r"fail  here +prompts of about \d+ tokens beside answers of 40 do not fit", result.out), result.out


def test_weights_that_cannot_be_trained_are_told(check):
    result = check("run.dtype=bfloat16")
    assert result.code == 1, result
    assert re.search(r"fail  policy +weights in bfloat16 cannot be trained", result.out), result.out


def answers_after(seconds: float, server: FaultServer, purpose: str) -> Callable[[int, dict[str, Any]], None]:
    """Requests whose text holds ``purpose`` take ``seconds``, others no time."""

    def faults(_: int, body: dict[str, Any]) -> None:
        server.delay = seconds if purpose in json.dumps(body["messages"]) else 0.0

    return faults


def test_a_verdict_may_take_longer_than_a_hello(check, server, monkeypatch):
    monkeypatch.setattr(remote, "SECONDS", 1.0)
    server.faults = answers_after(1.6, server, "verdicts")
    result = check()
    assert result.code == 0, result
    assert re.search(r"ok    judge: a verdict +usable, in 1\.", result.out)


def test_a_verdict_that_takes_longer_than_its_own_limit_fails(check, server):
    server.faults = answers_after(2.0, server, "verdicts")
    result = check("models.judge.timeout=1")
    assert result.code == 1, result
    assert re.search(r"fail  judge: a verdict +no answer within models.judge.timeout=1\n +raise it", result.out)


def test_what_takes_longer_than_a_check_is_not_known(check, server, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 6.0)
    server.faults = answers_after(20.0, server, "JSON")
    began = time.monotonic()
    result = check("eval.judge=judge", "eval.models=[player]")
    assert time.monotonic() - began < 6.0 + SLACK
    assert result.code == 0, result
    for role in ("player: an echo", "player: evaluation echo", "judge: a verdict", "judge: a rating"):
        assert re.search(rf"warn  {role} +.*not known", result.out), result.out
    assert "rapo resume" not in result.out


@pytest.mark.parametrize("silent", ["", "JSON", "Remember", "verdicts"])
def test_silence_of_any_kind_keeps_within_the_time(check, server, monkeypatch, silent):
    monkeypatch.setattr(checks, "SECONDS", 3.0)
    monkeypatch.setattr(remote, "SECONDS", 1.0)
    server.faults = lambda _, body: "hang" if silent in json.dumps(body["messages"]) else None
    began = time.monotonic()
    result = check("eval.judge=judge", "eval.models=[player]")
    assert time.monotonic() - began < 3.0 + SLACK
    assert "Traceback" not in result.out + result.err


def test_the_time_of_a_check_leaves_room_within_half_a_minute():
    assert checks.SECONDS + SLACK <= 30


def forgets(body: dict[str, Any]) -> str:
    """A server that silently reads the end of long prompts only."""
    short = [{**message, "content": message["content"][-4000:]} for message in body["messages"]]
    return fake_llm({**body, "messages": short})


def babbles(body: dict[str, Any]) -> str:
    """Models with odd names cannot do anything but the simplest things."""
    return (
        fake_llm(body) if body["model"] in {"player", "judge"} or len(body["messages"]) == 1 else "I would rather not."
    )


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
    "an endpoint that hangs": ("fail", "player", "no complete answer within 1.5 s", "models.player.url"),
    "a judge that will not judge": ("fail", "odd: a verdict", "no usable answer", "take a stronger model"),
    "a rater that will not rate": ("fail", "odd: a rating", "no usable answer", "take a stronger model"),
    "one of two users that will not play": ("fail", "odd: an echo", "no usable answer", "take a stronger model"),
    "evaluation users that will not play": (
        "fail",
        "odd: evaluation echo",
        "no usable answer",
        "take a stronger model",
    ),
    "a folder with a run": ("fail", "run folder", "already holds a run", "rapo resume"),
    "a folder with other things": ("fail", "run folder", "is not empty", "choose another run.dir"),
    "nobody for the evaluation": ("fail", "evaluation users", "none is left for evaluation", "a dozen or more"),
    "a journal below a file": ("fail", "journal", "cannot be written to", "another file as calls.journal"),
    "a journal that is none": ("fail", "journal", "is not a journal", "another file as calls.journal"),
    "no text to learn from": ("fail", "training text", "no corpus for users.kind=llm", "a model in policy.path"),
    "a long text to learn from": ("warn", "training text", "a dialogue of about 2498", "raise policy.max_context"),
    "talks that may not fit": ("warn", "room for talks", "the policy reads 768", "lower play.turns"),
    "talks that cannot fit": ("fail", "room for talks", "the policy reads 768", "lower play.turns"),
    "a policy to be downloaded": ("warn", "policy", "is not downloaded yet", "hf download nobody/nothing"),
    "a judge to be downloaded": ("warn", "hub", "is not downloaded yet", "hf download nobody/nothing"),
    "a judge too large for a check": ("warn", "here", "not loaded in a check", "train.steps=1 tries it"),
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
    server.reply = forgets if fault == "a context that is cut silently" else babbles
    if fault == "a corrupt row":
        scenarios.write_text(scenarios.read_text() + '{"situation": \n')
    if fault == "a row against the schema":
        scenarios.write_text(scenarios.read_text() + json.dumps({"situation": "x", "opening": 7}) + "\n")
    if fault == "nobody for the evaluation":
        kept = [i for i, one in enumerate(load_scenarios([scenarios], "support").scenarios) if not set_aside(one)]
        scenarios.write_text("".join(json.dumps(row(i)) + "\n" for i in kept))
    if fault == "a judge too large for a check":
        patch.setattr(weights, "LARGEST_LOADED", 1000)
    for name in {"a folder with a run": ["config.yaml"], "a folder with other things": ["thesis.tex"]}.get(fault, []):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / name).touch()
    long = [{"role": "user", "content": "word " * 1000}, {"role": "assistant", "content": "word " * 1000}]
    (tmp_path / "long.jsonl").write_text(json.dumps({"messages": long}) + "\n")
    if fault == "a full disk":
        patch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    if fault == "torn weights":
        shutil.copytree(start, tmp_path / "torn")
        model = tmp_path / "torn" / "model.safetensors"
        model.write_bytes(model.read_bytes()[:-100])
    (tmp_path / "file").write_text("no journal")
    odd = [f"models.odd.{key}" for key in (f"url={server.url}", "name=odd")]
    overrides = {
        "a judge that will not judge": ["judge.model=odd", *odd],
        "a rater that will not rate": ["eval.judge=odd", *odd],
        "one of two users that will not play": ["users.models=[player, odd]", *odd],
        "evaluation users that will not play": ["eval.models=[odd]", *odd],
        "a journal below a file": [f"calls.journal={tmp_path / 'file' / 'journal.sqlite'}"],
        "a journal that is none": [f"calls.journal={tmp_path / 'file'}"],
        "no text to learn from": ["policy.path=null"],
        "a long text to learn from": ["policy.path=null", f"sft.files=[{tmp_path / 'long.jsonl'}]"],
        "talks that may not fit": ["play.turns=15"],
        "talks that cannot fit": ["play.turns=60"],
        "a policy to be downloaded": ["policy.path=nobody/nothing"],
        "a judge to be downloaded": ["judge.model=hub", "models.hub.path=nobody/nothing"],
        "a judge too large for a check": ["judge.model=here", f"models.here.path={start}"],
        "a model folder that is missing": [f"policy.path={tmp_path / 'nowhere'}"],
        "torn weights": [f"policy.path={tmp_path / 'torn'}"],
        "a data file that is missing": [f"users.files=[{tmp_path / 'nowhere.jsonl'}]"],
        "too few scenarios": ["play.dialogues=500", "users.personas=false"],
        "a run folder below a file": [f"run.dir={tmp_path / 'file' / 'run'}"],
        "an endpoint that hangs": ["models.player.timeout=1.5"],
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
