"""Muon: nearly orthogonal updates, the same as torch's."""

from __future__ import annotations

import pytest
import torch

from rapo.optimize.muon import Muon, orthogonal

SHAPES = [(16, 16), (8, 32), (32, 8), (64, 48)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_singular_values_are_near_one(shape: tuple[int, int], size: float) -> None:
    # Random singular vectors, singular values from 0.1 to 1.
    rows, columns = shape
    least = min(shape)
    left, right = (torch.linalg.qr(torch.randn(3, n, least)).Q for n in shape)
    values = torch.linspace(0.1, 1.0, least)
    made = orthogonal(size * (left * values) @ right.mT)
    assert made.shape == (3, rows, columns)
    found = torch.linalg.svdvals(made)
    assert found.min() > 0.6 and found.max() < 1.3
    # Nearest to left @ right.mT: the vectors stay.
    diagonal = (left.mT @ made @ right).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(diagonal.sort().values, found.sort().values, rtol=1e-3, atol=1e-3)


def test_a_stack_is_worked_one_by_one() -> None:
    stack = torch.randn(4, 8, 12)
    torch.testing.assert_close(orthogonal(stack), torch.cat([orthogonal(one[None]) for one in stack]))
    assert not orthogonal(torch.zeros(2, 3, 4)).any()


def test_updates_are_those_of_torch() -> None:
    starts = [torch.randn(shape) for shape in [*SHAPES, (16, 16)]]
    mine, theirs = ([start.clone().requires_grad_() for start in starts] for _ in range(2))
    ours = Muon(mine, lr=0.1, momentum=0.9)
    reference = torch.optim.Muon(theirs, lr=0.1, momentum=0.9, weight_decay=0.0, adjust_lr_fn="original")
    for _ in range(3):
        before = [weight.detach().clone() for weight in mine]
        for one, two in zip(mine, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            two.grad = one.grad.clone()
            two.data.copy_(one.data)
        ours.step()
        reference.step()
        for one, two, was in zip(mine, theirs, before, strict=True):
            change, wanted = (one - was).detach().flatten(), (two - was).detach().flatten()
            # Torch computes in bfloat16.
            assert torch.cosine_similarity(change, wanted, dim=0) > 0.99
            assert float(change.norm()) == pytest.approx(float(wanted.norm()), rel=0.05)


def test_momentum_by_hand() -> None:
    # Buffer 0.25 g1 = 1, then 0.75 * 1 + 0.25 g2 = 2.75; Nesterov: 0.25 g2 + 0.75 * 2.75 = 4.0625.
    weight = torch.zeros(1, 1, requires_grad=True)
    muon = Muon([weight], lr=1.0, momentum=0.75)
    found = []
    for gradient in (4.0, 8.0):
        weight.grad = torch.full((1, 1), gradient)
        found.append(float(muon._momentum(weight, 0.75)))
    assert found == [0.25 * 4 + 0.75 * 1, 4.0625]


def test_weights_without_a_gradient_stay() -> None:
    still, moved = torch.ones(3, 3, requires_grad=True), torch.ones(3, 3, requires_grad=True)
    moved.grad = torch.eye(3)
    Muon([still, moved], lr=0.1).step()
    assert torch.equal(still, torch.ones(3, 3)) and not torch.equal(moved, still)
