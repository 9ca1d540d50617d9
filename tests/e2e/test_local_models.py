"""Users and judge may be a Hugging Face model in the training process; one that cannot answer stops the run cleanly."""

from __future__ import annotations

import json

import pytest

from rapo.models.scratch import new_policy

from .conftest import DEMO, TINY, run_rapo


@pytest.mark.parametrize(("context", "warns"), [(256, True), (4096, False)])
def test_a_model_in_this_process_is_asked_and_its_useless_answers_are_missing(start, tmp_path, context, warns):
    small = tmp_path / "small"
    new_policy(["I feel low."] * 9, vocab_size=300, hidden=32, layers=1, heads=2, max_context=context, seed=0).save(
        small
    )
    scenarios = tmp_path / "scenarios.jsonl"
    scenarios.write_text("".join(json.dumps({"situation": f"Case {i}."}) + "\n" for i in range(20)))
    run = tmp_path / "run"
    settings = (
        *(f"run.dir={run}", f"policy.path={start}", *TINY, "teacher.replay=0", "train.steps=1", "eval.turns=1"),
        *(
            "users.kind=llm",
            f"users.files=[{scenarios}]",
            "users.models=[small]",
            "judge.kind=llm",
            "judge.model=small",
        ),
        *(f"models.small.path={small}", "models.small.max_tokens=8"),
    )
    result = run_rapo("train", DEMO, *settings)
    assert result.code == 2, result
    *warnings, error = result.err.splitlines()
    assert "4 of 4 reactions of held out users are missing" in error
    assert [("prompts that do not fit its context" in line) for line in warnings] == ([True] if warns else [])
    assert (run / "journal.sqlite").is_file()
