"""Answers of a judge that cannot be used teach exactly nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from fake_llm import parse_back
from rapo.config import RunConfig
from rapo.errors import EndpointError
from rapo.hindsight.feedback import JudgeRequest, Verdict
from rapo.hindsight.llm_judge import LLMJudge
from rapo.interact.llm_user import LLMUser
from rapo.models.chat import ChatRequest, Scripted
from rapo.models.policy import Policy
from rapo.models.sampler import Sampled, sample
from rapo.models.scratch import new_policy
from rapo.optimize.optimizer import Optimizer
from rapo.trainer import Step, Trainer
from rapo.types import EchoRequest, Message, Reaction, Scenario

TEXTS = ["I feel so alone since my friend moved away .", "Who could you call when the evening feels long ?"] * 20
CONFIG = RunConfig.model_validate(
    {
        "policy": {"max_tokens": 8, "max_context": 256, "system_prompt": None},
        "play": {"dialogues": 2, "turns": 2},
        "branch": {"candidates": 3},
        "correct": {"verify": 0.0},
        "teacher": {"replay": 0},
        "calls": {"max_missing": 1.0},
    }
)


SCENARIOS = [Scenario(f"s{i}", "", (Message("user", "I feel so alone ."),), 5.0) for i in range(2)]


def user(request: ChatRequest) -> str:
    if request.purpose == "user.speak":
        return '{"text": "I feel so alone ."}'
    state = Random(request.seed).uniform(0, 10)
    return json.dumps({"analysis": "", "state": state, "thought": "", "done": False})


class Watched(Optimizer):
    """Keeps the gradient it was given, and steps."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy, lr=0.1)
        self.watched, self.gradients = list(policy.model.parameters()), list[Tensor]()

    def step(self, *, scale: float = 1.0) -> None:
        self.gradients += [p.grad.clone() for p in self.watched if p.grad is not None]
        super().step(scale=scale)


def one_step(judge: Callable[[ChatRequest], str | None]) -> tuple[Step, Watched, bool]:
    """A training step of a tiny policy; whether any weight moved."""
    policy = new_policy(TEXTS, vocab_size=320, hidden=32, layers=1, heads=2, max_context=256, seed=3)
    start = policy.clone()
    users = LLMUser(SCENARIOS, [Scripted("user", user)])
    trainer = Trainer(CONFIG, policy, start=start, users=users, judge=LLMJudge(Scripted("judge", judge)))
    trainer.optimizer = watched = Watched(policy)
    step = trainer.step(1)
    pairs = zip(policy.model.parameters(), start.model.parameters(), strict=True)
    return step, watched, any(not torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("answer", [None, "no", '{"ranks": [1, 2, NaN], "critiques": ["a", "b", "c"]}'])
def test_missing_feedback_has_no_gradient(answer: str | None) -> None:
    step, watched, moved = one_step(lambda _: answer)
    assert step.metrics["missing_feedback"] == 1 and step.groups and not moved
    assert all(group.feedback is None and not group.corrections for group in step.groups)
    assert all(each == 0.0 for some in step.advantages for each in some)
    assert all(not gradient.any() for gradient in watched.gradients)


def good(request: ChatRequest) -> str:
    size = len(parse_back(request.messages[-1].content))
    return json.dumps({"ranks": list(range(1, size + 1)), "critiques": ["Ask more ."] * size})


def test_the_same_step_with_usable_feedback_learns() -> None:
    step, watched, moved = one_step(good)
    assert step.metrics["missing_feedback"] == 0 and moved
    assert any(gradient.any() for gradient in watched.gradients)


class Worse:
    """Users of whom every reply asks too much; corrections please them, or get no echo."""

    def __init__(self, answers: bool) -> None:
        self.answers, self.judged, self.asked = answers, False, 0

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        return SCENARIOS[:count]

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        if not self.judged:
            return [Reaction("I feel so alone .", each.dialogue.trajectory[-1] - 1) for each in requests]
        self.asked += len(requests)
        return [Reaction("Thank you .", 9.0) if self.answers else None for _ in requests]

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        self.judged = True
        sizes = [len(each.replies) for each in requests]
        return [Verdict(tuple(map(float, range(size))), ("Ask more .",) * size) for size in sizes]


def corrected(verify: float, *, answers: bool, limit: float = 1.0) -> tuple[Step, int]:
    """A step, and how many echoes of corrections were asked for."""
    policy = new_policy(TEXTS, vocab_size=320, hidden=32, layers=1, heads=2, max_context=256, seed=3)
    parts = {"correct": {"verify": verify, "below": 1.0}, "calls": {"max_missing": limit}}
    config = CONFIG.model_copy(update={k: getattr(CONFIG, k).model_copy(update=v) for k, v in parts.items()})
    users = Worse(answers)
    return Trainer(config, policy, start=policy.clone(), users=users, judge=users).step(1), users.asked


@pytest.fixture
def finishing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrections count as finished: a policy that has learnt nothing never ends a reply."""

    def ended(*args: Any, **options: Any) -> list[list[Sampled]]:
        found = sample(*args, **options)
        return [[replace(each, completion=replace(each.completion, finished=True)) for each in some] for some in found]

    monkeypatch.setattr("rapo.teacher.sample", ended)


def learnt(step: Step) -> int:
    return sum(each is not None for some in step.token_divergences for each in some)


@pytest.mark.usefixtures("finishing")
def test_a_correction_whose_echo_was_asked_for_and_is_missing_is_not_learnt_from() -> None:
    whole, asked = corrected(1.0, answers=True)
    assert asked == whole.metrics["corrections"] == learnt(whole) > 0
    step, _ = corrected(1.0, answers=False)
    assert step.metrics["corrections"] == asked and learnt(step) == 0
    # Those that nobody asked about are.
    half, some = corrected(0.5, answers=False)
    assert 0 < some < asked and learnt(half) == asked - some


def test_missing_echoes_of_corrections_stop_a_step() -> None:
    _, asked = corrected(1.0, answers=True, limit=0.1)
    with pytest.raises(EndpointError, match=rf"^{asked} of \d+ reactions of a step are missing"):
        corrected(1.0, answers=False, limit=0.1)
