"""One forward pass over a shared prefix and everything that continues it.

A context of P tokens with G replies of C tokens costs P + G C tokens as one group [prefix, reply 1, ..., reply G], of
which every reply sees the prefix and itself, and G (P + C) tokens as ordinary rows. Both give the same numbers.

Shape suffixes: T tokens of all groups in one flat list; B rows, L row length; N scored tokens in the order group,
segment, token; E width of the model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from rapo.errors import ModelError
from rapo.models.decoder import decode, obstacle
from rapo.optimize.prefix_attention import SharedPrefix, Span


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that continue a prefix; those before ``scored_from`` (a failed reply and its critique) are only read."""

    ids: tuple[int, ...]
    scored_from: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.scored_from <= len(self.ids):
            raise ValueError(f"scored_from {self.scored_from} is outside a segment of {len(self.ids)} tokens")


@dataclass(frozen=True, slots=True)
class PackedGroup:
    """A prefix of at least one token and the segments that each continue it, unseen by one another."""

    prefix: tuple[int, ...]
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if not self.prefix:
            raise ValueError("a group needs a prefix: its last token predicts the first token of every segment")

    @property
    def length(self) -> int:
        """Tokens of the group as it is packed."""
        return len(self.prefix) + sum(len(segment.ids) for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Layout:
    """Groups one after another in a flat list of T tokens.

    Attributes:
        ids: int64 [T].
        positions: int64 [T], going on from the prefix in every segment.
        spans: where each group stands.
        predictors: int64 [N], the place where the prediction of each scored token is made.
    """

    ids: Tensor
    positions: Tensor
    spans: tuple[Span, ...]
    predictors: Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """What predicts each scored token, before the output layer.

    Attributes:
        states: [N, E]; the logits themselves [N, V] where the model's own forward was run.
        project: states of any of the tokens to their logits.
    """

    states: Tensor
    project: Callable[[Tensor], Tensor]


def scored_ids(groups: Sequence[PackedGroup]) -> Tensor:
    """The scored tokens [N], on the CPU, in the order of the logits."""
    return torch.tensor([i for g in groups for s in g.segments for i in s.ids[s.scored_from :]], dtype=torch.long)


def scores(model: PreTrainedModel, groups: Sequence[PackedGroup], *, packed: bool) -> Scores:
    """What predicts every scored token, by shared-prefix groups or by ordinary rows.

    Raises:
        ModelError: ``packed`` and the model cannot (:func:`rapo.models.decoder.obstacle`).
    """
    return packed_scores(model, groups) if packed else Scores(plain_logits(model, groups), lambda logits: logits)


def packed_scores(model: PreTrainedModel, groups: Sequence[PackedGroup]) -> Scores:
    """What predicts every scored token; each prefix is encoded once.

    The last prefix token predicts the first token of every segment. Exact: the log-probabilities and gradients of
    :func:`plain_logits`.

    Raises:
        ModelError: the model cannot run packed groups.
    """
    if reason := obstacle(model):
        raise ModelError("this model cannot share prefixes between replies", got=reason, fix="give it ordinary rows")
    layout = lay_out(groups, model.device)
    attention = SharedPrefix(layout.spans, model.device, model.config.num_hidden_layers - 1)
    states_ME = decode(model, layout.ids, layout.positions, attention, attention.matter)
    places_N = torch.searchsorted(attention.matter, layout.predictors)
    return Scores(states_ME[places_N], cast(Any, model).get_output_embeddings())


def completion_logits(model: PreTrainedModel, groups: Sequence[PackedGroup], *, packed: bool) -> Tensor:
    """Logits [N, V] that predict every scored token, all at once; raises as :func:`scores`."""
    found = scores(model, groups, packed=packed)
    return found.project(found.states)


def plain_logits(model: PreTrainedModel, groups: Sequence[PackedGroup]) -> Tensor:
    """Logits [N, V] that predict every scored token, with one ordinary row per segment, on any causal LM."""
    if not groups:
        raise ValueError("there is nothing to lay out")
    rows = [(group.prefix, segment) for group in groups for segment in group.segments]
    ids_BL = pad_sequence([torch.tensor(prefix + segment.ids) for prefix, segment in rows], batch_first=True)
    lengths_B = torch.tensor([len(prefix) + len(segment.ids) for prefix, segment in rows])
    mask_BL = torch.arange(ids_BL.shape[1]) < lengths_B[:, None]
    predictors = [
        row * ids_BL.shape[1] + len(prefix) - 1 + t
        for row, (prefix, segment) in enumerate(rows)
        for t in range(segment.scored_from, len(segment.ids))
    ]
    with only_at(model, torch.tensor(predictors, dtype=torch.long, device=model.device)):
        output = model(
            input_ids=ids_BL.to(model.device), attention_mask=mask_BL.long().to(model.device), use_cache=False
        )
    logits: Tensor = output.logits
    return logits


def lay_out(groups: Sequence[PackedGroup], device: torch.device) -> Layout:
    """The groups one after another: each prefix, then its segments."""
    if not groups:
        raise ValueError("there is nothing to lay out")
    ids: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    spans = []
    for group in groups:
        start, prefix = len(ids), len(group.prefix)
        ids += group.prefix
        positions += range(prefix)
        for segment in group.segments:
            first = len(ids)
            scored = range(segment.scored_from, len(segment.ids))
            predictors += [first + t - 1 if t else start + prefix - 1 for t in scored]
            ids += segment.ids
            positions += range(prefix, prefix + len(segment.ids))
        some = [segment for segment in group.segments if segment.ids]
        # The token before a scored one predicts it.
        leads = tuple(max(0, segment.scored_from - 1) for segment in some)
        spans.append(Span(start, prefix, tuple(len(segment.ids) for segment in some), leads))
    return Layout(
        ids=torch.tensor(ids, device=device),
        positions=torch.tensor(positions, device=device),
        spans=tuple(spans),
        predictors=torch.tensor(predictors, dtype=torch.long, device=device),
    )


@contextmanager
def only_at(model: PreTrainedModel, positions_N: Tensor) -> Iterator[None]:
    """Let the output layer see only the given positions of its flattened input.

    A hook on that layer, and not a call to the decoder alone, so that the model's own forward runs from its root: that
    is what sharded data parallelism hooks into, and where some architectures scale their logits.
    """
    hook = (
        cast(Any, model)
        .get_output_embeddings()
        .register_forward_pre_hook(lambda _, inputs: (inputs[0].flatten(0, 1)[positions_N], *inputs[1:]))
    )
    try:
        yield
    finally:
        hook.remove()
