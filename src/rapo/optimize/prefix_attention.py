"""Attention over packed rows that computes what the mask lets through, and nothing else.

A dense mask over a row of P + G C tokens costs (P + G C)^2 scores. The context attends to itself causally, and every
segment to the context and to itself: P^2 / 2 + G C (P + C).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "rapo_shared_prefix"


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Where one row's tokens are: a prefix of P tokens, then S segments of at most C.

    Attributes:
        prefix: P.
        index: int64 [S, C], the row position of each segment token; padding repeats position 0.
        valid: bool [S, C], False in padding.
    """

    prefix: int
    index: Tensor
    valid: Tensor


def row_layout(owner_L: Tensor) -> RowLayout:
    """The layout of a row from its owners: 0 in the prefix, s >= 1 in segment s, -1 in padding."""
    prefix, segments = int((owner_L == 0).sum()), int(owner_L.max())
    places = [(owner_L == s).nonzero().squeeze(-1) for s in range(1, segments + 1)]
    width = max((len(place) for place in places), default=0)
    index = torch.zeros(segments, width, dtype=torch.long, device=owner_L.device)
    valid = torch.zeros(segments, width, dtype=torch.bool, device=owner_L.device)
    for s, place in enumerate(places):
        index[s, : len(place)], valid[s, : len(place)] = place, True
    return RowLayout(prefix, index, valid)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layouts: tuple[RowLayout, ...] = (),
    **_: Any,
) -> tuple[Tensor, None]:
    """An attention function in the form transformers calls it: [B, heads, L, width] in, [B, L, heads, width] out."""
    share = query.shape[1] // key.shape[1]
    if share > 1:
        key, value = key.repeat_interleave(share, dim=1), value.repeat_interleave(share, dim=1)
    rows = [_row(query[b], key[b], value[b], scaling, layout) for b, layout in enumerate(layouts)]
    return torch.stack(rows).transpose(1, 2).contiguous(), None


def _row(q_HLD: Tensor, k_HLD: Tensor, v_HLD: Tensor, scaling: float | None, layout: RowLayout) -> Tensor:
    prefix = layout.prefix
    q, k, v = (each[None, :, :prefix] for each in (q_HLD, k_HLD, v_HLD))
    parts = [scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)[0]]
    if layout.index.numel():
        size, width = layout.index.shape
        own = [each[:, layout.index].transpose(0, 1) for each in (q_HLD, k_HLD, v_HLD)]
        keys = torch.cat([k.expand(size, -1, -1, -1), own[1]], dim=2)
        values = torch.cat([v.expand(size, -1, -1, -1), own[2]], dim=2)
        # Padding stands behind a segment's tokens, where none of them looks.
        mask = torch.ones(width, prefix + width, dtype=torch.bool, device=q_HLD.device).tril(prefix)
        found = scaled_dot_product_attention(own[0], keys, values, attn_mask=mask, scale=scaling)
        parts.append(found.transpose(0, 1)[:, layout.valid])
    rest = q_HLD.shape[1] - sum(part.shape[1] for part in parts)
    return torch.cat([*parts, q_HLD.new_zeros(q_HLD.shape[0], rest, q_HLD.shape[2])], dim=1)


@contextmanager
def attending(model: PreTrainedModel) -> Iterator[None]:
    """Let a model whose attention is sdpa attend by ``attend`` meanwhile."""
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
