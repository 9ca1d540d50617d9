"""Answers of a judge that cannot be used teach exactly nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import Tensor

from fake_llm import parse_back
from rapo.config import RunConfig
from rapo.hindsight.llm_judge import LLMJudge
from rapo.interact.llm_user import LLMUser
from rapo.models.chat import ChatRequest, Scripted
from rapo.models.policy import Policy
from rapo.models.scratch import new_policy
from rapo.optimize.optimizer import Optimizer
from rapo.trainer import Step, Trainer
from rapo.types import Message, Scenario

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
    scenarios = [Scenario(f"s{i}", "", (Message("user", "I feel so alone ."),), 5.0) for i in range(2)]
    trainer = Trainer(
        CONFIG,
        policy,
        start=start,
        users=LLMUser(scenarios, [Scripted("user", user)]),
        judge=LLMJudge(Scripted("judge", judge)),
    )
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


def test_the_same_step_with_usable_feedback_learns() -> None:
    def judge(request: ChatRequest) -> str:
        size = len(parse_back(request.messages[-1].content))
        return json.dumps({"ranks": list(range(1, size + 1)), "critiques": ["Ask more ."] * size})

    step, watched, moved = one_step(judge)
    assert step.metrics["missing_feedback"] == 0 and moved
    assert any(gradient.any() for gradient in watched.gradients)
