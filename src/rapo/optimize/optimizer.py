"""The optimizer of a policy: AdamW, or Muon for the matrices of a model made from scratch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from rapo.models.policy import Policy
from rapo.optimize.muon import Muon


class Optimizer:
    """One or two torch optimizers stepped together.

    Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) orthogonalises the update of each weight
    matrix; embeddings, output layer and vectors stay with AdamW. A small model learns to copy facts from its context in
    a minute of CPU time with it and does not with AdamW alone.

    Args:
        policy: whose weights are trained.
        lr: peak learning rate of AdamW.
        muon_lr: peak learning rate of Muon; None trains everything with AdamW.

    Attributes:
        taken: steps taken since it was made.
    """

    def __init__(self, policy: Policy, *, lr: float, muon_lr: float | None = None) -> None:
        matrices = _matrices(policy.model) if muon_lr is not None else []
        rest = [p for p in policy.model.parameters() if p.requires_grad and all(p is not m for m in matrices)]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        ]
        if muon_lr is not None:
            self.parts.append(Muon(matrices, lr=muon_lr))
        self.taken = 0
        self._peaks = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def state(self) -> dict[str, dict[str, Any]]:
        """The state of each torch optimizer by the name of its class."""
        return {type(part).__name__: part.state_dict() for part in self.parts}

    def load(self, state: Mapping[str, dict[str, Any]]) -> None:
        """Go on from what ``state`` returned."""
        for part in self.parts:
            part.load_state_dict(state[type(part).__name__])

    def step(self, *, scale: float = 1.0) -> None:
        """Update the weights at ``scale`` times the peak learning rate and clear the gradients."""
        for part, peaks in zip(self.parts, self._peaks, strict=True):
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["lr"] = peak * scale
            part.step()
            part.zero_grad(set_to_none=True)
        self.taken += 1


def _matrices(model: nn.Module) -> list[nn.Parameter]:
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    head = {id(p) for name, p in model.named_parameters() if "lm_head" in name}
    return [p for p in _trained(model.parameters()) if p.ndim == 2 and id(p) not in embeddings | head]


def _trained(parameters: Iterable[nn.Parameter]) -> Iterable[nn.Parameter]:
    return (parameter for parameter in parameters if parameter.requires_grad)
