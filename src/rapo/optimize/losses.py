"""The two terms of the scalar-verbal hybrid and what is logged about them, as pure functions of tensors.

Shape suffixes: N kept tokens, those of all replies flattened into one axis; V vocabulary; K most likely tokens of the
teacher; B buckets: V, or K + 1 after :func:`bucket`.

``token_count`` is the number of tokens of the *whole* optimizer step, over all micro-batches and ranks. Losses and
metrics are sums divided by it, so adding them up over micro-batches gives the mean of the step however it was split,
and an empty call (missing feedback) adds exactly zero to loss and gradient. A metric whose name ends in ``_N`` is not a
sum: it holds one value per token. All logarithms are natural.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

Metrics = dict[str, Tensor]

# exp(-1000) is 0 in every float type: flooring log-probabilities here keeps 0 * log 0 at 0 and every gradient finite.
_LOG_ZERO = -1000.0


def token_logps(logits_NV: Tensor, ids_N: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Log-probability [N] of each token under softmax(logits / temperature), at least float32."""
    return _log_softmax(logits_NV, temperature).gather(-1, ids_N[:, None]).squeeze(-1)


def spoken(logits_NV: Tensor, ids_N: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """:func:`token_logps`, and the entropy [N] of each distribution in nats, which carries no gradient."""
    return cast(tuple[Tensor, Tensor], cast(Any, _Spoken).apply(logits_NV, ids_N, temperature))


def grpo(
    logp_N: Tensor,
    old_logp_N: Tensor,
    advantage_N: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    token_count: int,
    weight_N: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """The macro term: clipped policy gradient with group-relative advantages (DeepSeekMath, arXiv 2402.03300, eq. 3).

    Normalised over all tokens of the step rather than reply by reply (DAPO, arXiv 2503.14476, eq. 12, also the source
    of the two separate clip bounds).

    Args:
        logp_N: log-probability under the weights being trained, at the sampling temperature; the gradient's way in.
        old_logp_N: the same under the behaviour policy.
        advantage_N: advantage of the reply each token belongs to.
        clip_low, clip_high: the ratio is clipped to [1 - clip_low, 1 + clip_high].
        token_count: tokens of the whole step.
        weight_N: importance weights of an external sampler (:func:`truncated_importance`).
    """
    log_ratio_N = logp_N - old_logp_N.detach()
    ratio_N = log_ratio_N.exp()
    free_N = ratio_N * advantage_N
    clipped_N = ratio_N.clamp(1 - clip_low, 1 + clip_high) * advantage_N
    gain_N = torch.minimum(free_N, clipped_N)
    loss = _mean(-gain_N if weight_N is None else -gain_N * weight_N.detach(), token_count)
    metrics = {
        "clip_share": _mean((clipped_N < free_N).to(ratio_N.dtype), token_count),
        "ratio": _mean(ratio_N, token_count),
        "approx_kl": _mean(log_ratio_N.expm1() - log_ratio_N, token_count),
    }
    return loss, _detached(metrics)


def reference_kl(logp_N: Tensor, ref_logp_N: Tensor, *, token_count: int) -> tuple[Tensor, Metrics]:
    """KL(policy || reference) estimated on the sampled tokens, never negative (arXiv 2402.03300, eq. 4; "k3")."""
    gap_N = ref_logp_N.detach() - logp_N
    loss = _mean(gap_N.expm1() - gap_N, token_count)
    return loss, _detached({"reference_kl": loss})


def truncated_importance(logp_train_N: Tensor, logp_sampler_N: Tensor, cap: float) -> Tensor:
    """Weights [N] min(p_train / p_sampler, cap) for replies sampled by another engine; carries no gradient.

    Truncated importance sampling (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL
    training"): both log-probabilities are of the same weights, as the two engines computed them.
    """
    return (logp_train_N - logp_sampler_N).detach().exp().clamp(max=cap)


def bucket(logits_NV: Tensor, ids_NK: Tensor) -> Tensor:
    """Logits [N, K + 1] of the tokens ``ids_NK`` and, last, of all other tokens together.

    Log-probabilities are logits too, and give log-probabilities. Every divergence takes bucketed distributions as it
    takes full ones; merging outcomes can only lower it. Needs K < V.
    """
    logits_NV = _precise(logits_NV)
    kept_NK = logits_NV.gather(-1, ids_NK)
    tail_N1 = logits_NV.scatter(-1, ids_NK, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([kept_NK, tail_N1], dim=-1)


def forward_kl(student_logits_NB: Tensor, teacher_logps_NB: Tensor, *, token_count: int) -> tuple[Tensor, Metrics]:
    """The micro term: KL(teacher || student), mean over tokens, in nats; no gradient reaches the teacher.

    The metric ``gap_N`` is the divergence of each token. The student covers all the teacher would say. Knowledge
    distillation (arXiv 1503.02531), with the policy itself, having read the critique, as the teacher.
    """
    student_NB, teacher_NB = _aligned(student_logits_NB, teacher_logps_NB)
    return _divergence(_kl(teacher_NB, student_NB), token_count)


def reverse_kl(student_logits_NB: Tensor, teacher_logps_NB: Tensor, *, token_count: int) -> tuple[Tensor, Metrics]:
    """KL(student || teacher): the student settles on one thing the teacher would say (MiniLLM, arXiv 2306.08543)."""
    student_NB, teacher_NB = _aligned(student_logits_NB, teacher_logps_NB)
    return _divergence(_kl(student_NB, teacher_NB), token_count)


def jsd(
    student_logits_NB: Tensor, teacher_logps_NB: Tensor, *, token_count: int, beta: float = 0.5
) -> tuple[Tensor, Metrics]:
    """Generalised Jensen-Shannon divergence (GKD, arXiv 2306.13649, eq. 1), at most ln 2 for beta = 0.5.

    beta KL(teacher || m) + (1 - beta) KL(student || m) with m = beta teacher + (1 - beta) student and 0 < beta < 1.
    """
    if not 0 < beta < 1:
        raise ValueError(f"jsd needs 0 < beta < 1, got {beta}")
    student_NB, teacher_NB = _aligned(student_logits_NB, teacher_logps_NB)
    mixture_NB = torch.logaddexp(teacher_NB + math.log(beta), student_NB + math.log1p(-beta))
    gap_N = beta * _kl(teacher_NB, mixture_NB) + (1 - beta) * _kl(student_NB, mixture_NB)
    return _divergence(gap_N, token_count)


DIVERGENCES: dict[str, Callable[..., tuple[Tensor, Metrics]]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd": jsd,
}


class _Spoken(torch.autograd.Function):
    """One softmax for both results and the backward pass: with a large vocabulary each pass over it counts."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, ids_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        logps_NV = _log_softmax(logits_NV, temperature)
        logp_N, probs_NV = logps_NV.gather(-1, ids_N[:, None]).squeeze(-1), logps_NV.exp()
        entropy_N = -logps_NV.clamp_min_(_LOG_ZERO).mul_(probs_NV).sum(-1)
        ctx.save_for_backward(probs_NV, ids_N)
        ctx.temperature, ctx.dtype = temperature, logits_NV.dtype
        ctx.mark_non_differentiable(entropy_N)
        return logp_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        probs_NV, ids_N = ctx.saved_tensors
        # d log p_i / d logit_j = ((1 where j = i) - p_j) / temperature
        scale_N1 = gradients[0][:, None] / ctx.temperature
        by_logits_NV = (probs_NV * -scale_N1).scatter_add_(-1, ids_N[:, None], scale_N1)
        return by_logits_NV.to(ctx.dtype), None, None


def _aligned(student_logits_NB: Tensor, teacher_logps_NB: Tensor) -> tuple[Tensor, Tensor]:
    """Both as floored log-probabilities of one type."""
    student_NB = _precise(student_logits_NB).log_softmax(-1).clamp_min(_LOG_ZERO)
    return student_NB, teacher_logps_NB.detach().to(student_NB).clamp_min(_LOG_ZERO)


def _log_softmax(logits_NV: Tensor, temperature: float) -> Tensor:
    scaled_NV = _precise(logits_NV) if temperature == 1 else _precise(logits_NV) / temperature
    return scaled_NV.log_softmax(-1)


def _precise(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _kl(p_NB: Tensor, q_NB: Tensor) -> Tensor:
    return (p_NB.exp() * (p_NB - q_NB)).sum(-1)


def _divergence(gap_N: Tensor, token_count: int) -> tuple[Tensor, Metrics]:
    loss = _mean(gap_N, token_count)
    return loss, _detached({"divergence": loss, "gap_N": gap_N})


def _mean(values_N: Tensor, token_count: int) -> Tensor:
    if token_count < len(values_N):
        raise ValueError(f"token_count {token_count} is less than the {len(values_N)} tokens given")
    return values_N.sum() / max(token_count, 1)


def _detached(metrics: Metrics) -> Metrics:
    return {name: value.detach() for name, value in metrics.items()}
