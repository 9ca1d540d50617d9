"""Users, judge and evaluation judge behind a real HTTP server: a run trains, pays nothing twice, stops cleanly."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fake_llm import fake_llm
from fault_server import FaultServer, never, once

from .conftest import DEMO, TINY, everything, one_line, records, run_rapo

CANARY = "ZEBRA-4417-QUARTZ"
SECRET = "sk-canary-0123456789abcdef"
EVAL_LLM = ("eval.dialogues=3", "eval.turns=2", "eval.bootstrap=50", "train.steps=3", "train.save_every=2")


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenarios") / "scenarios.jsonl"
    rows = [
        {
            "id": f"s{i}",
            "situation": f"Case {i}: someone writes late at night.",
            "opening": f"I can not sleep since my job number {i} ended.",
            "start": 5,
            "profile": {"need": "to be asked", "never told": f"the code is {CANARY}"},
        }
        for i in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer(reply=fake_llm) as running:
        yield running


@pytest.fixture
def settings(
    server: FaultServer, scenarios: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    monkeypatch.setenv("RAPO_TEST_KEY", SECRET)
    server.faults, server.delay, server.count = never, 0.0, 0
    server.hits.clear()

    def make(*more: str) -> list[str]:
        common = {"url": server.url, "timeout": 0.4, "attempts": 3, "key_env": "RAPO_TEST_KEY"}
        models = {name: {**common, "name": name} for name in ("ann", "bob", "judge", "rater")}
        return [
            f"policy.path={start}",
            *TINY,
            *EVAL_LLM,
            "users.kind=llm",
            f"users.files=[{scenarios}]",
            "users.models=[ann, bob]",
            "judge.kind=llm",
            "judge.model=judge",
            "eval.judge=rater",
            "teacher.replay=0",
            "calls.patience=0.3",
            "calls.breaker=5",
            # Parts of a dialogue or two and of one group, so that they take turns.
            "run.cohort=2",
            *(f"models.{name}.{key}={value}" for name, spec in models.items() for key, value in spec.items()),
            *more,
        ]

    return make


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("healthy") / "run"


@pytest.fixture
def whole(healthy: Path, settings: Callable[..., list[str]]) -> Path:
    """A run nothing went wrong in; made once."""
    if not healthy.exists():
        result = run_rapo("train", DEMO, f"run.dir={healthy}", *settings())
        assert result.code == 0, result
    return healthy


def attempts(journal: Path) -> int:
    with sqlite3.connect(journal) as db:
        return int(db.execute("SELECT count(*) FROM attempts").fetchone()[0])


def test_a_run_trains_and_its_ledger_is_the_servers_count(server, settings, tmp_path):
    run = tmp_path / "run"
    result = run_rapo("train", DEMO, f"run.dir={run}", *settings())
    assert result.code == 0, result
    assert attempts(run / "journal.sqlite") == server.count > 0
    rows = records(run, "metrics")
    assert [row["missing_feedback"] for row in rows] == [0.0] * 3
    assert {hit.body["model"] for hit in server.hits} == {"ann", "bob", "judge", "rater"}
    assert all(hit.headers["authorization"] == f"Bearer {SECRET}" for hit in server.hits)
    summary = json.loads((run / "summary.json").read_text())
    assert all(0 <= row["figures"]["rating"]["mean"] <= 10 for row in summary["results"] if row["suite"] == "own")
    assert summary["calls"]["judge"]["attempts"] + summary["calls"]["user"]["attempts"] < server.count
    assert "rating" in result.out
    assert {name: sum(tally.values()) == tally["exact"] > 0 for name, tally in summary["answers"].items()} == {
        "users": True,
        "evaluation users": True,
        "judge": True,
    }


def test_the_same_work_again_asks_nothing(server, settings, whole, tmp_path):
    server.count = 0
    run = tmp_path / "again"
    result = run_rapo("train", DEMO, f"run.dir={run}", *settings(f"calls.journal={whole / 'journal.sqlite'}"))
    assert result.code == 0, result
    assert server.count == 0
    assert everything(run) == everything(whole)


def test_neither_key_nor_hidden_profile_is_where_it_must_not_be(server, settings, tmp_path):
    run = tmp_path / "run"
    assert run_rapo("train", DEMO, f"run.dir={run}", *settings()).code == 0
    for path in (path for path in run.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
    for row in records(run, "groups"):
        said = [row["group"]["candidates"], row["group"]["feedback"], row["group"]["corrections"]]
        assert CANARY not in json.dumps(said)
    asked = {hit.body["model"]: CANARY in json.dumps(hit.body) for hit in server.hits}
    assert asked == {"ann": True, "bob": True, "judge": False, "rater": True}


def test_an_evaluation_recovers_from_a_fault_and_leaves_its_recipe_a_free_folder(server, settings, start, tmp_path):
    server.faults = lambda seen, body: "500" if body["model"] == "rater" else None
    own = [f"run.dir={tmp_path / 'run'}", *settings()]
    changes = [word for override in own for word in ("--set", override)]
    assert "models.rater" in one_line(run_rapo("eval", start, "--config", DEMO, *changes))
    server.faults = never
    result = run_rapo("eval", start, "--config", DEMO, *changes)
    assert result.code == 0, result
    assert "rating" in result.out
    result = run_rapo("train", DEMO, *own)
    assert result.code == 0, result


def test_scenarios_on_two_scales_are_refused_and_leave_the_folder_free(settings, scenarios, start, tmp_path):
    mixed = tmp_path / "mixed.jsonl"
    other = {"situation": "Case 99.", "scale": {"low": 0, "high": 100, "name": "emotion"}, "start": 40}
    mixed.write_text(scenarios.read_text() + json.dumps(other) + "\n")
    run = f"run.dir={tmp_path / 'run'}"
    message = one_line(run_rapo("train", DEMO, run, *settings(f"users.files=[{mixed}]")))
    assert "several scales, and their changes cannot be compared; got ease 0-10, emotion 0-100" in message
    assert run_rapo("train", DEMO, run, *settings()).code == 0


@pytest.mark.parametrize("fault", ["503", "hang"])
def test_a_fault_that_passes_changes_nothing(server, settings, whole, tmp_path, fault):
    server.faults, server.slow = once(fault), 1.0
    run = tmp_path / "run"
    result = run_rapo("train", DEMO, f"run.dir={run}", *settings("calls.breaker=100"))
    assert result.code == 0, result
    assert everything(run) == everything(whole)


@pytest.mark.parametrize(("role", "fault"), [("bob", "500"), ("judge", "nan"), ("rater", "whitespace"), ("bob", "401")])
def test_a_fault_that_stays_stops_the_run_and_resume_ends_as_if_it_had_not_been(
    server, settings, whole, tmp_path, role, fault
):
    server.faults = lambda seen, body: fault if body["model"] == role else None
    run = tmp_path / "run"
    message = one_line(run_rapo("train", DEMO, f"run.dir={run}", *settings()))
    assert "models." in message or "are missing; expected at most 50% (calls.max_missing)" in message
    server.faults = never
    again = run_rapo("resume", run)
    assert again.code == 0, again
    assert everything(run) == everything(whole)


def test_a_budget_stops_before_it_is_exceeded_and_a_larger_one_goes_on(server, settings, whole, tmp_path):
    run, server.count = tmp_path / "run", 0
    message = one_line(run_rapo("train", DEMO, f"run.dir={run}", *settings("calls.max_calls=60")))
    assert "calls.max_calls" in message
    assert server.count <= 60
    again = run_rapo("resume", run, "calls.max_calls=100000")
    assert again.code == 0, again
    assert everything(run) == everything(whole)
    # An attempt that a busy machine gave up before the server had read it is one that the server does not know.
    assert 60 < server.count <= attempts(run / "journal.sqlite")


def test_an_interrupted_run_waits_for_no_answer_and_goes_on(server, settings, whole, tmp_path):
    run, half, gone = tmp_path / "run", attempts(whole / "journal.sqlite") // 2, threading.Event()
    server.count, server.delay = 0, lambda body: 60.0 if server.count > half and not gone.is_set() else 0.0

    def press_ctrl_c() -> None:
        while server.under_way < 1 or server.count <= half:
            time.sleep(0.01)
        gone.set()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c, daemon=True).start()
    began = time.monotonic()
    patient = [f"models.{name}.timeout=60" for name in ("ann", "bob", "judge", "rater")]
    assert run_rapo("train", DEMO, f"run.dir={run}", *settings(*patient)).code == 130
    assert time.monotonic() - began < 50
    assert run_rapo("resume", run).code == 0
    assert everything(run) == everything(whole)


def test_resume_changes_no_key_that_decides_a_result(whole):
    message = one_line(run_rapo("resume", whole, "update.lr=0.1"))
    assert message.startswith("rapo: a run that was started cannot change update.lr; expected one of: calls.*")
