"""Step 6: the scalar-verbal hybrid update, L = macro L_macro + micro L_micro (+ kl L_kl + replay L_replay).

The output layer and the losses of both terms are computed in chunks of tokens, so what they hold depends on neither the
number of tokens nor the length of prompts.

Shape suffixes: N scored tokens in the order group, segment, token; n tokens of a chunk; V vocabulary; B
buckets; E width of the states that the output layer reads.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rapo.errors import RunError
from rapo.models.decoder import obstacle
from rapo.models.policy import Policy
from rapo.optimize.chunks import StudentLogits, TeacherLogps, chunks
from rapo.optimize.lessons import Kind, TrainingGroup, count, kinds, parts, ranked_rows
from rapo.optimize.losses import (
    DIVERGENCES,
    Metrics,
    bucket,
    grpo,
    reference_kl,
    spoken,
    token_logps,
)
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.packing import PackedGroup, Scores, scored_ids, scores
from rapo.optimize.render import Example
from rapo.optimize.sft import batch_loss

# A loss of the tokens of a chunk, given their logits [n, V]: their mean, and metrics.
Term = Callable[[slice, Tensor], tuple[Tensor, Metrics]]


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
    tokens_per_forward: int
    grad_clip: float

    def moving(self, group: TrainingGroup) -> TrainingGroup:
        """The group less what cannot move the weights: a tied group's replies, and terms of weight 0."""
        learns = self.kl > 0 or (self.macro > 0 and any(reply.advantage for reply in group.ranked))
        return TrainingGroup(group.prompt, group.ranked if learns else (), group.taught if self.micro > 0 else ())


@dataclass(slots=True)
class UpdateResult:
    """Metrics of the step, and the divergence (nats) at each token of every taught reply, group by group."""

    metrics: dict[str, float] = field(default_factory=dict)
    divergences: list[list[list[float]]] = field(default_factory=list)


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

    Every term is divided by its own token count over the whole step, so neither the number of tokens per forward nor
    the length of the other term's replies changes it. Nothing to learn means no step.

    Args:
        teacher: writes the distributions of taught replies that carry none.
        reference: the start policy, for ``numbers.kl``.
        replay: supervised correction examples.

    Raises:
        RunError: the gradient is not finite; the weights are as they were.
    """
    tokens = count(numbers.moving(group) for group in groups)
    gradient = Gradient(policy, numbers, tokens=tokens, teacher=teacher, reference=reference)
    gradient.add(groups)
    return gradient.apply(optimizer, replay)


class Gradient:
    """The gradient of one step, added up group by group in the order in which they are added.

    Args:
        policy, numbers, teacher, reference: as for :func:`update`.
        tokens: how many tokens each term, ``macro`` and ``micro``, has in the whole step. None: that is known only
            when the last group has been added; until then the terms are kept apart, and each prefix is encoded once for
            either term.
    """

    def __init__(
        self,
        policy: Policy,
        numbers: Hybrid,
        *,
        tokens: Counter[str] | None = None,
        teacher: Policy | None = None,
        reference: Policy | None = None,
    ) -> None:
        self._policy, self._numbers, self._teacher, self._reference = policy, numbers, teacher, reference
        self._known, self._tokens = tokens, Counter[str]()
        self._parameters = [each for each in policy.model.parameters() if each.requires_grad]
        self._verbal: list[Tensor | None] = [None] * len(self._parameters)
        self._sums: defaultdict[str, Tensor | float] = defaultdict(float)
        if numbers.kl > 0 and reference is None:
            raise ValueError("a distance to the reference needs one")
        self._divergences: list[list[list[float]]] = []

    def add(self, groups: Sequence[TrainingGroup]) -> None:
        """Add what these groups teach; at most ``numbers.tokens_per_forward`` tokens at a time, one group at least."""
        # Dropout would make the update differ from the policy that was sampled from, and from a resumed run.
        self._policy.model.eval()
        for part in parts([self._numbers.moving(group) for group in groups], self._numbers.tokens_per_forward):
            self._tokens += count(part)
            if self._known is not None:
                self._divergences += self._backward(part, self._known)
            else:
                self._backward([replace(group, taught=()) for group in part], Counter(macro=1))
                with self._kept_apart():
                    self._divergences += self._backward([replace(group, ranked=()) for group in part], Counter(micro=1))

    def apply(self, optimizer: Optimizer, replay: Sequence[Example] = ()) -> UpdateResult:
        """Take the step; raises RunError when the gradient is not finite, and leaves the weights as they were."""
        result = UpdateResult(divergences=self._divergences)
        if not self._tokens.total():
            return result
        if self._known is None:
            self._join()
        if replay:
            replayed, count = batch_loss(self._policy, replay)
            (self._numbers.replay * replayed / count).backward()
            result.metrics["replay_loss"] = replayed.item() / count
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._numbers.grad_clip)
        if not torch.isfinite(norm):
            raise RunError(
                "the gradient is not finite, so the weights were left alone",
                got=f"norm {float(norm)}",
                fix="start another run from the last checkpoint (policy.path) with a lower update.lr or in float32",
            )
        optimizer.step()
        term = {name: "micro" if name == "divergence" else "macro" for name in self._sums}
        result.metrics |= {name: float(total) / self._tokens[term[name]] for name, total in self._sums.items()}
        counts = {"macro_tokens": self._tokens["macro"], "micro_tokens": self._tokens["micro"]}
        result.metrics |= counts | {"gradient_norm": float(norm)}
        return result

    @contextmanager
    def _kept_apart(self) -> Iterator[None]:
        """Let gradients flow into the store of the verbal term meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for i, parameter in enumerate(self._parameters):
            parameter.grad, self._verbal[i] = self._verbal[i], parameter.grad

    def _join(self) -> None:
        """Divide each term's gradient by its tokens and add them up."""
        for parameter, verbal in zip(self._parameters, self._verbal, strict=True):
            for gradient, term in ((parameter.grad, "macro"), (verbal, "micro")):
                if gradient is not None:
                    gradient /= max(1, self._tokens[term])
            if parameter.grad is None:
                parameter.grad = verbal
            elif verbal is not None:
                parameter.grad += verbal

    def _backward(self, groups: Sequence[TrainingGroup], divisors: Counter[str]) -> list[list[list[float]]]:
        """Add the groups' gradient, each term divided by its divisor; the divergences of each taught reply's tokens."""
        rows = [group.row() for group in groups]
        if not any(row.segments for row in rows):
            return [[] for _ in groups]
        found = _scores(self._policy, [row for row in rows if row.segments])
        kind_N, ids_N = (each.to(found.states.device) for each in (kinds(groups), scored_ids(rows)))
        # Both terms go down to the states chunk by chunk, and together through the decoder once.
        gradient, gap_N = torch.zeros_like(found.states), torch.zeros(len(ids_N), device=ids_N.device)
        for kind in Kind:
            mine_N = kind_N == kind
            if mine_N.any():
                some = [group.only(kind) for group in groups]
                student = StudentLogits(found.states.detach()[mine_N], found.project)
                gap_N[mine_N] = self._learn(some, student, ids_N[mine_N], divisors)
                gradient[mine_N] = student.gradient
        found.states.backward(gradient)
        pieces = iter(gap_N.cpu().split([len(reply.ids) for group in groups for reply in group.replies()]))
        return [
            [gaps.tolist() for reply, gaps in zip(group.replies(), pieces, strict=False) if reply.taught]
            for group in groups
        ]

    def _learn(
        self, groups: Sequence[TrainingGroup], student: StudentLogits, ids_N: Tensor, divisors: Counter[str]
    ) -> Tensor:
        """Backward of the terms of replies of one kind, down to the student's states; each token's divergence, or 0."""
        gap_N = torch.zeros(len(ids_N), device=ids_N.device)
        terms: dict[str, Term] = {}
        if any(group.ranked for group in groups):
            terms["macro"] = self._macro(groups, ids_N)
        if any(group.taught for group in groups):
            terms["micro"] = self._micro(groups)
        for chunk, logits in student.chunks():
            for name, term in terms.items():
                loss, metrics = term(chunk, logits)
                (loss * (len(logits) / divisors[name])).backward()
                if "gap_N" in metrics:
                    gap_N[chunk] = metrics.pop("gap_N")
                self._note(metrics, len(logits))
        return gap_N

    def _macro(self, groups: Sequence[TrainingGroup], ids_N: Tensor) -> Term:
        """The rank term, and the distance to the reference."""
        numbers, replies = self._numbers, [reply for group in groups for reply in group.ranked]
        old_N = torch.tensor([logp for reply in replies for logp in reply.old_logps]).to(ids_N.device)
        advantage_N = torch.tensor([reply.advantage for reply in replies for _ in reply.ids]).to(ids_N.device)
        reference = None if self._reference is None else _seen_by(self._reference, ranked_rows(groups))

        def term(chunk: slice, logits: Tensor) -> tuple[Tensor, Metrics]:
            size = len(logits)
            logp_n, entropy_n = spoken(logits, ids_N[chunk], temperature=numbers.temperature)
            loss, metrics = grpo(
                logp_n,
                old_N[chunk].to(logp_n),
                advantage_N[chunk].to(logp_n),
                clip_low=numbers.clip_low,
                clip_high=numbers.clip_high,
                token_count=size,
            )
            loss = numbers.macro * loss
            if reference is not None:
                with torch.no_grad():
                    theirs = reference.project(reference.states[chunk])
                    theirs_n = token_logps(theirs, ids_N[chunk], temperature=numbers.temperature)
                distance, found = reference_kl(logp_n, theirs_n, token_count=size)
                loss, metrics = loss + numbers.kl * distance, metrics | found
            return loss, metrics | {"entropy": entropy_n.mean()}

        return term

    def _micro(self, groups: Sequence[TrainingGroup]) -> Term:
        """The verbal term."""
        numbers = self._numbers
        teacher = TeacherLogps([reply for group in groups for reply in group.taught], numbers.top_k)
        if not teacher.recorded:
            if self._teacher is None:
                raise ValueError("taught replies without recorded distributions need a teacher")
            teacher.scores = _seen_by(self._teacher, [group.told() for group in groups if group.taught])

        def term(chunk: slice, logits: Tensor) -> tuple[Tensor, Metrics]:
            theirs_nB, ids_nK = teacher.logps(chunk, logits)
            mine_nB = logits if ids_nK is None else bucket(logits, ids_nK)
            loss, metrics = DIVERGENCES[numbers.divergence](mine_nB, theirs_nB, token_count=len(logits))
            return numbers.micro * loss, metrics

        return term

    def _note(self, metrics: dict[str, Tensor], size: int) -> None:
        # Kept as tensors until the end: reading one makes a GPU wait.
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value.double() * size


@torch.no_grad()
def kl_to(start: Policy, policy: Policy, groups: Sequence[TrainingGroup]) -> float:
    """KL(policy || start) estimated on the groups' ranked replies, nats per token (k3); NaN when there are none."""
    rows = ranked_rows(groups)
    if not rows:
        return math.nan
    policy.model.eval()
    total, count = 0.0, sum(len(segment.ids) for row in rows for segment in row.segments)
    for row in rows:
        ids_N = scored_ids([row]).to(policy.device)
        mine, theirs = _scores(policy, [row]), _scores(start, [row])
        for chunk in chunks(mine.states):
            pair = [token_logps(each.project(each.states[chunk]), ids_N[chunk]) for each in (mine, theirs)]
            total += float(reference_kl(*pair, token_count=count)[0])
    return total


def _scores(policy: Policy, rows: Sequence[PackedGroup]) -> Scores:
    with policy.precision():
        found = scores(policy.model, rows, packed=obstacle(policy.model) is None)

    def project(states: Tensor) -> Tensor:
        with policy.precision():
            return found.project(states)

    return Scores(found.states, project)


@torch.no_grad()
def _seen_by(other: Policy, rows: Sequence[PackedGroup]) -> Scores:
    return _scores(other, rows)
