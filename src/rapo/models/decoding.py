"""Writing token by token with keys and values kept: what several rows share is encoded once and kept once.

A row is a prompt being continued. It reads a *context*, the beginning that it may share with other rows, and what is
its *own*: the rest of its prompt, and what it has written.

Shape suffixes: R rows, C contexts, G rows of the fullest context, L context tokens, W own tokens; H heads, K key-value
heads, Q queries per key-value head, D width of a head; T tokens of a flat list, n new ones of one text; V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from rapo.models.decoder import decode
from rapo.models.key_values import Contexts, Own, Seats
from rapo.models.memory import Memory
from rapo.models.products import Project, apply


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a row continues.

    Attributes:
        ids: its tokens.
        shared: how many of them, but not all, other rows may share.
        talk: the name of the talk that it belongs to.
        kept: whether the talk goes on from what this row writes.
    """

    ids: tuple[int, ...]
    shared: int
    talk: str | None = None
    kept: bool = False


class Engine(Protocol):
    """Encodes prompts, then writes; all logits [R, V] are of what comes next in each row."""

    def start(self, prompts: Sequence[Prompt], room: int) -> Tensor:
        """Encode the prompts of R rows, each of which will write ``room`` tokens at most."""
        ...

    def step(self, ids_R: Tensor) -> Tensor:
        """Each row has written one token."""
        ...

    def select(self, keep_R: Tensor) -> None:
        """Go on with the rows ``keep_R`` (int64, ascending) only."""
        ...

    def close(self) -> None:
        """Nothing more will be written."""
        ...


class Decoding:
    """The engine for the models that :mod:`rapo.models.decoder` stands in for.

    Args:
        model: whose weights are used.
        memory: encodings of talks to go on from, and where those of this engine's rows go.
        project: how projections are applied while writing.
    """

    def __init__(self, model: PreTrainedModel, memory: Memory | None = None, project: Project = apply) -> None:
        self._model, self._memory, self._project = model, memory, project
        self._head = cast(Any, model).get_output_embeddings()

    def start(self, prompts: Sequence[Prompt], room: int) -> Tensor:
        """See :class:`Engine`."""
        self._rows, self._written = list(prompts), list[Tensor]()
        shared = [prompt.ids[: prompt.shared] for prompt in prompts]
        place = {ids: c for c, ids in enumerate(dict.fromkeys(shared))}
        talks = {ids: prompt.talk for ids, prompt in zip(shared, prompts, strict=True)}
        kept = [self._memory.find(talk) if self._memory and (talk := talks[ids]) else None for ids in place]
        self._contexts = Contexts(self._model, list(place), kept)
        self._encode(list(place))
        rests = [prompt.ids[prompt.shared :] for prompt in prompts]
        self._own = Own(self._model, list(map(len, rests)), room)
        self._seats = Seats([place[ids] for ids in shared], self._model.device)
        if max(map(len, rests)) == 1:
            self._positions = self._tensor([prompt.shared for prompt in prompts])
            return self._write(self._tensor([rest[0] for rest in rests]))
        self._positions = self._tensor([len(prompt.ids) for prompt in prompts])
        return self._read(rests)

    def step(self, ids_R: Tensor) -> Tensor:
        """See :class:`Engine`."""
        self._written.append(ids_R)
        return self._write(ids_R)

    def select(self, keep_R: Tensor) -> None:
        """See :class:`Engine`."""
        kept = keep_R.tolist()
        self._remember(sorted(set(range(len(self._rows))).difference(kept)))
        self._rows = [self._rows[r] for r in kept]
        self._own.select(keep_R)
        self._contexts.select(self._seats.select(keep_R))
        self._positions = self._positions[keep_R]
        self._written = [ids_R[keep_R] for ids_R in self._written]

    def close(self) -> None:
        """See :class:`Engine`."""
        self._remember(range(len(self._rows)))

    def _encode(self, contexts: Sequence[tuple[int, ...]]) -> None:
        """Put what is new of the contexts into their keys and values, all in one flat list."""
        known = self._contexts.known
        new = [ids[count:] for ids, count in zip(contexts, known, strict=True)]
        if not any(new):
            return

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            seen, start = [query[:0]], 0
            for c, ids in enumerate(new):
                mine = slice(start, start := start + len(ids))
                keys, values = self._contexts.add(layer, c, key[mine], value[mine])
                if len(query) and ids:
                    seen.append(_causal(query[mine], keys, values))
            return torch.cat(seen)

        positions = [t for ids, count in zip(new, known, strict=True) for t in range(count, count + len(ids))]
        nobody = torch.zeros(0, dtype=torch.long, device=self._model.device)
        decode(self._model, self._tensor([i for ids in new for i in ids]), self._tensor(positions), attend, nobody)

    def _read(self, rests: Sequence[tuple[int, ...]]) -> Tensor:
        """The rests of the prompts in one flat list; the logits behind each."""
        last = self._model.config.num_hidden_layers - 1

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            seen, start = [], 0
            for r, rest in enumerate(rests):
                mine = slice(start, start := start + len(rest))
                self._own.fill(layer, r, key[mine], value[mine])
                both = zip(self._contexts.of(layer, self._seats.contexts[r]), self._own.of(layer, r), strict=True)
                keys, values = (torch.cat(pair, dim=1) for pair in both)
                seen.append(_causal(query[r : r + 1] if layer == last else query[mine], keys, values))
            return torch.cat(seen)

        ends = self._positions.tolist()
        positions = [t for end, rest in zip(ends, rests, strict=True) for t in range(end - len(rest), end)]
        places = torch.tensor([len(rest) for rest in rests]).cumsum(0).to(self._model.device) - 1
        ids = self._tensor([i for rest in rests for i in rest])
        return apply(self._head, decode(self._model, ids, self._tensor(positions), attend, places))

    def _write(self, ids_R: Tensor) -> Tensor:
        """One token of each row."""
        self._own.grow()
        states_RE = decode(self._model, ids_R, self._positions, self._attend, project=self._project)
        self._positions = self._positions + 1
        return self._project(self._head, states_RE)

    def _attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        own_keys, own_values, own_mask = self._own.append(layer, key, value)
        keys, values, mask = self._contexts.all(layer)
        query_RKQD = query.unflatten(1, (key.shape[1], -1)) * query.shape[-1] ** -0.5
        across = self._seats.gather(query_RKQD) @ keys.mT
        within = query_RKQD @ own_keys.mT
        scores = [
            self._seats.scatter(across if mask is None else across + mask),
            within if own_mask is None else within + own_mask,
        ]
        shares = torch.cat(scores, dim=-1).softmax(-1, dtype=torch.promote_types(value.dtype, torch.float32))
        over_context, over_own = shares.to(value.dtype).split([keys.shape[-2], own_keys.shape[-2]], dim=-1)
        seen: Tensor = self._seats.scatter(self._seats.gather(over_context) @ values) + over_own @ own_values
        return seen.flatten(1, 2)

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._model.device)

    def _remember(self, rows: Iterable[int]) -> None:
        """Keep the encoding of these rows, all but the token that each wrote last."""
        if self._memory is None or not any(prompt.kept for prompt in self._rows):
            return
        written_RT = torch.stack(self._written, dim=1).tolist() if self._written else [[]] * len(self._rows)
        for r in rows:
            prompt = self._rows[r]
            if prompt.talk is not None and prompt.kept:
                parts = (
                    zip(self._contexts.of(layer, self._seats.contexts[r]), self._own.of(layer, r), strict=True)
                    for layer in range(self._model.config.num_hidden_layers)
                )
                layers = [(torch.cat(keys, dim=1), torch.cat(values, dim=1)) for keys, values in parts]
                self._memory.keep(prompt.talk, (*prompt.ids, *written_RT[r]), layers)


def _causal(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The last n tokens [n, H, D] of a text over all of it [K, L, D]; each sees itself and what is before it."""
    count, total = query.shape[0], keys.shape[1]
    partly = torch.ones(count, total, dtype=torch.bool, device=query.device).tril(total - count)
    seen = scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        keys[None],
        values[None],
        attn_mask=partly if 1 < count < total else None,
        is_causal=1 < count == total,
        enable_gqa=query.shape[1] != keys.shape[0],
    )
    return seen[0].transpose(0, 1)
