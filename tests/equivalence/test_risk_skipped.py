"""Talks that show signs of risk teach nothing unless asked to: supervised dialogues, scenarios, contexts and echoes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_llm import parse_back
from rapo.config import RunConfig
from rapo.errors import DataError
from rapo.hindsight.llm_judge import LLMJudge
from rapo.interact.llm_user import LLMUser
from rapo.models.chat import ChatRequest, Scripted
from rapo.models.sampler import sample
from rapo.models.scratch import new_policy
from rapo.parts import Parts
from rapo.supervised import supervise
from rapo.trainer import Step, Trainer
from rapo.types import Message, Scenario

CALM, RISK = "I feel so alone .", "I want to die ."
ANSWERS = {"models": {"m": {"url": "http://127.0.0.1:9/v1", "name": "m"}}}


def one_step(
    openings: list[str],
    said: dict[str, str] | None = None,
    *,
    branched: str = CALM,
    corrected: str | None = None,
    **train: object,
) -> Step:
    """A step of a tiny policy.

    ``said`` is what the user of an opening answers in play, ``branched`` to candidates, ``corrected`` to corrections.
    """
    spoken: list[str] = []
    config = RunConfig.model_validate(
        {
            "policy": {"max_tokens": 8, "max_context": 256},
            "play": {"dialogues": len(openings), "turns": 1},
            "select": {"share": 1.0},
            "branch": {"candidates": 3},
            "correct": {"verify": float(corrected is not None)},
            "teacher": {"replay": 0},
            "train": train,
        }
    )

    def user(request: ChatRequest) -> str:
        text = request.messages[-1].content
        if request.purpose == "user.speak":
            spoken.append(text)
            if corrected is not None and len(spoken) > 4 * len(openings):
                return json.dumps({"text": corrected})
            if len(spoken) > len(openings):
                return json.dumps({"text": branched})
            return json.dumps({"text": next((echo for key, echo in (said or {}).items() if key in text), CALM)})
        return json.dumps({"analysis": "", "state": request.seed % 9, "thought": "", "done": False})

    def judge(request: ChatRequest) -> str:
        size = len(parse_back(request.messages[-1].content))
        return json.dumps({"ranks": list(range(1, size + 1)), "critiques": ["Ask more ."] * size})

    policy = new_policy([CALM] * 40, vocab_size=320, hidden=32, layers=1, heads=2, max_context=256, seed=3)
    scenarios = [Scenario(f"s{i}", "", (Message("user", text),), 5.0) for i, text in enumerate(openings)]
    users = LLMUser(scenarios, [Scripted("user", user)], personas=False)
    trainer = Trainer(config, policy, start=policy.clone(), users=users, judge=LLMJudge(Scripted("judge", judge)))
    return trainer.step(1)


def openings(step: Step) -> set[str]:
    return {dialogue.scenario.opening[0].content for dialogue in step.dialogues}


def test_a_scenario_with_a_risk_is_not_played():
    step = one_step([CALM, "I miss my friend .", RISK])
    assert openings(step) == {CALM, "I miss my friend ."} and step.metrics["risk_skipped"] == 1
    assert {group.pivot.dialogue.scenario.opening[0].content for group in step.groups} <= openings(step)


def test_a_talk_in_which_it_comes_up_is_not_learnt_from():
    step = one_step([CALM, "My cat is ill ."], {"My cat": RISK})
    # Played and shown, and no turn of it is branched.
    assert openings(step) == {CALM, "My cat is ill ."} and step.metrics["risk_skipped"] == 1
    assert {group.pivot.dialogue.scenario.opening[0].content for group in step.groups} == {CALM}


def test_a_group_with_such_an_echo_is_not_learnt_from():
    calm, step = one_step([CALM, CALM]), one_step([CALM, CALM], branched=RISK)
    assert len(calm.groups) == 2 and calm.metrics["risk_skipped"] == 0
    assert step.groups == [] and step.metrics["risk_skipped"] == 2
    # The judge was asked about them all the same.
    assert step.metrics["judge_calls"] == calm.metrics["judge_calls"] == 2


def test_a_group_whose_correction_brings_such_an_echo_is_not_learnt_from():
    calm, step = one_step([CALM, CALM], corrected=CALM), one_step([CALM, CALM], corrected=RISK)
    assert len(calm.groups) == 2 and all(group.corrections for group in calm.groups)
    assert step.groups == [] and step.metrics["risk_skipped"] == 2


def test_no_corrections_are_written_for_what_teaches_nothing(monkeypatch):
    written = []

    def counting(policy, requests, **settings):
        written.append(len(requests))
        return sample(policy, requests, **settings)

    monkeypatch.setattr("rapo.teacher.sample", counting)
    one_step([CALM, CALM])
    one_step([CALM, CALM], branched=RISK)
    calm, risk = written
    assert calm > risk == 0


def test_all_of_it_is_learnt_from_where_the_config_says_so():
    step = one_step([CALM, RISK], on_risk=True)
    assert openings(step) == {CALM, RISK} and step.metrics["risk_skipped"] == 0


def test_a_step_of_nothing_but_risk_is_an_error():
    with pytest.raises(DataError, match=r"all 2 scenarios of a step show signs of risk; bring others"):
        one_step([RISK, RISK])


def conversations(path: Path, texts: list[str]) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "Since when ?"}]} for t in texts
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def test_supervised_dialogues_with_a_risk_are_left_out_and_counted(tmp_path):
    texts = [f"{text} {i}" for text in (CALM, RISK) for i in range(12)]
    file = conversations(tmp_path / "talks.jsonl", texts)
    policy = {"vocab_size": 300, "hidden": 16, "layers": 1, "heads": 1, "max_context": 128, "max_tokens": 8}
    found = {}
    for on_risk in (False, True):
        config = RunConfig.model_validate(
            {"policy": policy, "sft": {"files": [str(file)], "epochs": 0.1}, "train": {"on_risk": on_risk}}
        )
        result = supervise(config)
        found[on_risk] = (result.examples, result.risk_skipped)
    assert found[True][1] == 0 < found[False][1]
    assert found[False][0] + found[False][1] == found[True][0]
    only = conversations(tmp_path / "risk.jsonl", [f"{RISK} {i}" for i in range(12)])
    with pytest.raises(DataError, match="dialogues show signs of risk"):
        supervise(RunConfig.model_validate({"policy": policy, "sft": {"files": [str(only)]}}))


def test_scenarios_with_a_risk_are_told_of_once_and_kept_for_evaluation(tmp_path):
    file = tmp_path / "scenarios.jsonl"
    rows = [{"situation": f"{RISK if i % 2 else CALM} Day {i}."} for i in range(40)]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    config = RunConfig.model_validate(
        ANSWERS
        | {
            "users": {"kind": "llm", "files": [str(file)], "models": ["m"]},
            "judge": {"kind": "llm", "model": "m"},
            "teacher": {"replay": 0},
        }
    )
    told: list[str] = []
    with Parts(config, tmp_path, told.append) as parts:
        training = parts.users().scenarios(5, 0)
        assert parts.users().scenarios(5, 0) == training
        evaluation = parts.users(evaluation=True).scenarios(6, 0)
    assert not any("die" in scenario.situation for scenario in training)
    assert any("die" in scenario.situation for scenario in evaluation)
    (line,) = told
    assert "scenarios show signs of risk and are kept out of training" in line
