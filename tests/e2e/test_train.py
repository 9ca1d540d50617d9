"""rapo train, start to end."""

from __future__ import annotations

import json
import math

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from .conftest import CORPUS, ONE_STEP, everything, records, weights

LINES = {"metrics": 4, "dialogues": 16}


def test_a_run_writes_its_directory(trained):
    names = {path.name for path in trained.iterdir()}
    # Other tests may have evaluated the run since.
    assert names - {"evaluations"} == {
        "checkpoints",
        "config.yaml",
        "dialogues.jsonl",
        "evaluation-after.json",
        "evaluation-before.json",
        "groups.jsonl",
        "lock",
        "metrics.jsonl",
        "sft",
        "summary.json",
        "report.html",
    }
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["step-000002", "step-000004"]
    for name in ("evaluation-before", "evaluation-after", "summary"):
        assert json.loads((trained / f"{name}.json").read_text())["v"] == 2
    assert CORPUS[0].partition("=")[2] in (trained / "config.yaml").read_text()


@pytest.mark.parametrize("kind", ["metrics", "dialogues", "groups"])
def test_every_line_is_versioned_and_counts_its_step(trained, kind):
    rows = records(trained, kind)
    assert {row["v"] for row in rows} == {1}
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert {row["step"] for row in rows} <= {1, 2, 3, 4}
    assert len(rows) == LINES.get(kind, len(rows)) > 0


def test_the_summary_agrees_with_the_records(trained):
    summary, rows = json.loads((trained / "summary.json").read_text()), records(trained, "metrics")
    assert summary["steps"] == 4
    assert summary["simulator_calls"] == sum(row["simulator_calls"] for row in rows) > 0
    assert [(row["speaker"], row["users"]) for row in summary["results"] if row["suite"] == "support"] == [
        (speaker, population) for speaker in ("start", "trained") for population in ("familiar", "held_out")
    ]


def test_training_changes_the_weights(trained):
    assert weights(trained / "sft") != weights(trained / "checkpoints" / "step-000004")


@pytest.mark.parametrize("folder", ["sft", "checkpoints/step-000004", "checkpoints/step-000004/teacher"])
def test_the_model_loads_with_transformers_alone(trained, folder):
    model = AutoModelForCausalLM.from_pretrained(trained / folder)
    tokenizer = AutoTokenizer.from_pretrained(trained / folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "I feel low."}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**prompt, max_new_tokens=2, do_sample=False).shape[1] > prompt["input_ids"].shape[1]


@pytest.mark.parametrize(
    "override",
    [
        "update.micro=0",
        "update.macro=0",
        "update.along=own",
        "update.top_k=16",
        "teacher.kind=frozen",
        "teacher.kind=live",
        "update.divergence=jsd",
        "update.divergence=reverse_kl",
        "update.kl=0.1",
        "judge.permutations=2",
        "teacher.replay=2",
    ],
)
def test_every_variant_takes_a_step(train, start, override):
    run = train(*ONE_STEP, override)
    (row,) = records(run, "metrics")
    missing = {name for name, value in row.items() if value is None}
    assert missing <= MAY_BE_MISSING, missing
    assert all(math.isfinite(value) for value in row.values() if value is not None)
    assert row["step"] == 1
    # Along the replies themselves, or with no weight on it, the verbal term has no use for corrections.
    assert (row["corrections"] > 0) == (override not in ("update.along=own", "update.micro=0"))
    assert weights(run / "checkpoints" / "step-000001") != weights(start)


# Null where a step had nothing to measure them on.
MAY_BE_MISSING = {
    *("lift_by_chance", "teacher_lift", "judge_agreement", "divergence"),
    *("length_correlation", "slot_bias"),  # a few groups tell nothing of a bias
}


def test_the_same_seed_gives_the_same_bits(train, trained):
    again = train(name="again")
    assert everything(again) == everything(trained)


def test_another_seed_gives_another_run(train, trained):
    other = train("run.seed=1", *ONE_STEP, name="other")
    assert records(other, "dialogues") != [row for row in records(trained, "dialogues") if row["step"] == 1]


@pytest.mark.parametrize(("along", "kind"), [("corrections", "corrections"), ("own", "candidates")])
def test_groups_hold_the_words_and_what_was_learnt_at_each(train, start, trained, along, kind):
    rows = records(trained if along == "corrections" else train(*ONE_STEP, f"update.along={along}"), "groups")
    decode = AutoTokenizer.from_pretrained(start).decode
    taught = 0
    for row in rows:
        for replies in ("candidates", "corrections"):
            for reply, pieces in zip(row["group"][replies], row["pieces"][replies], strict=True):
                assert len(pieces) == len(reply["completion"]["token_ids"])
                assert "".join(pieces) == reply["completion"]["text"]
                assert pieces[0] == decode(reply["completion"]["token_ids"][:1], skip_special_tokens=True)
        for pieces, gaps, mean in zip(row["pieces"][kind], row["token_divergences"], row["divergences"], strict=True):
            assert (gaps is None) == (mean is None)
            if gaps is not None:
                taught += 1
                assert len(gaps) == len(pieces)
                assert gaps == [round(gap, 4) for gap in gaps]
                assert sum(gaps) / len(gaps) == pytest.approx(mean, abs=5.1e-5)
                assert max(gaps) > min(gaps)
    assert 0 < taught <= sum(len(row["pieces"][kind]) for row in rows)
