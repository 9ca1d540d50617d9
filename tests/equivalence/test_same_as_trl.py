"""Given the same replies, TRL's trainers and ours have the same gradient: the benchmarks compare equal work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("trl", reason="needs the extra bench")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from transformers import TrainerCallback

import step_trl
from rapo.models.policy import Policy
from rapo.models.sampler import TeacherDistribution
from rapo.optimize.lessons import RankedReply, TaughtReply, TrainingGroup
from rapo.optimize.losses import token_logps
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.packing import PackedGroup, Segment, plain_logits
from rapo.optimize.update import Hybrid, update
from workload import Point, write_model

POINT = Point(shape="tiny", vocabulary=300, prompt=40, reply=12, group=4, groups=2, feedback=6)


class _Stop(TrainerCallback):
    """Ends the training where the gradient is complete."""

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        raise StopIteration


@pytest.mark.parametrize("contender", ["trl-grpo", "trl-grpo-split", "trl-grpo-compact", "trl-sdpo-full"])
def test_the_gradient_is_the_same(contender: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_trl.trl.trainer.utils, "_use_triton", step_trl.trl.trainer.utils._use_triton)
    write_model(tmp_path, POINT.shape, POINT.vocabulary)
    theirs, batch = _theirs(contender, tmp_path)
    mine = _mine(batch, tmp_path, weight=0.5 if "sdpo" in contender else 1.0)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6 * float(theirs.abs().max()))


def _theirs(contender: str, folder: Path) -> tuple[Tensor, dict[str, Any]]:
    """TRL's gradient before clipping, and the batch of all its passes."""
    trainer: Any = step_trl.CONTENDERS[contender](POINT, folder)
    trainer.args.max_grad_norm = 0
    trainer.add_callback(_Stop())
    passes: list[dict[str, Any]] = []
    compute_loss = trainer.compute_loss

    def spy(model: Any, inputs: dict[str, Any], **options: Any) -> Tensor:
        passes.append(inputs)
        return compute_loss(model, inputs, **options)

    trainer.compute_loss = spy
    with pytest.raises(StopIteration):
        trainer.train()
    names = [name for name, value in passes[0].items() if isinstance(value, Tensor) and value.ndim]
    batch = {name: torch.cat([inputs[name] for inputs in passes]) for name in names}
    return torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()]), batch


def _mine(batch: dict[str, Any], folder: Path, weight: float) -> Tensor:
    """Our gradient on the same replies and advantages; with a teacher where TRL has one."""
    policy = Policy.load(folder)
    groups: dict[tuple[int, ...], list[tuple[RankedReply, TaughtReply | None]]] = {}
    for i, (prompt, reply) in enumerate(zip(batch["prompt_ids"], batch["completion_ids"], strict=True)):
        ids = tuple(reply.tolist())
        with torch.no_grad():
            logits = plain_logits(policy.model, [PackedGroup(tuple(prompt.tolist()), (Segment(ids),))])
        ranked = RankedReply(ids, tuple(token_logps(logits, reply).tolist()), float(batch["advantages"][i]))
        groups.setdefault(tuple(prompt.tolist()), []).append((ranked, _taught(policy, batch, i)))
    lessons = [
        TrainingGroup(prompt, tuple(r for r, _ in some), tuple(t for _, t in some if t))
        for prompt, some in groups.items()
    ]
    optimizer = Optimizer(policy, lr=1e-5)
    numbers = Hybrid(
        macro=weight,
        micro=weight,
        divergence="forward_kl",
        top_k=0,
        clip_low=0.2,
        clip_high=0.2,
        kl=0.0,
        replay=0.0,
        temperature=1.0,
        tokens_per_forward=200,
        grad_clip=1e9,
    )
    update(policy, optimizer, lessons, numbers)
    # After one step AdamW's first moment is (1 - 0.9) times the gradient.
    return torch.cat([state["exp_avg"].flatten() / 0.1 for state in optimizer.parts[0].state.values()])


def _taught(policy: Policy, batch: dict[str, Any], i: int) -> TaughtReply | None:
    """The reply with the distributions of a teacher that has the policy's weights and TRL's prompt."""
    if "teacher_input_ids" not in batch:
        return None
    ids = batch["teacher_input_ids"][i][batch["teacher_attention_mask"][i].bool()]
    reply = batch["completion_ids"][i]
    with torch.no_grad():
        logits = policy.model(input_ids=ids[None]).logits[0, -len(reply) - 1 : -1]
    return TaughtReply(tuple(reply.tolist()), TeacherDistribution(logits.log_softmax(-1)))
