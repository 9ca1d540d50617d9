"""A key-value cache that grows in place, so that a decoding step copies one token and not the whole past."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class _InPlaceLayer(DynamicLayer):
    """A filled layer with room for ``room`` more tokens; ``keys`` and ``values`` are views of what is in use."""

    def __init__(self, keys: Tensor, values: Tensor, row_R: Tensor, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self._used = keys.shape[-2]
        self._buffers = [_with_room(states, row_R, room) for states in (keys, values)]
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, self._used = self._used, self._used + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., start : self._used, :] = states
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        self._buffers = [buffer[indices] for buffer in self._buffers]
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[..., : self._used, :] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


def spread(cache: DynamicCache, row_R: Tensor, room: int) -> None:
    """Give each of R rows its own copy of its context's past, with room for ``room`` more tokens.

    Args:
        cache: filled by a forward pass over C contexts; changed in place.
        row_R: the context of each row.
        room: tokens that will be appended at most. Layers other than full attention keep growing by copy.
    """
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None:
            cache.layers[i] = _InPlaceLayer(layer.keys, layer.values, row_R, room)
        else:
            cast(Any, layer).batch_select_indices(row_R)


def _with_room(states: Tensor, row_R: Tensor, room: int) -> Tensor:
    _, heads, used, width = states.shape
    buffer = torch.empty(len(row_R), heads, used + room, width, dtype=states.dtype, device=states.device)
    buffer[..., :used, :] = states[row_R]
    return buffer
