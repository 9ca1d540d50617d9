"""The decoding engine for any causal language model, by its own forward pass: right for all of them, and slower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from rapo.models.decoding import Prompt


class GenericDecoding:
    """Encodes all but the last token of each distinct prompt once, and spreads the result over its rows."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def start(self, prompts: Sequence[Prompt], room: int) -> Tensor:
        """See :class:`rapo.models.decoding.Engine`."""
        device = self._model.device
        distinct = list(dict.fromkeys(prompt.ids for prompt in prompts))
        place = {ids: i for i, ids in enumerate(distinct)}
        row_R = torch.tensor([place[prompt.ids] for prompt in prompts], device=device)
        past_C = torch.tensor([len(ids) - 1 for ids in distinct], device=device)
        width = max(map(len, distinct)) - 1
        offsets_CL = torch.arange(width, device=device) - (width - past_C)[:, None]
        mask_CL = (offsets_CL >= 0).long()
        self._cache = DynamicCache(config=self._model.config)
        if width:
            padded = [(width + 1 - len(ids)) * ids[:1] + ids[:-1] for ids in distinct]
            cast(Any, self._model)(
                input_ids=torch.tensor(padded, device=device),
                attention_mask=mask_CL,
                position_ids=offsets_CL.clamp_min(0),
                past_key_values=self._cache,
                logits_to_keep=1,
            )
            _spread(self._cache, row_R, room)
        self._positions = past_C[row_R]
        self._mask = torch.nn.functional.pad(mask_CL[row_R], (0, room), value=1)
        self._used = width
        return self.step(torch.tensor([prompt.ids[-1] for prompt in prompts], device=device))

    def step(self, ids_R: Tensor) -> Tensor:
        """See :class:`rapo.models.decoding.Engine`."""
        self._used += 1
        logits_R1V: Tensor = cast(Any, self._model)(
            input_ids=ids_R[:, None],
            attention_mask=self._mask[:, : self._used],
            position_ids=self._positions[:, None],
            past_key_values=self._cache,
        ).logits
        self._positions = self._positions + 1
        return logits_R1V[:, -1]

    def select(self, keep_R: Tensor) -> None:
        """See :class:`rapo.models.decoding.Engine`."""
        self._positions, self._mask = self._positions[keep_R], self._mask[keep_R]
        self._cache.batch_select_indices(keep_R)

    def close(self) -> None:
        """See :class:`rapo.models.decoding.Engine`."""


class _InPlaceLayer(DynamicLayer):
    """A filled layer with room for ``room`` more tokens; ``keys`` and ``values`` are views of what is in use.

    So that a decoding step copies one token and not the whole past.
    """

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


def _spread(cache: DynamicCache, row_R: Tensor, room: int) -> None:
    """Give each of R rows its own copy of its context's past; layers other than full attention keep growing by copy."""
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
