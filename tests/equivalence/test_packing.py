"""Shared-prefix rows give the numbers of ordinary rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from transformers import PreTrainedModel

from rapo.errors import ModelError
from rapo.models.decoder import obstacle
from rapo.optimize import prefix_attention
from rapo.optimize.losses import forward_kl, grpo, token_logps
from rapo.optimize.packing import (
    PackedGroup,
    Segment,
    completion_logits,
    lay_out,
    plain_logits,
    scored_ids,
)
from rapo.optimize.prefix_attention import SharedPrefix, Span

Make = Callable[..., PreTrainedModel]


def ragged_groups(count: int) -> list[PackedGroup]:
    """Groups of 1-4 segments of different lengths, some of which begin with tokens that are only read."""
    draw = torch.Generator().manual_seed(7)

    def ids(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high, (), generator=draw))
        return tuple(torch.randint(3, 61, (length,), generator=draw).tolist())

    def segment(number: int) -> Segment:
        body = ids(2, 9)
        return Segment(body, scored_from=len(body) // 2 if number % 2 else 0)

    return [PackedGroup(ids(1, 20), tuple(segment(s) for s in range(1 + g % 4))) for g in range(count)]


def gradient(model: PreTrainedModel, *losses: Tensor) -> Tensor:
    """All gradients as one vector."""
    model.zero_grad()
    for loss in losses:
        loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def assert_same_gradient(got: Tensor, want: Tensor) -> None:
    # Logits agree to 1e-9 in float64, but the models' RMSNorm works in float32 even then, and its backward shows it.
    assert want.norm() > 0.1
    assert (got - want).norm() < 1e-6 * want.norm()


def one_row_logits(model: PreTrainedModel, group: PackedGroup) -> Tensor:
    """The reference: each segment alone behind its prefix, no padding, no mask."""
    rows = []
    for segment in group.segments:
        row = torch.tensor([[*group.prefix, *segment.ids]])
        first = len(group.prefix) + segment.scored_from - 1
        rows.append(model(row).logits[0, first : first + len(segment.ids) - segment.scored_from])
    return torch.cat(rows)


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("packed", [True, False])
def test_logits_and_gradients_equal_those_of_single_rows(make_model: Make, model_type: str, packed: bool) -> None:
    model, groups = make_model(model_type).double(), ragged_groups(5)
    got = completion_logits(model, groups, packed=packed)
    want = torch.cat([one_row_logits(model, group) for group in groups])
    assert got.shape == (len(scored_ids(groups)), 61)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)
    ids = scored_ids(groups)
    assert_same_gradient(*(gradient(model, token_logps(logits, ids).sum()) for logits in (got, want)))


def test_float32_stays_within_rounding(make_model: Make) -> None:
    model, groups = make_model("qwen3", initializer_range=0.1), ragged_groups(4)
    ids = scored_ids(groups)
    packed, plain = (token_logps(completion_logits(model, groups, packed=p), ids) for p in (True, False))
    torch.testing.assert_close(packed, plain, rtol=0, atol=1e-5)


def test_layout_by_hand() -> None:
    groups = [PackedGroup((5, 6), (Segment((7, 8)), Segment((9, 10, 11), scored_from=2))), PackedGroup((5,), ())]
    layout = lay_out(groups, torch.device("cpu"))
    assert layout.ids.tolist() == [5, 6, 7, 8, 9, 10, 11, 5]
    assert layout.positions.tolist() == [0, 1, 2, 3, 2, 3, 4, 0]
    # 7 is predicted at place 1, 8 at 2; 9 and 10 are only read, 11 is predicted at 5
    assert layout.predictors.tolist() == [1, 2, 5]
    assert scored_ids(groups).tolist() == [7, 8, 11]
    assert layout.spans == (Span(0, 2, (2, 3), (0, 1)), Span(7, 1, ()))
    # The last layer is needed from the end of each prefix on, but not for 9, from which nothing is predicted.
    assert SharedPrefix(layout.spans, torch.device("cpu"), 0).matter.tolist() == [1, 2, 3, 5, 6, 7]


def sees(spans: Sequence[Span]) -> Tensor:
    """Who sees whom, bool [T, T] (query, key), spelt out."""
    total = sum(span.length for span in spans)
    seen = torch.zeros(total, total, dtype=torch.bool)
    for span in spans:
        first = span.start + span.prefix
        prefix = torch.arange(span.start, first)
        seen[span.start : first, span.start : first] = torch.ones(span.prefix, span.prefix).tril().bool()
        for length in span.segments:
            own = slice(first, first + length)
            seen[own, prefix] = True
            seen[own, own] = torch.ones(length, length).tril().bool()
            first += length
    return seen


def test_who_sees_whom_by_hand() -> None:
    want = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert sees([Span(0, 2, (2, 1)), Span(5, 1, ())]).int().tolist() == want


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "spans",
    [
        [Span(0, 2, (2, 1)), Span(5, 1, ())],
        [Span(0, 255, (3, 3)), Span(261, 256, (7,)), Span(524, 300, (2, 5, 1))],
        [Span(0, 3, ()), Span(3, 385, (1, 1, 1))],
        [Span(0, 3, (4, 4, 2), (3, 0, 1)), Span(13, 4, (5,), (2,)), Span(22, 2, (2,))],
    ],
)
def test_attention_is_that_of_a_dense_mask(spans: list[Span], last: bool) -> None:
    # Prefixes from 256 on are cut into blocks of 128.
    mask, draw = sees(spans), torch.Generator().manual_seed(2)
    query, key, value = (
        torch.randn(len(mask), heads, 8, generator=draw, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)
    )
    attend = SharedPrefix(spans, torch.device("cpu"), 0 if last else 9)
    asked = query[attend.matter] if last else query
    rows = mask[attend.matter] if last else mask
    wide = [each.repeat_interleave(2, dim=1) for each in (key, value)]
    shares = torch.einsum("qhd,khd->hqk", asked, wide[0]).div(8**0.5).masked_fill(~rows, -torch.inf).softmax(-1)
    want = torch.einsum("hqk,khd->qhd", shares, wide[1])
    got = attend(0, asked, key, value)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    weights = torch.randn(want.shape, generator=draw, dtype=torch.float64)
    grads = [
        torch.autograd.grad((each * weights).sum(), (query, key, value), retain_graph=True) for each in (got, want)
    ]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("last", [False, True])
def test_flex_attention_sees_the_same(monkeypatch: pytest.MonkeyPatch, last: bool) -> None:
    # What a GPU runs, uncompiled on the CPU, where it has no backward pass.
    monkeypatch.setattr(prefix_attention, "_compiled", lambda: flex_attention)
    spans, draw = (
        [Span(0, 5, (3, 2)), Span(10, 4, ()), Span(14, 2, (1, 6, 1), (0, 4, 0))],
        torch.Generator().manual_seed(3),
    )
    query, key, value = (torch.randn(24, heads, 16, generator=draw) for heads in (4, 2, 2))
    matter = SharedPrefix(spans, torch.device("cpu"), 0).matter
    asked = query[matter] if last else query
    want = SharedPrefix(spans, torch.device("cpu"), 0 if last else 9)(0, asked, key, value)
    got = prefix_attention._FlexMasks(spans, matter).attend(asked, key, value, last)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("per_forward", [1, 2, 6])
def test_splitting_into_micro_batches_changes_nothing(make_model: Make, per_forward: int) -> None:
    model, groups = make_model().double(), ragged_groups(6)
    total = len(scored_ids(groups))
    kept = torch.arange(total) % 3 > 0
    draw = torch.Generator().manual_seed(1)
    advantage, old = torch.randn(2, total, generator=draw, dtype=torch.float64)
    teacher = torch.randn(total, 61, generator=draw, dtype=torch.float64).log_softmax(-1)

    def step(size: int) -> tuple[Tensor, float]:
        done, clipped, losses = 0, 0.0, []
        for start in range(0, 6, size):
            part = groups[start : start + size]
            logits, ids = completion_logits(model, part, packed=True), scored_ids(part)
            own = slice(done, done + len(ids))
            done += len(ids)
            logps = token_logps(logits, ids)
            macro, metrics = grpo(logps, old[own] - 3, advantage[own], clip_low=0.2, clip_high=0.3, token_count=total)
            mask = kept[own]
            micro, _ = forward_kl(logits[mask], teacher[own][mask], token_count=int(kept.sum()))
            losses.append(macro + 0.5 * micro)
            clipped += float(metrics["clip_share"])
        return gradient(model, *losses), clipped

    whole, split = step(6), step(per_forward)
    assert_same_gradient(split[0], whole[0])
    assert split[1] == pytest.approx(whole[1]) and 0 < whole[1] < 1


@pytest.mark.parametrize("packed", [True, False])
def test_no_scored_token_gives_exactly_zero_gradient(make_model: Make, packed: bool) -> None:
    model = make_model()
    logits = completion_logits(model, [PackedGroup((5, 6), (Segment((7, 8), scored_from=2),))], packed=packed)
    loss, _ = forward_kl(logits, torch.zeros(0, 61), token_count=0)
    assert logits.shape == (0, 61) and loss.item() == 0
    assert not gradient(model, loss).any()


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_changes_nothing(make_model: Make) -> None:
    model, groups = make_model().double().train(), ragged_groups(3)
    ids = scored_ids(groups)
    want = gradient(model, token_logps(completion_logits(model, groups, packed=True), ids).sum())
    model.gradient_checkpointing_enable()
    assert_same_gradient(gradient(model, token_logps(completion_logits(model, groups, packed=True), ids).sum()), want)


@pytest.mark.parametrize(
    ("model_type", "options", "reason"),
    [
        ("mistral", {}, "MistralForCausalLM is not one of"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, "sliding-window"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "dynamic"),
        ("llama", {"attention_dropout": 0.1}, "dropout"),
    ],
)
def test_models_that_cannot_pack_are_refused_and_run_plain(
    make_model: Make, model_type: str, options: dict[str, object], reason: str
) -> None:
    model, groups = make_model(model_type, **options).double().eval(), ragged_groups(3)
    assert reason in str(obstacle(model))
    with pytest.raises(ModelError, match=reason):
        completion_logits(model, groups, packed=True)
    want = torch.cat([one_row_logits(model, group) for group in groups])
    torch.testing.assert_close(plain_logits(model, groups), want, rtol=0, atol=1e-9)


def test_verified_models_have_no_obstacle(make_model: Make) -> None:
    assert [obstacle(make_model(m)) for m in ("qwen2", "qwen3", "llama")] == [None] * 3


def test_malformed_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="prefix"):
        PackedGroup((), (Segment((1,)),))
    with pytest.raises(ValueError, match="scored_from 2"):
        Segment((1,), scored_from=2)
    with pytest.raises(ValueError, match="nothing"):
        lay_out([], torch.device("cpu"))
