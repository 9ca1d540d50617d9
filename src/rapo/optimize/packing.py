"""One forward pass over a shared prefix and everything that continues it.

A context of P tokens with G replies of C tokens costs P + G C tokens as one row [prefix, reply 1, ..., reply G], where
every reply sees the prefix and itself, and G (P + C) tokens as ordinary rows. Both give the same numbers.

Shape suffixes: B rows, L row length, N scored tokens in the order group, segment, token; V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Dropout, Module
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from rapo.errors import ModelError
from rapo.optimize.prefix_attention import attending, row_layout

VERIFIED_MODELS = ("llama", "qwen2", "qwen3")
_LENGTH_FREE_ROPE = ("default", "linear", "llama3", "yarn")


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


@dataclass(frozen=True, slots=True)
class Rows:
    """Groups laid out as rows, padded on the right.

    Attributes:
        ids: int64 [B, L], padded with 0.
        positions: int64 [B, L], going on from the prefix in every segment, 0 in padding.
        owner: int64 [B, L]: 0 in the prefix, s >= 1 in segment s, -1 in padding.
        predictors: int64 [N], where in the B * L positions the prediction of each scored token is made.
    """

    ids: Tensor
    positions: Tensor
    owner: Tensor
    predictors: Tensor


def scored_ids(groups: Sequence[PackedGroup]) -> Tensor:
    """The scored tokens [N], on the CPU, in the order of the logits."""
    return torch.tensor([i for g in groups for s in g.segments for i in s.ids[s.scored_from :]], dtype=torch.long)


def packing_obstacle(model: PreTrainedModel) -> str | None:
    """Why this model cannot run packed rows, or None where they were verified to be exact."""
    config = model.config
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if config.model_type not in VERIFIED_MODELS:
        return f"{config.model_type} is not one of the verified {', '.join(VERIFIED_MODELS)}"
    if config._attn_implementation != "sdpa":
        # The same boolean mask raises no error under eager attention and gives wrong numbers.
        return f"its attention is {config._attn_implementation}, not sdpa"
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "it has sliding-window layers"
    if rope_type not in _LENGTH_FREE_ROPE:
        return f"its rotary embedding ({rope_type}) may depend on the length of the row"
    if getattr(config, "attention_dropout", 0) or any(isinstance(m, Dropout) and m.p for m in model.modules()):
        return "it trains with dropout"
    return None


def completion_logits(model: PreTrainedModel, groups: Sequence[PackedGroup], *, packed: bool) -> Tensor:
    """Logits [N, V] that predict every scored token, by shared-prefix rows or by ordinary ones.

    Raises:
        ModelError: ``packed`` and the model cannot (:func:`packing_obstacle`).
    """
    return segment_logits(model, groups) if packed else plain_logits(model, groups)


def segment_logits(model: PreTrainedModel, groups: Sequence[PackedGroup]) -> Tensor:
    """Logits [N, V] that predict every scored token, with one row per group.

    The last prefix token predicts the first token of every segment. The vocabulary is projected at the N predicting
    positions only. Exact: the log-probabilities and gradients of :func:`plain_logits`.

    Raises:
        ModelError: the model cannot run packed rows (:func:`packing_obstacle`).
    """
    if reason := packing_obstacle(model):
        raise ModelError(
            "this model cannot share prefixes between replies", got=reason, fix="turn packing off for this run"
        )
    rows = lay_out(groups, model.device)
    mask = packed_mask(rows.owner)
    if _checkpoints_activations(model):
        # Backward runs the layers again, outside this call, and must meet the same attention: the dense mask.
        return _logits(model, rows, mask)
    with attending(model), last_mlp_only_at(model, rows):
        return _logits(model, rows, mask, layouts=tuple(row_layout(owner_L) for owner_L in rows.owner))


def plain_logits(model: PreTrainedModel, groups: Sequence[PackedGroup]) -> Tensor:
    """Logits [N, V] that predict every scored token, with one ordinary row per segment, on any causal LM."""
    singles = [PackedGroup(group.prefix, (segment,)) for group in groups for segment in group.segments]
    rows = lay_out(singles, model.device)
    return _logits(model, rows, (rows.owner >= 0).long())


def lay_out(groups: Sequence[PackedGroup], device: torch.device) -> Rows:
    """One row per group: the prefix, then its segments one after another."""
    if not groups:
        raise ValueError("there is nothing to lay out")
    ids, positions, owner, sources = [], [], [], []
    for group in groups:
        start, row_ids = len(group.prefix), list(group.prefix)
        row_positions, row_owner = list(range(start)), [0] * start
        source: list[int] = []
        for number, segment in enumerate(group.segments, 1):
            first = len(row_ids)
            source += [first + t - 1 if t else start - 1 for t in range(segment.scored_from, len(segment.ids))]
            row_ids += segment.ids
            row_positions += range(start, start + len(segment.ids))
            row_owner += [number] * len(segment.ids)
        ids.append(torch.tensor(row_ids))
        positions.append(torch.tensor(row_positions))
        owner.append(torch.tensor(row_owner))
        sources.append(torch.tensor(source, dtype=torch.long))
    width = max(map(len, ids))
    return Rows(
        ids=pad_sequence(ids, batch_first=True).to(device),
        positions=pad_sequence(positions, batch_first=True).to(device),
        owner=pad_sequence(owner, batch_first=True, padding_value=-1).to(device),
        predictors=torch.cat([row * width + source for row, source in enumerate(sources)]).to(device),
    )


def packed_mask(owner_BL: Tensor) -> Tensor:
    """Who sees whom, bool [B, 1, L, L] (query, key): a token sees the prefix and its own segment up to itself."""
    query, key = owner_BL[:, :, None], owner_BL[:, None, :]
    related = ((query == key) | (key == 0)) & (query >= 0)
    causal = torch.ones(owner_BL.shape[1], owner_BL.shape[1], dtype=torch.bool, device=owner_BL.device).tril()
    # Padding sees itself: softmax over nothing is not a number in some kernels.
    itself = torch.eye(owner_BL.shape[1], dtype=torch.bool, device=owner_BL.device)
    return ((related & causal) | itself)[:, None]


def _logits(model: PreTrainedModel, rows: Rows, mask: Tensor, **options: Any) -> Tensor:
    with only_at(model, rows.predictors):
        output = model(input_ids=rows.ids, attention_mask=mask, position_ids=rows.positions, use_cache=False, **options)
    logits: Tensor = output.logits
    return logits


def _checkpoints_activations(model: PreTrainedModel) -> bool:
    # Renamed in transformers 5; asking for the old name there prints a warning.
    name = "is_activation_checkpointing"
    return bool(getattr(model, name if hasattr(type(model), name) else "is_gradient_checkpointing", False))


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


@contextmanager
def last_mlp_only_at(model: PreTrainedModel, rows: Rows) -> Iterator[None]:
    """Let the last layer's feed-forward block compute the predicting positions only; it returns 0 at all others.

    After the last attention no token reads another, so a prefix token that predicts nothing has done its work.
    """
    places = rows.predictors.unique()
    mlp = cast(Any, model).get_decoder().layers[-1].mlp

    def scatter(_: Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        everywhere = output.new_zeros(rows.ids.numel(), output.shape[-1]).index_copy(0, places, output)
        return everywhere.view(*rows.ids.shape, -1)

    hooks = (
        mlp.register_forward_pre_hook(lambda _, inputs: inputs[0].flatten(0, 1)[places]),
        mlp.register_forward_hook(scatter),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
