from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rapo.optimize.losses import (
    DIVERGENCES,
    bucket,
    forward_kl,
    grpo,
    jsd,
    reference_kl,
    reverse_kl,
    spoken,
    token_logps,
    truncated_importance,
)

Divergence = Callable[..., tuple[Tensor, dict[str, Tensor]]]
every_divergence = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES.keys())


def log(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grpo_of(ratio: list[float], advantage: list[float], **more: Any) -> tuple[Tensor, dict[str, Tensor]]:
    numbers = {"clip_low": 0.2, "clip_high": 0.3, "token_count": len(ratio), **more}
    logp = torch.tensor(ratio, dtype=torch.float64).log()
    return grpo(logp, torch.zeros_like(logp), torch.tensor(advantage, dtype=torch.float64), **numbers)


# token log-probabilities


def test_token_logps_by_hand() -> None:
    # logits ln 1, ln 3 at temperature 1/2 are squared: 1/10, 9/10
    logits = log(1, 3)
    assert token_logps(logits, torch.tensor([1])).item() == pytest.approx(math.log(3 / 4))
    assert token_logps(logits, torch.tensor([1]), temperature=0.5).item() == pytest.approx(math.log(9 / 10))
    assert token_logps(logits.bfloat16(), torch.tensor([1])).dtype == torch.float32


# the macro term


def test_grpo_by_hand() -> None:
    # clip to [0.8, 1.3]. Gains: 1.5 -> 1.3 * 1 (clipped); 0.5 -> 0.5 * 1 (pessimistic, not clipped);
    # 0.5 * -1 -> 0.8 * -1 (clipped); 1.5 * -1 (not clipped). Sum 1.3 + 0.5 - 0.8 - 1.5 = -0.5; loss 0.5 / 4
    loss, metrics = grpo_of([1.5, 0.5, 0.5, 1.5], [1, 1, -1, -1])
    assert loss.item() == pytest.approx(0.125)
    assert metrics["clip_share"].item() == 0.5
    assert metrics["ratio"].item() == pytest.approx(1.0)
    # r - 1 - ln r summed over 1.5, 0.5, 0.5, 1.5: (4 - 4) - 2 ln 0.75, over 4
    assert metrics["approx_kl"].item() == pytest.approx(-2 * math.log(0.75) / 4)


def test_grpo_gradient_by_hand() -> None:
    # d/dlogp of -ratio A / 8 is -ratio A / 8 where not clipped, else 0
    logp = torch.tensor([1.5, 0.5, 1.5], dtype=torch.float64).log().requires_grad_()
    advantage = torch.tensor([1.0, 1.0, -2.0], dtype=torch.float64)
    loss, _ = grpo(logp, torch.zeros(3), advantage, clip_low=0.2, clip_high=0.3, token_count=8)
    loss.backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([0, -0.5 / 8, 3 / 8])


def test_grpo_weights_scale_tokens_and_carry_no_gradient() -> None:
    # 1 * 2 * 0.5 + 1 * 4 * 2 = 9, over 2 tokens
    weight = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    loss, _ = grpo_of([1, 1], [2, 4], weight_N=weight)
    assert loss.item() == pytest.approx(-4.5) and not loss.requires_grad


def test_behaviour_logps_carry_no_gradient() -> None:
    old = torch.zeros(2, requires_grad=True)
    loss, _ = grpo(torch.zeros(2), old, torch.ones(2), clip_low=0.2, clip_high=0.2, token_count=2)
    assert not loss.requires_grad


def test_truncated_importance_by_hand() -> None:
    train, sampler = log(0.6, 0.3)[0].requires_grad_(), log(0.2, 0.6)[0]
    weights = truncated_importance(train, sampler, 2.0)  # 3 -> 2; 0.5
    assert weights.tolist() == pytest.approx([2.0, 0.5]) and not weights.requires_grad


def test_reference_kl_by_hand() -> None:
    # p_ref / p = 2: 2 - ln 2 - 1
    logp, ref = log(0.25)[0].requires_grad_(), log(0.5)[0].requires_grad_()
    loss, metrics = reference_kl(logp, ref, token_count=1)
    assert loss.item() == pytest.approx(1 - math.log(2))
    loss.backward()
    assert logp.grad is not None and logp.grad.item() == pytest.approx(1 - 2) and ref.grad is None
    assert not metrics["reference_kl"].requires_grad


# the micro term


def test_divergences_by_hand() -> None:
    teacher, student = log(0.5, 0.5), log(0.25, 0.75)
    forward = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    reverse = 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)
    # mixture 0.375, 0.625
    half = 0.5 * (0.5 * math.log(4 / 3) + 0.5 * math.log(0.8)) + 0.5 * (0.25 * math.log(2 / 3) + 0.75 * math.log(1.2))
    for divergence, value in ((forward_kl, forward), (reverse_kl, reverse), (jsd, half)):
        loss, metrics = divergence(student, teacher, token_count=1)
        assert loss.item() == pytest.approx(value, rel=1e-12)
        assert metrics["divergence"].item() == loss.item()
    # beta 0.25: mixture 0.25 teacher + 0.75 student = 0.3125, 0.6875
    quarter = 0.25 * (0.5 * math.log(1.6) + 0.5 * math.log(8 / 11)) + 0.75 * (
        0.25 * math.log(0.8) + 0.75 * math.log(12 / 11)
    )
    assert jsd(student, teacher, token_count=1, beta=0.25)[0].item() == pytest.approx(quarter, rel=1e-12)
    with pytest.raises(ValueError, match="beta"):
        jsd(student, teacher, token_count=1, beta=1.0)


def test_forward_kl_gradient_is_student_minus_teacher() -> None:
    student = log(0.2, 0.3, 0.5).requires_grad_()
    forward_kl(student, log(0.6, 0.3, 0.1), token_count=4)[0].backward()
    assert student.grad is not None
    assert student.grad[0].tolist() == pytest.approx([-0.4 / 4, 0, 0.4 / 4])


def test_impossible_outcomes_count_for_nothing() -> None:
    student = log(0.5, 0.5, 0.0).requires_grad_()
    loss, _ = forward_kl(student, log(1.0, 0.0, 0.0), token_count=1)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert student.grad is not None and student.grad.tolist() == [[-0.5, 0.5, 0.0]]


@every_divergence
def test_disjoint_support_stays_finite(divergence: Divergence) -> None:
    student = log(1.0, 0.0).requires_grad_()
    loss, _ = divergence(student, log(0.0, 1.0), token_count=1)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()
    assert loss.item() == pytest.approx(math.log(2) if divergence is jsd else 1000)


@every_divergence
def test_gradient_matches_finite_differences(divergence: Divergence) -> None:
    student, teacher = random_logits(3, 5).requires_grad_(), random_logits(3, 5, seed=1).log_softmax(-1)
    ids = torch.tensor([[0, 3], [1, 2], [4, 0]])
    assert torch.autograd.gradcheck(lambda s: divergence(s, teacher, token_count=7)[0], student)
    assert torch.autograd.gradcheck(
        lambda s: divergence(bucket(s, ids), bucket(teacher, ids), token_count=7)[0], student
    )


@every_divergence
def test_no_gradient_reaches_the_teacher(divergence: Divergence) -> None:
    student, teacher = random_logits(2, 4).requires_grad_(), random_logits(2, 4, seed=1).requires_grad_()
    loss, metrics = divergence(student, teacher.log_softmax(-1), token_count=2)
    loss.backward()
    assert teacher.grad is None and student.grad is not None and student.grad.any()
    assert not metrics["divergence"].requires_grad


LOGITS = st.lists(st.floats(-30, 30), min_size=4, max_size=4)


@every_divergence
@settings(max_examples=60, deadline=None)
@given(LOGITS, LOGITS)
def test_divergence_is_zero_for_equals_and_positive_otherwise(
    divergence: Divergence, student: list[float], teacher: list[float]
) -> None:
    a, b = (torch.tensor([logits], dtype=torch.float64).log_softmax(-1) for logits in (student, teacher))
    value = divergence(a, b, token_count=1)[0].item()
    assert value >= -1e-12
    assert abs(divergence(a, a, token_count=1)[0].item()) < 1e-12
    # Pinsker: KL >= TV^2 / 2 over the L1 distance, and JSD >= TV^2 / 8
    assert value >= (a.exp() - b.exp()).abs().sum().item() ** 2 / 8 - 1e-12
    ids = torch.tensor([[2, 0]])
    assert divergence(bucket(a, ids), bucket(b, ids), token_count=1)[0].item() <= value + 1e-9


def test_bucket_by_hand() -> None:
    # keep tokens 3 and 1 of 0.1, 0.2, 0.3, 0.4: 0.4, 0.2, and 0.1 + 0.3 for the rest
    logits = (log(0.1, 0.2, 0.3, 0.4) + 5).requires_grad_()
    kept = bucket(logits, torch.tensor([[3, 1]])).softmax(-1)
    assert kept[0].tolist() == pytest.approx([0.4, 0.2, 0.4])
    # log-probabilities in, log-probabilities out
    assert bucket(logits.log_softmax(-1), torch.tensor([[3, 1]])).exp().sum().item() == pytest.approx(1)


# shared laws


@pytest.mark.parametrize("name", [*DIVERGENCES, "grpo", "reference_kl"])
def test_parts_add_up_to_the_whole_and_nothing_adds_zero(name: str) -> None:
    student, teacher = random_logits(6, 5), random_logits(6, 5, seed=1).log_softmax(-1)

    def call(rows: slice) -> tuple[Tensor, dict[str, Tensor]]:
        if name in DIVERGENCES:
            return DIVERGENCES[name](student[rows], teacher[rows], token_count=6)
        if name == "reference_kl":
            return reference_kl(student[rows, 0], teacher[rows, 0], token_count=6)
        return grpo(student[rows, 0], student[rows, 1], student[rows, 2], clip_low=0.2, clip_high=0.2, token_count=6)

    student.requires_grad_()
    whole, first, rest, nothing = call(slice(0, 6)), call(slice(0, 2)), call(slice(2, 6)), call(slice(0, 0))
    assert (first[0] + rest[0]).item() == pytest.approx(whole[0].item(), rel=1e-12)
    for metric, value in whole[1].items():
        parts = (first[1][metric], rest[1][metric])
        torch.testing.assert_close(torch.cat(parts) if metric.endswith("_N") else sum(parts), value)
    assert nothing[0].item() == 0
    nothing[0].backward()
    assert student.grad is not None and not student.grad.any()


def test_too_small_a_token_count_is_refused() -> None:
    with pytest.raises(ValueError, match="token_count 1 is less than the 2"):
        forward_kl(torch.zeros(2, 3), torch.zeros(2, 3), token_count=1)


def test_low_precision_logits_are_compared_in_float32() -> None:
    logits = random_logits(2, 50).bfloat16()
    loss, _ = forward_kl(logits, logits.float().log_softmax(-1), token_count=2)
    assert loss.dtype == torch.float32 and abs(loss.item()) < 1e-6


def test_entropy_by_hand() -> None:
    # uniform over 4: ln 4; certain: 0; and an impossible outcome adds nothing
    logits = torch.tensor([[0.0, 0, 0, 0], [100.0, 0, 0, 0], [0.0, 0, -torch.inf, -torch.inf]], requires_grad=True)
    _, values = spoken(logits, torch.tensor([0, 0, 0]), temperature=1.0)
    assert values.tolist() == pytest.approx([math.log(4), 0, math.log(2)]) and not values.requires_grad
    # logits 0 and 2 ln 2 at temperature 2: 1/3 and 2/3
    _, values = spoken(torch.tensor([[0.0, 2 * math.log(2)]]), torch.tensor([0]), temperature=2.0)
    assert values.tolist() == pytest.approx([math.log(3) - 2 / 3 * math.log(2)])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_what_was_spoken_and_its_gradient_by_either_way(temperature: float) -> None:
    logits, ids = random_logits(5, 9).requires_grad_(), torch.tensor([0, 3, 8, 3, 1])
    weights = torch.tensor([1.0, -2, 0, 0.5, 3])
    found, gradients = [], []
    for logps in (spoken(logits, ids, temperature=temperature)[0], token_logps(logits, ids, temperature=temperature)):
        found.append(logps)
        gradients += torch.autograd.grad((logps * weights).sum(), logits)
    assert torch.equal(*found)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0.1
