"""Projections by oneDNN equal those of the layers, and are used where they pay only."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Linear

from rapo.models import products
from rapo.models.policy import Policy
from rapo.models.products import PackedProducts, apply, products_for


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 8, 64])
def test_packed_weights_give_the_layers_output(rows: int, bias: bool) -> None:
    torch.manual_seed(rows)
    layer, states, project = Linear(96, 160, bias), torch.randn(rows, 96), PackedProducts()
    with torch.inference_mode():
        for some in (states, states[:1]):  # laid out for ``rows`` rows, used for one
            assert torch.allclose(project(layer, some), layer(some), atol=1e-5)


def test_what_is_no_plain_layer_is_called_itself() -> None:
    class Doubled(Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(states)

    layer, states = Doubled(4, 4), torch.ones(2, 4)
    with torch.inference_mode():
        assert torch.equal(PackedProducts()(layer, states), layer(states))


def test_small_models_short_replies_and_other_precisions_stay_plain(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert products_for(policy.model, 64) is apply
    monkeypatch.setattr(products, "LEAST_BYTES", 4 * policy.model.num_parameters())
    assert isinstance(products_for(policy.model, products.LEAST_STEPS), PackedProducts)
    assert products_for(policy.model, products.LEAST_STEPS - 1) is apply
    with torch.autocast("cpu", torch.bfloat16):
        assert products_for(policy.model, 64) is apply
    monkeypatch.setattr(products, "LEAST_BYTES", 4 * policy.model.num_parameters() + 1)
    assert products_for(policy.model, 64) is apply
