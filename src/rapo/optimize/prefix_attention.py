"""Attention over packed groups that computes what each token may see, and nothing else.

A dense mask over a group of P + S C tokens costs (P + S C)^2 scores. The prefix attends to itself causally, and every
segment to the prefix and to itself: P^2 / 2 + S C (P + C).

On the CPU this area is covered by rectangles (some tokens see all of some earlier ones) and triangles (tokens see one
another causally). Each is a pass of torch's own flash attention. The passes of a token are merged by their
log-sum-exps, and the backward pass of each is exact when it is given the merged output and log-sum-exp: flash attention
needs nothing else of the forward pass (arXiv 2205.14135, appendix B). So no prefix is copied per segment and no mask is
read. On a GPU flex_attention does the same from a block mask.

Shape suffixes: T tokens of all groups, M of them that matter in the last layer, H heads, K key-value heads, D width of
a head; n tokens of a pass, R rows of a triangle pass, C its longest row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

# A causal pass computes its whole square; so long prefixes are cut into triangles of this size and rectangles.
_BLOCK = 128
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True)
class Span:
    """Where a group stands in the flat list.

    Attributes:
        start: its first token.
        prefix: tokens of its prefix.
        segments: tokens of each segment.
        leads: tokens at the beginning of each segment that predict nothing (a failed reply and its critique).
    """

    start: int
    prefix: int
    segments: tuple[int, ...]
    leads: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """All its tokens."""
        return self.prefix + sum(self.segments)

    def pieces(self) -> Iterator[tuple[slice, slice]]:
        """Where the lead of each segment stands, and where the rest of it."""
        start = self.start + self.prefix
        for length, lead in zip_longest(self.segments, self.leads, fillvalue=0):
            yield slice(start, start + lead), slice(start + lead, start + length)
            start += length


class SharedPrefix:
    """An attention function for :func:`rapo.models.decoder.decode` over groups that stand one after another.

    Args:
        spans: the groups, without gaps.
        device: where the tokens are.
        last_layer: the number of the layer in which only ``matter`` is asked for.

    Attributes:
        matter: int64 [M], the tokens that the last layer is needed for: the end of each prefix, and all segments less
            their leads.
    """

    def __init__(self, spans: Sequence[Span], device: torch.device, last_layer: int) -> None:
        self.matter = torch.tensor([place for span in spans for place in _mattering(span)], device=device)
        self._last_layer = last_layer
        self._flex = _FlexMasks(spans, self.matter) if device.type == "cuda" else None
        self._passes: tuple[tuple[_Pass, ...], ...] = ()
        if self._flex is None:
            self._passes = tuple(_all_passes(spans, device)), tuple(_last_passes(spans, device))

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[T, H, D], [T, K, D], [T, K, D] to [T, H, D]; in the last layer [M, H, D] to [M, H, D]."""
        last = layer == self._last_layer
        if self._flex is not None:
            return self._flex.attend(query, key, value, last)
        return cast(Tensor, cast(Any, _OnCpu).apply(query, key, value, self._passes[last]))


@dataclass(frozen=True, slots=True)
class _Pass:
    """Queries and keys of one pass over the flat lists.

    Attributes:
        queries, keys: where they stand.
        rows: 0 for a rectangle; else the queries are so many rows, each a triangle over its own keys.
        places: int64 [R, C] for rows of unequal length: where in the queries each padded place reads.
        lengths: of these rows.
        first: no pass before it had these queries.
    """

    queries: slice
    keys: slice
    rows: int = 0
    places: Tensor | None = None
    lengths: tuple[int, ...] = ()
    first: bool = True

    def padded(self, states: Tensor) -> Tensor:
        """[n, heads, D] as flash attention takes it: [1, heads, n, D], or a triangle's [R, heads, C, D]."""
        rows: Tensor = states.unflatten(0, (self.rows or 1, -1)) if self.places is None else states[self.places]
        return rows.transpose(1, 2)

    def flat(self, padded: Tensor) -> Tensor:
        """The reverse; padding is dropped."""
        rows = padded.transpose(1, 2)
        if self.places is None:
            return rows.flatten(0, 1)
        parts = [row[:length] for row, length in zip(rows, self.lengths, strict=True)]
        return torch.cat(parts)

    def gradient(self, states: Tensor) -> Tensor:
        """As :meth:`padded`, with zeros in the padding, through which nothing may flow back."""
        padded = self.padded(states)
        for row, length in enumerate(self.lengths):
            padded[row, :, length:] = 0
        return padded


def _all_passes(spans: Sequence[Span], device: torch.device) -> Iterator[_Pass]:
    for span in spans:
        yield from _causal(span.start, span.prefix)
        if span.segments:
            first = span.start + span.prefix
            yield from _over_prefix(span, first, device)


def _last_passes(spans: Sequence[Span], device: torch.device) -> Iterator[_Pass]:
    """Those of the last layer, whose queries are the tokens that matter."""
    place = 0
    for span in spans:
        yield _Pass(slice(place, place + 1), slice(span.start, span.start + span.prefix))
        if any(span.leads):
            yield from _behind_leads(span, place + 1)
        elif span.segments:
            yield from _over_prefix(span, place + 1, device)
        place += len(_mattering(span))


def _mattering(span: Span) -> list[int]:
    """Where the tokens stand that the last layer is needed for."""
    rests = [place for _, rest in span.pieces() for place in range(rest.start, rest.stop)]
    return [span.start + span.prefix - 1, *rests]


def _causal(start: int, length: int) -> Iterator[_Pass]:
    """A triangle, cut into small ones and the rectangles before them where it is large."""
    size = _BLOCK if length >= 2 * _BLOCK else length
    whole = start + length - length % size
    yield _Pass(slice(start, whole), slice(start, whole), rows=length // size)
    if whole < start + length:
        yield _Pass(slice(whole, start + length), slice(whole, start + length), rows=1)
    for block in range(start + size, start + length, size):
        yield _Pass(slice(block, min(block + size, start + length)), slice(start, block), first=False)


def _over_prefix(span: Span, first_query: int, device: torch.device) -> Iterator[_Pass]:
    """The segments: each over itself, all over the prefix."""
    queries = slice(first_query, first_query + sum(span.segments))
    own = slice(span.start + span.prefix, span.start + span.length)
    even = len(set(span.segments)) == 1
    places, lengths = (None, ()) if even else (_places(span.segments).to(device), span.segments)
    yield _Pass(queries, own, len(span.segments), places, lengths)
    yield _Pass(queries, slice(span.start, span.start + span.prefix), first=False)


def _behind_leads(span: Span, first_query: int) -> Iterator[_Pass]:
    """The segments less their leads: each over itself and over its lead, all over the prefix."""
    place = first_query
    for lead, rest in span.pieces():
        queries = slice(place, place + rest.stop - rest.start)
        yield _Pass(queries, rest, rows=1)
        if lead.start < lead.stop:
            yield _Pass(queries, lead, first=False)
        place = queries.stop
    yield _Pass(slice(first_query, place), slice(span.start, span.start + span.prefix), first=False)


def _places(lengths: Sequence[int]) -> Tensor:
    """Where each place of the padded rows [R, C] reads in their concatenation; padding repeats a row's last token."""
    lengths_R = torch.tensor(lengths)
    firsts_R = lengths_R.cumsum(0) - lengths_R
    return firsts_R[:, None] + torch.minimum(torch.arange(max(lengths)), lengths_R[:, None] - 1)


class _OnCpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, passes: Sequence[_Pass]) -> Tensor:
        out, total = torch.empty_like(query), query.new_empty(query.shape[:2], dtype=_wide(query))
        for one in passes:
            triple = (one.padded(each) for each in (query[one.queries], key[one.keys], value[one.keys]))
            found = _flash(*triple, 0.0, one.rows > 0)
            seen, its_total = one.flat(found[0]), one.flat(found[1][..., None])[..., 0]
            if not one.first:
                before = total[one.queries]
                both = torch.logaddexp(before, its_total)
                seen = seen * _weight(its_total, both, seen) + out[one.queries] * _weight(before, both, seen)
                its_total = both
            out[one.queries], total[one.queries] = seen, its_total
        ctx.save_for_backward(query, key, value, out, total)
        ctx.passes = passes
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, total = ctx.saved_tensors
        by_query, by_key, by_value = (torch.zeros_like(each) for each in (query, key, value))
        for one in ctx.passes:
            found = _flash_backward(
                one.gradient(gradients[0][one.queries]),
                one.padded(query[one.queries]),
                one.padded(key[one.keys]),
                one.padded(value[one.keys]),
                one.padded(out[one.queries]),
                one.padded(total[one.queries][..., None])[..., 0].contiguous(),
                0.0,
                one.rows > 0,
            )
            by_query[one.queries] += one.flat(found[0])
            by_key[one.keys] += one.flat(found[1])
            by_value[one.keys] += one.flat(found[2])
        return by_query, by_key, by_value, None


def _wide(states: Tensor) -> torch.dtype:
    return torch.promote_types(states.dtype, torch.float32)


def _weight(part: Tensor, whole: Tensor, like: Tensor) -> Tensor:
    return (part - whole).exp()[..., None].to(like.dtype)


class _FlexMasks:
    """flex_attention over all groups at once, from a block mask for all tokens and one for those that matter."""

    def __init__(self, spans: Sequence[Span], matter: Tensor) -> None:
        owners, groups = [], []
        for number, span in enumerate(spans):
            lengths = torch.tensor([span.prefix, *span.segments])
            owners.append(torch.arange(len(lengths)).repeat_interleave(lengths))
            groups.append(torch.full((span.length,), number))
        self._owner, self._group = torch.cat(owners).to(matter.device), torch.cat(groups).to(matter.device)
        everyone = torch.arange(len(self._owner), device=matter.device)
        self._masks = [self._mask(places) for places in (everyone, matter)]

    def _mask(self, places: Tensor) -> BlockMask:
        owner, group = self._owner, self._group

        def sees(_: Tensor, __: Tensor, q: Tensor, k: Tensor) -> Tensor:
            mine = places[q]
            related = (owner[k] == 0) | (owner[k] == owner[mine])
            return related & (group[k] == group[mine]) & (k <= mine)

        return create_block_mask(sees, None, None, len(places), len(owner), device=str(places.device))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, last: bool) -> Tensor:
        """As :class:`SharedPrefix`."""
        found = _compiled()(
            *(each.transpose(0, 1)[None] for each in (query, key, value)),
            block_mask=self._masks[last],
            enable_gqa=query.shape[1] != key.shape[1],
        )
        seen: Tensor = found[0].transpose(0, 1)
        return seen


@cache
def _compiled() -> Any:
    # Dynamic shapes: otherwise every new length of a row compiles once more.
    return torch.compile(flex_attention, dynamic=True)
