"""Muon in the weights' own precision.

``torch.optim.Muon`` orthogonalises in bfloat16, which a CPU without bfloat16 instructions emulates some fifty times
slower than float32; matrices of one shape are also orthogonalised together here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients of Jordan et al. 2024, https://kellerjordan.github.io/posts/muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """Momentum whose update is the nearest semi-orthogonal matrix (Jordan et al. 2024), for weight matrices only.

    Args:
        params: two-dimensional weights.
        lr: learning rate; the update of an [m, n] matrix is scaled by sqrt(max(1, m / n)).
        momentum: Nesterov momentum.
        steps: Newton-Schulz iterations.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95, steps: int = 5) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for (rows, columns), weights in by_shape.items():
                update = orthogonal(
                    torch.stack([self._momentum(w, group["momentum"]) for w in weights]), group["steps"]
                )
                scale = -group["lr"] * max(1.0, rows / columns) ** 0.5
                torch._foreach_add_(weights, list(update.unbind()), alpha=scale)

    def _momentum(self, weight: Tensor, momentum: float) -> Tensor:
        gradient: Tensor = weight.grad  # type: ignore[assignment]
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """For a stack [S, m, n], the nearest semi-orthogonal matrices, singular values within about 0.7 to 1.2."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result
