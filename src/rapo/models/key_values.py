"""Keys and values of rows that are being written, and who reads which.

Shape suffixes: R rows, C contexts, G rows of the fullest context, L context tokens, S tokens of the longest rest of a
prompt, W columns of the rows' own tokens (S and those written); K key-value heads, Q queries per key-value head, D
width of a head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rapo.models.memory import Kept, Layers, common


def _buffers(model: PreTrainedModel, rows: int, width: int) -> Layers:
    """Room for ``width`` tokens in each of ``rows`` rows: keys and values [rows, K, width, D] of every layer."""
    config, kind = model.config, model.device.type
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype
    shape = (rows, config.num_key_value_heads, width, head)
    # Zeros, not garbage: what a mask hides is multiplied by 0, and 0 times NaN is not 0.
    return [
        (torch.zeros(shape, dtype=dtype, device=model.device), torch.zeros(shape, dtype=dtype, device=model.device))
        for _ in range(config.num_hidden_layers)
    ]


class Contexts:
    """What rows share: C contexts, padded on the right.

    Args:
        model: whose keys and values they are.
        contexts: their tokens, none may be given twice.
        kept: what is known of each already.

    Attributes:
        known: how many tokens of each context are encoded already.
        lengths: tokens of each.
    """

    def __init__(
        self, model: PreTrainedModel, contexts: Sequence[tuple[int, ...]], kept: Sequence[Kept | None]
    ) -> None:
        self.lengths = list(map(len, contexts))
        self.known = [common(each.ids, ids) if each else 0 for each, ids in zip(kept, contexts, strict=True)]
        self._layers = _buffers(model, len(contexts), max(self.lengths))
        for c, (each, count) in enumerate(zip(kept, self.known, strict=True)):
            for buffers, known in zip(self._layers, each.layers if each else (), strict=False):
                for buffer, states in zip(buffers, known, strict=True):
                    buffer[c, :, :count] = states[:, :count]
        self._mask: Tensor | None = None
        if len(set(self.lengths)) > 1:
            lengths_C = torch.tensor(self.lengths, device=model.device)
            hidden_CL = torch.arange(max(self.lengths), device=model.device) >= lengths_C[:, None]
            self._mask = torch.zeros(hidden_CL.shape, device=model.device).masked_fill(hidden_CL, -torch.inf)

    def add(self, layer: int, c: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put the tokens [n, K, D] that were not known into context c; its keys and values [K, length, D]."""
        for buffer, states in zip(self._layers[layer], (key, value), strict=True):
            buffer[c, :, self.known[c] : self.lengths[c]] = states.transpose(0, 1)
        return self.of(layer, c)

    def of(self, layer: int, c: int) -> tuple[Tensor, Tensor]:
        """Keys and values [K, length, D] of context c."""
        keys, values = (buffer[c, :, : self.lengths[c]] for buffer in self._layers[layer])
        return keys, values

    def all(self, layer: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values [C, K, L, D], and what to add to scores [C, 1, 1, L]; None where all are as long."""
        keys, values = self._layers[layer]
        return keys, values, None if self._mask is None else self._mask[:, None, None].to(keys.dtype)

    def select(self, places: Sequence[int]) -> None:
        """Keep the contexts ``places`` only."""
        if len(places) == len(self.lengths):
            return
        self.lengths = [self.lengths[c] for c in places]
        longest = max(self.lengths)
        # Layer by layer, so that what goes is free before the next one is copied.
        for layer, (keys, values) in enumerate(self._layers):
            self._layers[layer] = keys[places, :, :longest], values[places, :, :longest]
        self._mask = None if self._mask is None else self._mask[places, :longest]


class Own:
    """What each row has alone: the rest of its prompt, at the right end of S columns, and behind it what it writes.

    Args:
        model: whose keys and values they are.
        rests: tokens of the rest of each row's prompt, at least one each.
        room: most tokens that a row will write.
    """

    def __init__(self, model: PreTrainedModel, rests: Sequence[int], room: int) -> None:
        self.rests, self._longest = list(rests), max(rests)
        # The last token that is written is never read.
        self._layers = _buffers(model, len(rests), self._longest + room - 1)
        self._used = 0
        self._mask: Tensor | None = None
        if min(rests) < self._longest:
            before_RW = torch.arange(self._longest + room - 1) < self._longest - torch.tensor(rests)[:, None]
            self._mask = torch.zeros(before_RW.shape).masked_fill(before_RW, -torch.inf).to(model.device)

    def fill(self, layer: int, r: int, key: Tensor, value: Tensor) -> None:
        """Put the rest of row r's prompt [rest, K, D] in its place."""
        start = self._longest - self.rests[r]
        for buffer, states in zip(self._layers[layer], (key, value), strict=True):
            buffer[r, :, start : self._longest] = states.transpose(0, 1)
        self._used = self._longest

    def grow(self) -> None:
        """Each row gets one token more; :meth:`append` puts it into every layer."""
        self._used += 1

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Put one token of each row [R, K, D] in; keys and values [R, K, W, D], and what to add to scores or None."""
        used = self._used
        found = []
        for buffer, states in zip(self._layers[layer], (key, value), strict=True):
            buffer[:, :, used - 1] = states
            found.append(buffer[:, :, :used])
        mask = None if self._mask is None else self._mask[:, None, None, :used].to(key.dtype)
        return found[0], found[1], mask

    def of(self, layer: int, r: int) -> tuple[Tensor, Tensor]:
        """Keys and values [K, own tokens, D] of row r."""
        keys, values = (buffer[r, :, self._longest - self.rests[r] : self._used] for buffer in self._layers[layer])
        return keys, values

    def select(self, keep_R: Tensor) -> None:
        """Keep the rows ``keep_R`` only."""
        self.rests = [self.rests[r] for r in keep_R.tolist()]
        for layer, (keys, values) in enumerate(self._layers):
            self._layers[layer] = keys[keep_R], values[keep_R]
        self._mask = None if self._mask is None else self._mask[keep_R]


class Seats:
    """Which context each row reads; rows of one context sit side by side, so that its keys are read once for all.

    Args:
        contexts: of each row.
        device: of the tensors that will be moved.

    Attributes:
        contexts: as given, renumbered when contexts go.
    """

    def __init__(self, contexts: Sequence[int], device: torch.device) -> None:
        self._device = device
        self._assign(list(contexts))

    def gather(self, states_RKQX: Tensor) -> Tensor:
        """[R, K, Q, X] to [C, K, G Q, X]; empty seats hold zeros."""
        if self._seats_R is not None:
            empty = states_RKQX.new_zeros(self._count * self._most, *states_RKQX.shape[1:])
            states_RKQX = empty.index_copy_(0, self._seats_R, states_RKQX)
        seated: Tensor = states_RKQX.unflatten(0, (self._count, self._most))
        return seated.transpose(1, 2).flatten(2, 3)

    def scatter(self, states: Tensor) -> Tensor:
        """The reverse: [C, K, G Q, X] to [R, K, Q, X]."""
        rows: Tensor = states.unflatten(2, (self._most, -1)).transpose(1, 2).flatten(0, 1)
        return rows if self._seats_R is None else rows[self._seats_R]

    def select(self, keep_R: Tensor) -> list[int]:
        """Keep these rows only; the contexts that are still read."""
        left = [self.contexts[r] for r in keep_R.tolist()]
        places = sorted(set(left))
        number = {c: i for i, c in enumerate(places)}
        self._assign([number[c] for c in left])
        return places

    def _assign(self, contexts: list[int]) -> None:
        self.contexts, self._count = contexts, max(contexts) + 1
        taken: Counter[int] = Counter()
        seats = []
        self._most = max(Counter(contexts).values())
        for c in contexts:
            seats.append(c * self._most + taken[c])
            taken[c] += 1
        full = seats == list(range(self._count * self._most))
        self._seats_R = None if full else torch.tensor(seats, device=self._device)
