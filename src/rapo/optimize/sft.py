"""Supervised fine-tuning: cross-entropy on the replies, and on nothing else.

Shape suffixes: B examples, L tokens of a padded row, T = B L, N learnt tokens flattened, V vocabulary, E width of the
model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from rapo.errors import RunError
from rapo.models.decoder import decode, obstacle
from rapo.models.policy import Policy
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.packing import only_at
from rapo.optimize.render import Example


@dataclass(frozen=True, slots=True)
class SftStep:
    """Progress after one optimizer step: its number of ``steps``, its loss (nats per learnt token), its tokens."""

    step: int
    steps: int
    loss: float
    tokens: int


def train_sft(
    policy: Policy,
    optimizer: Optimizer,
    batches: Sequence[Sequence[Example]],
    *,
    warmup: float,
    grad_clip: float,
    on_step: Callable[[SftStep], None] = lambda step: None,
) -> None:
    """Train on the batches in order; the rate rises over ``warmup`` of the steps and then falls linearly to a tenth.

    Raises:
        RunError: the loss or its gradient is not finite, at a step or after the last one.
    """
    # No dropout: all randomness of a run is keyed by its seed.
    policy.model.eval()
    for step, batch in enumerate(batches):
        loss, count = batch_loss(policy, batch)
        (loss / count).backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), grad_clip)
        _demand_finite(f"step {step + 1} of {len(batches)}", loss=loss, gradient=norm)
        optimizer.step(scale=schedule(step, len(batches), warmup))
        on_step(SftStep(step + 1, len(batches), loss.item() / count, sum(len(example.ids) for example in batch)))
    if batches:
        # What the last step made of the weights shows in no loss before it.
        with torch.no_grad():
            _demand_finite("the last step", loss=batch_loss(policy, batches[-1])[0])


def _demand_finite(when: str, **numbers: Tensor) -> None:
    for name, number in numbers.items():
        if not torch.isfinite(number):
            raise RunError(
                f"the {name} of fine-tuning is not finite at {when}, so no model is made",
                got=f"{number.item()}",
                fix="lower sft.adam_lr (and sft.lr with sft.optimizer=muon), and start again",
            )


def schedule(step: int, steps: int, warmup: float) -> float:
    """The share of the peak learning rate at a step, counted from 0."""
    rise = math.ceil(steps * warmup)
    if step < rise:
        return (step + 1) / rise
    return 1.0 - 0.9 * (step - rise) / max(1, steps - rise)


def batch_loss(policy: Policy, examples: Sequence[Example]) -> tuple[Tensor, int]:
    """Summed cross-entropy (nats) over the learnt tokens of a batch, and their number."""
    logits_NV, ids_N = learnt_logits(policy, examples)
    return torch.nn.functional.cross_entropy(logits_NV, ids_N, reduction="sum"), len(ids_N)


def learnt_logits(policy: Policy, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Logits [N, V] at the positions that predict learnt tokens, and those tokens [N], example by example."""
    width = max(len(example.ids) for example in examples)
    ids_BL = torch.tensor([[*example.ids, *[0] * (width - len(example.ids))] for example in examples])
    learn_BL = torch.tensor([[*example.learn, *[False] * (width - len(example.learn))] for example in examples])
    ids_BL, learn_BL = ids_BL.to(policy.device), learn_BL.to(policy.device)
    predictors_N = learn_BL.flatten().nonzero().squeeze(-1) - 1
    with policy.precision():
        logits_NV = _logits(policy.model, ids_BL, predictors_N)
    return logits_NV.float(), ids_BL[learn_BL]


def _logits(model: PreTrainedModel, ids_BL: Tensor, predictors_N: Tensor) -> Tensor:
    """Logits [N, V] at the places ``predictors_N`` of the flattened rows.

    Padding stands on the right, where a causal model never looks back at it: no mask, and the fast attention path.
    """
    if obstacle(model):
        with only_at(model, predictors_N):
            return cast(Tensor, cast(Any, model)(input_ids=ids_BL, use_cache=False).logits)

    def attend(_: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (each.unflatten(0, ids_BL.shape).transpose(1, 2) for each in (query, key, value))
        seen = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        return seen.transpose(1, 2).flatten(0, 1)

    positions_T = torch.arange(ids_BL.shape[1], device=ids_BL.device).repeat(len(ids_BL))
    states_TE = decode(model, ids_BL.flatten(), positions_T, attend)
    return cast(Tensor, cast(Any, model).get_output_embeddings()(states_TE[predictors_N]))


@torch.no_grad()
def mean_loss(policy: Policy, examples: Sequence[Example], *, batch_tokens: int) -> float:
    """Mean cross-entropy (nats) per learnt token; NaN when there is none."""
    policy.model.eval()
    parts = [batch_loss(policy, batch) for batch in _pieces(sorted(examples, key=lambda e: len(e.ids)), batch_tokens)]
    count = sum(number for _, number in parts)
    return sum(loss.item() for loss, _ in parts) / count if count else math.nan


def make_batches(examples: Sequence[Example], *, batch_tokens: int, epochs: float, seed: int) -> list[list[Example]]:
    """Batches of at most ``batch_tokens`` padded tokens (one example at least) for ``epochs`` passes, shuffled.

    Examples of like length share a batch, within a window of 256, so that little is padding.
    """
    random = Random(seed)
    budget = epochs * sum(len(example.ids) for example in examples)
    batches: list[list[Example]] = []
    stream = _stream(examples, batch_tokens, random)
    while budget > 0:
        batches.append(next(stream))
        budget -= sum(len(example.ids) for example in batches[-1])
    return batches


def _stream(pool: Sequence[Example], batch_tokens: int, random: Random) -> Iterator[list[Example]]:
    while True:
        shuffled = random.sample(pool, len(pool))
        for start in range(0, len(shuffled), 256):
            alike = sorted(shuffled[start : start + 256], key=lambda example: len(example.ids))
            pieces = list(_pieces(alike, batch_tokens))
            random.shuffle(pieces)
            yield from pieces


def _pieces(examples: Sequence[Example], batch_tokens: int) -> Iterator[list[Example]]:
    piece: list[Example] = []
    for example in examples:
        if piece and max(len(example.ids), *(len(e.ids) for e in piece)) * (len(piece) + 1) > batch_tokens:
            yield piece
            piece = []
        piece.append(example)
    if piece:
        yield piece
