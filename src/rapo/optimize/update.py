"""Step 6: the scalar-verbal hybrid update, L = macro L_macro + micro L_micro (+ kl L_kl + replay L_replay).

Shape suffixes: N scored tokens in the order group, segment, token; V vocabulary; B buckets.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rapo.errors import RunError
from rapo.models.policy import Policy
from rapo.models.sampler import TeacherDistribution
from rapo.optimize.losses import DIVERGENCES, bucket, entropy, grpo, hybrid, reference_kl, token_logps
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.packing import PackedGroup, Segment, completion_logits, packing_obstacle, scored_ids
from rapo.optimize.render import Example
from rapo.optimize.sft import batch_loss


@dataclass(frozen=True, slots=True)
class RankedReply:
    """A sampled reply of T tokens for the macro term; an advantage of 0 teaches nothing."""

    ids: tuple[int, ...]
    old_logps: tuple[float, ...]
    advantage: float


@dataclass(frozen=True, slots=True)
class TaughtReply:
    """A reply of T tokens for the micro term, and what the feedback-aware teacher says at each of its tokens.

    Attributes:
        ids: the correction, or the candidate itself (the own-token variant).
        teacher: the teacher's next-token distributions where they were recorded while it decoded ``ids``.
        feedback: else what only the teacher reads between the context and ``ids``: failed reply and critique.
    """

    ids: tuple[int, ...]
    teacher: TeacherDistribution | None = None
    feedback: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """A context and what is learnt in it."""

    prompt: tuple[int, ...]
    ranked: tuple[RankedReply, ...] = ()
    taught: tuple[TaughtReply, ...] = ()


@dataclass(frozen=True, slots=True)
class Hybrid:
    """The numbers of the update; see the config section ``update`` for each."""

    macro: float
    micro: float
    divergence: str
    top_k: int
    clip_low: float
    clip_high: float
    kl: float
    replay: float
    temperature: float
    groups_per_forward: int
    grad_clip: float


@dataclass(slots=True)
class UpdateResult:
    """Metrics of the step, and the mean divergence (nats per token) of every taught reply, group by group."""

    metrics: dict[str, float] = field(default_factory=dict)
    divergences: list[list[float]] = field(default_factory=list)


def update(
    policy: Policy,
    optimizer: Optimizer,
    groups: Sequence[TrainingGroup],
    numbers: Hybrid,
    *,
    teacher: Policy | None = None,
    reference: Policy | None = None,
    replay: Sequence[Example] = (),
) -> UpdateResult:
    """One optimizer step on all groups.

    Every term is divided by its own token count over the whole step, so neither the number of groups per forward nor
    the length of the other term's replies changes it. Nothing to learn means no step.

    Args:
        teacher: writes the distributions of taught replies that carry none.
        reference: the start policy, for ``numbers.kl``.
        replay: supervised correction examples.

    Raises:
        RunError: the gradient is not finite; the weights are as they were.
    """
    groups = [_without_idle(group, numbers) for group in groups]
    tokens = Counter(
        macro=sum(len(reply.ids) for group in groups for reply in group.ranked),
        micro=sum(len(reply.ids) for group in groups for reply in group.taught),
    )
    result = UpdateResult(divergences=[[] for _ in groups])
    if not tokens.total():
        return result
    # Dropout would make the update differ from the policy that was sampled from, and from a resumed run.
    policy.model.eval()
    totals: defaultdict[str, float] = defaultdict(float)
    for start in range(0, len(groups), numbers.groups_per_forward):
        part = groups[start : start + numbers.groups_per_forward]
        if any(group.ranked or group.taught for group in part):
            loss, metrics, divergences = _losses(policy, part, numbers, tokens, teacher, reference)
            loss.backward()
            for name, value in metrics.items():
                totals[name] += float(value)
            result.divergences[start : start + len(part)] = divergences
    if replay:
        replayed, count = batch_loss(policy, replay)
        (numbers.replay * replayed / count).backward()
        totals["replay_loss"] = replayed.item() / count
    norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), numbers.grad_clip)
    if not torch.isfinite(norm):
        raise RunError(
            "the gradient is not finite, so the weights were left alone",
            got=f"norm {float(norm)}",
            fix="lower update.lr, or use run.dtype=float32, and resume from the last checkpoint",
        )
    optimizer.step()
    counts = {"macro_tokens": tokens["macro"], "micro_tokens": tokens["micro"], "gradient_norm": float(norm)}
    result.metrics = {**totals, **counts}
    return result


def _without_idle(group: TrainingGroup, numbers: Hybrid) -> TrainingGroup:
    """The group less what cannot move the weights: a tied group's replies, and terms of weight 0."""
    learns = numbers.kl > 0 or (numbers.macro > 0 and any(reply.advantage for reply in group.ranked))
    return TrainingGroup(group.prompt, group.ranked if learns else (), group.taught if numbers.micro > 0 else ())


def _losses(
    policy: Policy,
    groups: Sequence[TrainingGroup],
    numbers: Hybrid,
    tokens: Counter[str],
    teacher: Policy | None,
    reference: Policy | None,
) -> tuple[Tensor, dict[str, Tensor], list[list[float]]]:
    """This part's share of the loss and the metrics, and the mean divergence of its taught replies."""
    rows = [
        PackedGroup(g.prompt, tuple(Segment(reply.ids) for replies in (g.ranked, g.taught) for reply in replies))
        for g in groups
    ]
    logits_NV = _forward(policy, [row for row in rows if row.segments])
    ids_N, ranked_N = scored_ids(rows).to(logits_NV.device), _kinds(groups).to(logits_NV.device)
    loss = logits_NV.new_zeros(())
    metrics: dict[str, Tensor] = {}
    divergences: list[list[float]] = [[] for _ in groups]
    if any(group.ranked for group in groups):
        logp_N = token_logps(logits_NV[ranked_N], ids_N[ranked_N], temperature=numbers.temperature)
        macro, metrics = _macro(groups, numbers, logp_N, tokens["macro"], reference)
        metrics["entropy"] = entropy(logits_NV[ranked_N]).sum() / tokens["macro"]
        loss = loss + macro
    if any(group.taught for group in groups):
        student_NV = logits_NV[~ranked_N]
        teacher_NB, ids_NK = _teacher_logps(groups, teacher, numbers.top_k)
        student_NB = student_NV if ids_NK is None else bucket(student_NV, ids_NK.to(student_NV.device))
        micro, found = DIVERGENCES[numbers.divergence](
            student_NB, teacher_NB.to(student_NB.device), token_count=tokens["micro"]
        )
        pieces = iter(found.pop("gap_N").split([len(reply.ids) for group in groups for reply in group.taught]))
        divergences = [[float(next(pieces).mean()) for _ in group.taught] for group in groups]
        loss, metrics = hybrid(loss, micro, numbers.micro), metrics | found
    return loss, metrics, divergences


def _macro(
    groups: Sequence[TrainingGroup], numbers: Hybrid, logp_N: Tensor, token_count: int, reference: Policy | None
) -> tuple[Tensor, dict[str, Tensor]]:
    replies = [reply for group in groups for reply in group.ranked]
    old_N = torch.tensor([logp for reply in replies for logp in reply.old_logps]).to(logp_N)
    advantage_N = torch.tensor([reply.advantage for reply in replies for _ in reply.ids]).to(logp_N)
    loss, metrics = grpo(
        logp_N,
        old_N,
        advantage_N,
        clip_low=numbers.clip_low,
        clip_high=numbers.clip_high,
        token_count=token_count,
    )
    loss = numbers.macro * loss
    if reference is None:
        return loss, metrics
    rows = [PackedGroup(g.prompt, tuple(Segment(reply.ids) for reply in g.ranked)) for g in groups if g.ranked]
    with torch.no_grad():
        ref_N = token_logps(
            _forward(reference, rows), scored_ids(rows).to(logp_N.device), temperature=numbers.temperature
        )
    distance, found = reference_kl(logp_N, ref_N, token_count=token_count)
    return loss + numbers.kl * distance, metrics | found


def _teacher_logps(groups: Sequence[TrainingGroup], teacher: Policy | None, top_k: int) -> tuple[Tensor, Tensor | None]:
    """The teacher's log-probabilities [N, B], and the tokens [N, K] they are bucketed by (None: all tokens)."""
    recorded = [reply.teacher for group in groups for reply in group.taught if reply.teacher is not None]
    if recorded:
        ids = [each.ids for each in recorded if each.ids is not None]
        return torch.cat([each.logps for each in recorded]), torch.cat(ids) if ids else None
    if teacher is None:
        raise ValueError("taught replies without recorded distributions need a teacher")
    rows = [
        PackedGroup(g.prompt, tuple(Segment((*r.feedback, *r.ids), len(r.feedback)) for r in g.taught))
        for g in groups
        if g.taught
    ]
    with torch.no_grad():
        logps_NV = _forward(teacher, rows).float().log_softmax(-1)
    if not top_k:
        return logps_NV, None
    ids_NK = logps_NV.topk(min(top_k, logps_NV.shape[-1] - 1)).indices
    return bucket(logps_NV, ids_NK), ids_NK


def _forward(policy: Policy, rows: Sequence[PackedGroup]) -> Tensor:
    return completion_logits(policy.model, rows, packed=packing_obstacle(policy.model) is None)


def _kinds(groups: Sequence[TrainingGroup]) -> Tensor:
    """Whether each scored token [N] belongs to a ranked reply."""
    kinds: list[bool] = []
    for group in groups:
        kinds += [True] * sum(len(reply.ids) for reply in group.ranked)
        kinds += [False] * sum(len(reply.ids) for reply in group.taught)
    return torch.tensor(kinds)


@torch.no_grad()
def kl_to(start: Policy, policy: Policy, groups: Sequence[TrainingGroup]) -> float:
    """KL(policy || start) estimated on the groups' ranked replies, nats per token (k3); NaN when there are none."""
    rows = [PackedGroup(g.prompt, tuple(Segment(reply.ids) for reply in g.ranked)) for g in groups if g.ranked]
    if not rows:
        return math.nan
    policy.model.eval()
    ids_N = scored_ids(rows).to(policy.device)
    mine_N, theirs_N = (token_logps(_forward(each, rows), ids_N) for each in (policy, start))
    return float(reference_kl(mine_N, theirs_N, token_count=len(ids_N))[0])
