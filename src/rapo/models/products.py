"""How a projection is applied: on a CPU, products with few rows are most of what writing takes.

A product with 8 rows has to read every weight and does little with it. MKL, which torch uses for float32, lays the
weights out anew for each product; oneDNN can be given weights that are laid out already, and then takes half the time
where they do not fit the processor's second-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Linear, Module
from transformers import PreTrainedModel

Project = Callable[[Module, Tensor], Tensor]  # a module and states [T, in] to [T, out]

LEAST_BYTES = 8 << 20  # of a model's weights: smaller ones stay in the cache, and oneDNN takes longer to be called
LEAST_STEPS = 16  # that are to be written: laying the weights out takes as long as about 12 save


def apply(module: Module, states: Tensor) -> Tensor:
    """As the module itself does."""
    return cast(Tensor, module(states))


class PackedProducts:
    """Applies plain linear layers with weights laid out for few rows; others, such as adapters, as they are.

    The weights are copied when a layer is first used: one object serves as long as they stay as they are. Without
    gradients, and equal to the layer itself up to rounding.
    """

    def __init__(self) -> None:
        self._packed: dict[Module, Tensor] = {}

    def __call__(self, module: Module, states: Tensor) -> Tensor:
        """The layer's output [T, out] for ``states`` [T, in]."""
        if type(module) is not Linear:
            return apply(module, states)
        if module not in self._packed:
            self._packed[module] = _onednn()._reorder_linear_weight(module.weight.detach(), len(states))
        result: Tensor = _onednn()._linear_pointwise(states, self._packed[module], module.bias, "none", [], "")
        return result


def products_for(model: PreTrainedModel, steps: int) -> Project:
    """The fastest way to write ``steps`` tokens per row with a model as it is now."""
    weights = next(model.parameters())
    plain_cpu = weights.device.type == "cpu" and weights.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(_onednn(), "_reorder_linear_weight")
    large = 4 * model.num_parameters() >= LEAST_BYTES
    return PackedProducts() if plain_cpu and has_onednn and large and steps >= LEAST_STEPS else apply


def _onednn() -> Any:
    return torch.ops.mkldnn
