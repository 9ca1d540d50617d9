"""``train.iterations``: further optimizer steps on the groups of a step are updates like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rapo.learning
import rapo.teacher
from rapo.config import RunConfig
from rapo.errors import RunError
from rapo.hindsight.feedback import JudgeRequest, Verdict
from rapo.models.sampler import sample
from rapo.models.scratch import new_policy
from rapo.optimize.update import update
from rapo.trainer import Step, Trainer
from rapo.types import EchoRequest, Message, Reaction, Scenario

TEXTS = ["I feel so alone since my friend moved away .", "Who could you call when the evening feels long ?"] * 20


class World:
    """Users whom a reply of an odd length pleases, and a judge who says so."""

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        return [Scenario(f"s{i}", "", (Message("user", "I feel so alone ."),), 5.0) for i in range(count)]

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        states = [each.dialogue.trajectory[-1] + len(each.reply) % 2 - 0.7 for each in requests]
        return [Reaction("I feel so alone .", state) for state in states]

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        return [
            Verdict(tuple(float(len(reply)) for reply in each.replies), ("Ask more .",) * len(each.replies))
            for each in requests
        ]


def trainer(*, iterations: int = 1, along: str = "corrections") -> Trainer:
    shape = {
        "policy": {"max_tokens": 8, "max_context": 256, "system_prompt": None},
        "play": {"dialogues": 3, "turns": 2},
        "branch": {"candidates": 3},
        "select": {"share": 0.7},
        "correct": {"verify": 0.0, "below": 1.0},
        "teacher": {"replay": 0},
        "update": {"lr": 0.01, "along": along},
        "train": {"iterations": iterations},
    }
    policy = new_policy(TEXTS, vocab_size=320, hidden=32, layers=1, heads=2, max_context=256, seed=3)
    return Trainer(RunConfig.model_validate(shape), policy, start=policy.clone(), users=World(), judge=World())


@pytest.fixture(autouse=True)
def _finishing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrections count as finished: a policy that has learnt nothing never ends a reply."""

    def ended(*args: Any, **options: Any) -> Any:
        found = sample(*args, **options)
        return [[replace(each, completion=replace(each.completion, finished=True)) for each in some] for some in found]

    monkeypatch.setattr(rapo.teacher, "sample", ended)


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The groups and result of every further update."""
    seen: list[tuple[Any, Any]] = []

    def watched(policy: Any, optimizer: Any, groups: Any, numbers: Any, **others: Any) -> Any:
        result = update(policy, optimizer, groups, numbers, **others)
        seen.append((list(groups), result))
        return result

    monkeypatch.setattr(rapo.learning, "update", watched)
    return seen


def weights(one: Trainer) -> list[torch.Tensor]:
    return [each.detach().clone() for each in one.policy.model.parameters()]


@pytest.mark.parametrize("along", ["corrections", "own"])
def test_two_iterations_are_a_step_and_an_update_on_the_same_groups(again: list[tuple[Any, Any]], along: str) -> None:
    once, twice = trainer(along=along), trainer(along=along, iterations=2)
    first, both = once.step(1), twice.step(1)
    ((groups, second),) = again
    assert any(group.taught for group in groups) and any(reply.advantage for g in groups for reply in g.ranked)
    # By hand: what the second iteration does to the weights that the first one left, before the teacher follows.
    fresh = trainer(along=along)
    fresh.teacher.follow = lambda policy, decay: None  # type: ignore[method-assign]
    fresh.step(1)
    update(fresh.policy, fresh.optimizer, groups, rapo.learning.numbers(fresh.config, 1), teacher=fresh.teacher)
    assert all(map(torch.equal, weights(fresh), weights(twice)))
    assert not all(map(torch.equal, weights(once), weights(twice)))
    assert both.token_divergences == first.token_divergences
    for name in ("ratio", "divergence", "gradient_norm"):
        assert both.metrics[name] == pytest.approx((first.metrics[name] + second.metrics[name]) / 2, rel=1e-6)
    assert first.metrics["ratio"] == pytest.approx(1, abs=1e-5) != second.metrics["ratio"]


def test_what_the_teacher_said_is_let_go_where_it_is_not_needed_again() -> None:
    def kept(one: Trainer) -> list[Any]:
        found: list[Any] = []
        apply = rapo.learning.Learning.apply
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                rapo.learning.Learning, "apply", lambda self, *given: found.extend(self._groups) or apply(self, *given)
            )
            one.step(1)
        return [group.taught for group in found]

    assert not any(kept(trainer())) and any(kept(trainer(iterations=2)))


def test_a_step_half_learnt_is_on_no_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rapo.stages import _Saver

    class Run:
        path = tmp_path

    saved: list[int] = []
    monkeypatch.setattr(_Saver, "_save", lambda self, score=0.0: saved.append(self.done))

    def broken(*given: Any, **others: Any) -> Step:
        raise RunError("the gradient is not finite")

    def stopped(iterations: int, target: str) -> list[int]:
        saved.clear()
        one = trainer(iterations=iterations)
        saver = _Saver(one, Run(), 0, [])  # type: ignore[arg-type]
        saver.after(one.step(1), last=False)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(RunError), saver.on_stop():
            patch.setattr(target, broken)
            one.step(2)
        return list(saved)

    assert stopped(1, "rapo.optimize.update.Gradient.apply") == [1]
    assert stopped(2, "rapo.learning.update") == []
