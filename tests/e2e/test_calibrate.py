"""``rapo calibrate``: the replay user and a language model behind a real server, beside the baselines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fake_llm import fake_llm
from fault_server import FaultServer, always
from rapo.recipes import recipe_path
from rated_talks import rated_talks

from .conftest import one_line, run_rapo

pytest.importorskip("sklearn", reason="rapo calibrate needs the extra rapo-rl[replay]")
REAL = Path(os.environ.get("RAPO_DATA", Path(__file__).parents[3] / "shared" / "data")) / "esconv"
FEW = ("--folds", 4, "--set", "eval.bootstrap=60", "--set", "eval.dialogues=1")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    path = tmp_path / "logs.jsonl"
    path.write_text("".join(row(number) for number in range(16)))
    return path


def row(number: int) -> str:
    talk = rated_talks(16, 4).talks[number]
    ratings = iter(talk.ratings)
    messages = []
    for message in talk.messages:
        rating = next(ratings) if message.role == "user" else None
        messages.append({"role": message.role, "content": message.content, **({"rating": rating} if rating else {})})
    return json.dumps({"id": talk.id, "situation": talk.situation, "messages": messages}) + "\n"


def llm(server: FaultServer, run: Path, *more: str) -> list[str]:
    """The recipe of users that are language models, at ``server``."""
    values = [
        f"run.dir={run}",
        "calls.patience=0.3",
        "calls.breaker=5",
        *(f"models.{name}.url={server.url}" for name in ("player", "judge")),
        "models.player.timeout=2",
        "models.player.attempts=2",
        *more,
    ]
    return ["--users", str(recipe_path("llm_support")), *(word for value in values for word in ("--set", value))]


def test_the_replay_user_learns_what_pleases(logs, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "figures.json"
    result = run_rapo("calibrate", logs, *FEW, "--json", out)
    assert result.code == 0, result
    assert max(map(len, result.out.splitlines()[:-8])) <= 80 and "…" not in result.out
    found = json.loads(out.read_text())
    assert (found["dialogues"], found["turns"], found["lost"], sum(found["rated"])) == (16, 64, 0, 64)
    assert list(found["figures"]) == ["replay", "turn position", "words of reply"]
    # What is said decides half of these ratings, and who says it the other half.
    assert found["figures"]["replay"]["within"]["low"] > 0
    assert found["figures"]["words of reply"]["within"]["low"] > 0.3
    assert found["ahead"]["turn position"]["within"]["low"] > 0
    assert "64 rated turns (" in result.out and "16 dialogues" in result.out
    assert "within dialogues replay follows the ratings (rank correlation " in result.out
    again = run_rapo("calibrate", logs, *FEW, "--json", tmp_path / "again.json", "--quiet")
    assert json.loads((tmp_path / "again.json").read_text()) | {"seconds": 0} == found | {"seconds": 0}
    assert "baselines" not in again.out and "within: rank" in again.out


def test_a_language_model_is_asked_once_per_turn_and_never_again(logs, tmp_path):
    with FaultServer(reply=fake_llm) as server:
        first = run_rapo("calibrate", logs, *FEW, *llm(server, tmp_path / "run"), "--json", tmp_path / "a.json")
        assert first.code == 0, first
        # 16 talks of 4 turns, and the question whether the server knows JSON schemas.
        asked = server.count
        assert 64 <= asked <= 66
        second = run_rapo("calibrate", logs, *FEW, *llm(server, tmp_path / "run"), "--json", tmp_path / "b.json")
        assert second.code == 0 and server.count == asked
        assert not any("rating" in json.dumps(hit.body) for hit in server.hits)
    figures = [json.loads((tmp_path / name).read_text())["figures"] for name in ("a.json", "b.json")]
    assert figures[0] == figures[1] and next(iter(figures[0])) == "llm"
    # It likes questions, and nobody asks one: its state falls with every turn.
    assert figures[0]["llm"]["bias"]["high"] < 0


def test_a_model_that_fails_ends_it_in_one_line_and_it_goes_on_where_it_stopped(logs, tmp_path):
    with FaultServer(reply=fake_llm) as server:
        server.faults = lambda seen, body: "401" if "turn2" in json.dumps(body) else None
        broken = run_rapo("calibrate", logs, *FEW, *llm(server, tmp_path / "run"), "--quiet")
        one_line(broken)
        server.faults, server.hits[:] = lambda seen, body: None, []
        assert run_rapo("calibrate", logs, *FEW, *llm(server, tmp_path / "run"), "--quiet").code == 0
        replies = [hit.body["messages"][-1]["content"].partition("Their next message:")[2] for hit in server.hits]
        assert not any("turn0" in reply or "turn1" in reply for reply in replies)
        assert sum("turn3" in reply for reply in replies) == 16


def test_states_that_are_missing_are_counted_and_too_many_are_refused(logs, tmp_path):
    def answer(body):
        return (
            "no idea" if "case3 turn1" in body["messages"][1]["content"].rpartition("Their next")[2] else fake_llm(body)
        )

    with FaultServer(reply=answer) as server:
        some = run_rapo("calibrate", logs, *FEW, *llm(server, tmp_path / "some"), "--json", tmp_path / "some.json")
        assert some.code == 0, some
        found = json.loads((tmp_path / "some.json").read_text())
        assert (found["lost"], found["turns"]) == (1, 63) and "1 rated turns are left out" in some.out
        server.faults = always("whitespace")
        none = run_rapo("calibrate", logs, *FEW, *llm(server, tmp_path / "none"), "--quiet")
        assert "states are missing" in one_line(none)


def test_mistakes_are_one_line(logs, tmp_path, monkeypatch):
    assert "16; expected 17 or more" in one_line(run_rapo("calibrate", logs, "--folds", 17))
    world = run_rapo("calibrate", logs, "--users", recipe_path("demo"))
    assert "users.kind=support reads the English of its own world" in one_line(world)
    assert "no folder" in one_line(run_rapo("calibrate", logs, "--json", tmp_path / "nowhere" / "a.json"))
    assert "cannot read" in one_line(run_rapo("calibrate", tmp_path / "absent.json"))
    monkeypatch.setattr("rapo.calibrate.find_spec", lambda name: None)
    assert "rapo-rl[replay]" in one_line(run_rapo("calibrate", logs))


def test_it_loads_no_torch_without_a_model_in_this_process(logs):
    code = (
        "import sys; from rapo.cli import main\n"
        f"sys.argv = ['rapo', 'calibrate', {str(logs)!r}, '--folds', '3', '--set', 'eval.bootstrap=2', '-q']\n"
        "try: main()\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the ESConv files are not at {REAL} (set RAPO_DATA)")
def test_real_people(tmp_path):
    out = tmp_path / "figures.json"
    assert run_rapo("calibrate", REAL / "FailedESConv.part.json", *FEW, "--json", out).code == 0
    found = json.loads(out.read_text())
    assert (found["dialogues"], found["turns"], found["rated"]) == (93, 540, [85, 87, 126, 138, 104])
    assert all(interval is not None for figures in found["figures"].values() for interval in figures.values())
