"""A run whose users or judge cannot be had stops in one line, keeps its steps, and goes on to the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import DEMO, TINY, everything, one_line, records, run_rapo

# A user that is fine until the third step, and then, for as long as the file "down" is there, is not.
FLAKY = """
from pathlib import Path
from rapo.errors import BudgetError, EndpointError
from rapo.hindsight.feedback import Verdict
from rapo.types import Message, Reaction, Scenario

DOWN = Path(__file__).with_name("down")

class User:
    def __init__(self):
        self.steps = 0

    def scenarios(self, count, seed):
        self.steps += 1
        self.seed = seed
        return [Scenario(f"{seed}-{i}", "", (Message("user", "Hi."),), 5.0) for i in range(count)]

    def react(self, requests):
        if DOWN.exists() and self.steps > int(DOWN.read_text().split()[1]):
            how = DOWN.read_text().split()[0]
            if how == "missing":
                return [None] * len(requests)
            raise {"endpoint": EndpointError, "budget": BudgetError}[how]("the user is gone", fix="bring it back")
        states = [r.dialogue.trajectory[-1] + len(r.reply) % 5 - 2 for r in requests]
        return [Reaction("Hm.", min(10.0, max(0.0, state))) for state in states]

class Judge:
    def judge(self, requests):
        if DOWN.exists() and DOWN.read_text().startswith("judge"):
            return [None] * len(requests)
        critiques = ["Say more."] * 9
        return [Verdict(tuple(11 - e.state for e in r.reactions), tuple(critiques[:len(r.replies)])) for r in requests]
"""
SETTINGS = (*TINY, "users.kind=flaky:User", "judge.kind=flaky:Judge", "teacher.replay=0", "select.floor=0")
LONGER = (*SETTINGS, "train.steps=5", "train.save_every=2")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flaky")
    (folder / "flaky.py").write_text(FLAKY)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(module: Path, start: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(module)
        result = run_rapo("train", DEMO, "run.dir=whole", f"policy.path={start}", *LONGER)
    assert result.code == 0, result
    return module / "whole"


STOPS = {
    "endpoint": "the user is gone; bring it back",
    "budget": "the user is gone; bring it back",
    "missing": "reactions of a step are missing; expected at most 50% (calls.max_missing)",
}


@pytest.mark.parametrize("how", STOPS)
def test_it_stops_keeps_its_steps_and_goes_on_to_the_same_bits(monkeypatch, module, uninterrupted, start, how):
    monkeypatch.chdir(module)
    # Step 4 fails: step 3, which is on no regular checkpoint, is kept.
    (module / "down").write_text(f"{how} 3")
    result = run_rapo("train", DEMO, f"run.dir={how}", f"policy.path={start}", *LONGER)
    (module / "down").unlink()
    assert STOPS[how] in one_line(result)
    run = module / how
    assert [row["step"] for row in records(run, "metrics")] == [1, 2, 3]
    assert (run / "checkpoints" / "step-000003").is_dir()
    again = run_rapo("resume", run)
    assert again.code == 0, again
    assert "reinforce      3/5" in again.out
    assert everything(run) == everything(uninterrupted)
    scores = [
        (each / "cursor.json").read_text()
        for each in (run, uninterrupted)
        for each in [max((each / "checkpoints").glob("step-*"))]
    ]
    assert scores[0] == scores[1]


def test_verdicts_that_are_missing_stop_a_run_before_it_learns(monkeypatch, module, start):
    monkeypatch.chdir(module)
    (module / "down").write_text("judge 99")
    result = run_rapo("train", DEMO, "run.dir=unjudged", f"policy.path={start}", *LONGER)
    (module / "down").unlink()
    assert "3 of 3 verdicts of a step are missing; expected at most 50% (calls.max_missing)" in one_line(result)
    assert not (module / "unjudged" / "metrics.jsonl").exists()


def test_missing_verdicts_can_be_allowed(monkeypatch, module, start):
    monkeypatch.chdir(module)
    (module / "down").write_text("judge 99")
    result = run_rapo("train", DEMO, "run.dir=allowed", f"policy.path={start}", *LONGER, "calls.max_missing=1.0")
    (module / "down").unlink()
    assert result.code == 0, result
    rows = records(module / "allowed", "metrics")
    assert [row["missing_feedback"] for row in rows] == [1.0] * 5
