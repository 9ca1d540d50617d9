"""A whole run in the bargaining world, tiny: every stage leaves its file, and talks are as the world plays them."""

from __future__ import annotations

import json
from pathlib import Path

from rapo.evals.results import read_results
from rapo.recipes import recipe_path
from rapo.worlds import load_world

from .conftest import DEMO, TINY, one_line, records, run_rapo


def test_a_whole_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = run_rapo("train", recipe_path("bargaining"), f"run.dir={run}", *TINY)
    assert result.code == 0, result
    assert "Change of goal progress over a talk" in result.out
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 4 and {row["speaker"] for row in summary["results"]} == {"start", "trained"}
    assert len(records(run, "metrics")) == 4
    world = load_world("bargaining")
    rows = [row for name in ("before", "after") for row in read_results(run / f"evaluation-{name}.json")]
    for talk in [talk for row in rows for talk in row.dialogues]:
        assert talk.scenario.opening[0].role == "system"
        for number, turn in enumerate(talk.turns):
            assert world.echo(talk.upto(number), turn.reply) == turn.reaction


def test_users_without_a_corpus_need_dialogues_to_learn_from(tmp_path: Path) -> None:
    replayed = ("users.kind=replay", "users.files=[logs.jsonl]", "judge.kind=contrast", "teacher.replay=0")
    result = run_rapo("sft", DEMO, f"run.dir={tmp_path / 'run'}", *TINY, *replayed)
    assert "there is no corpus for users.kind=replay" in one_line(result)
    assert "sft.files" in one_line(result)
