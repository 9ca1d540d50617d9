"""The sampler draws what it says it draws, whatever the batch, and greedy decoding is that of ``generate``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rapo.errors import ModelError
from rapo.models import products, sampler
from rapo.models.memory import Memory
from rapo.models.policy import Policy
from rapo.models.sampler import Sampled, SampleRequest, _noise, sample
from rapo.optimize.losses import bucket, token_logps
from rapo.optimize.packing import PackedGroup, Segment, plain_logits, scored_ids
from rapo.types import Message

PROMPTS = ("I feel so alone", "call", "Who could you call when the evening feels long ? my friend moved away")


@pytest.fixture(autouse=True, params=["plain products", "packed products"])
def packed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Everything has to hold however projections are applied; left alone, models as small as these are plain."""
    if request.param == "packed products":
        monkeypatch.setattr(products, "LEAST_BYTES", 0)
        monkeypatch.setattr(products, "LEAST_STEPS", 0)
    return request.param == "packed products"


def requests(policy: Policy, seeds_each: int = 5) -> list[SampleRequest]:
    """Prompts of different lengths with unequal numbers of seeds, the first one asked for twice."""
    prompts = [tuple(policy.render([Message("user", text)])) for text in (*PROMPTS, PROMPTS[0])]
    return [SampleRequest(prompt, tuple(range(100 * i, 100 * i + seeds_each + i))) for i, prompt in enumerate(prompts)]


def flat(sampled: list[list[Sampled]]) -> list[Sampled]:
    return [one for many in sampled for one in many]


def test_greedy_is_generate(policy: Policy) -> None:
    for request in requests(policy):
        got = sample(policy, [SampleRequest(request.prompt_ids, (1, 2))], max_tokens=20, temperature=0)[0]
        prompt = torch.tensor([request.prompt_ids])
        want = policy.model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=20)
        assert got[0].completion == got[1].completion
        assert list(got[0].completion.token_ids) == want[0, prompt.shape[1] :].tolist()


def test_packed_weights_are_those_that_the_model_has_now(policy: Policy, packed: bool) -> None:
    def lasting() -> list[float]:
        return [
            logp
            for one in flat(sample(policy, requests(policy), max_tokens=8, temperature=0))
            for logp in one.completion.logps
        ]

    before = lasting()
    layer = policy.model.get_decoder().layers[0].mlp.down_proj
    assert isinstance(products.products_for(policy.model, 8), products.PackedProducts) == packed
    kept = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.mul_(1.5)
    try:
        assert lasting() != before
    finally:
        with torch.no_grad():
            layer.weight.copy_(kept)
    assert lasting() == before


def test_batching_changes_nothing(policy: Policy) -> None:
    runs = [
        flat(sample(policy, requests(policy), max_tokens=16, temperature=0.8, batch_rows=rows)) for rows in (1, 7, 64)
    ]
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            assert a.completion.token_ids == b.completion.token_ids
            assert a.completion.logps == pytest.approx(b.completion.logps, abs=1e-5)
    lengths = {len(one.completion.token_ids) for one in runs[0]}
    assert len(lengths) > 3, "rows must end at different times for this test to mean anything"


def test_same_seed_same_completion_bit_for_bit(policy: Policy) -> None:
    first, second = (sample(policy, requests(policy), max_tokens=16, temperature=1.0) for _ in range(2))
    assert first == second
    one = [SampleRequest(requests(policy)[0].prompt_ids, (0,) * 3)]
    assert len({s.completion.token_ids for s in sample(policy, one, max_tokens=16, temperature=1.0)[0]}) == 1


def test_a_longer_limit_only_extends(policy: Policy) -> None:
    short, long = (flat(sample(policy, requests(policy), max_tokens=n, temperature=1.0)) for n in (6, 16))
    for a, b in zip(short, long, strict=True):
        assert a.completion.token_ids == b.completion.token_ids[:6]


def test_noise_uses_the_whole_seed() -> None:
    assert torch.equal(_noise([5], 50)[:, :4], _noise([5], 4))
    assert not torch.equal(_noise([5], 4), _noise([5 + 2**32], 4))


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_logps_are_those_of_the_scaled_model(policy: Policy, temperature: float) -> None:
    asked = requests(policy)
    sampled = sample(policy, asked, max_tokens=16, temperature=temperature)
    groups = [
        PackedGroup(request.prompt_ids, tuple(Segment(one.completion.token_ids) for one in many))
        for request, many in zip(asked, sampled, strict=True)
    ]
    with torch.no_grad():
        want = token_logps(plain_logits(policy.model, groups), scored_ids(groups), temperature=temperature)
    got = torch.tensor([logp for one in flat(sampled) for logp in one.completion.logps])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_first_token_frequencies_follow_the_softmax(policy: Policy, temperature: float) -> None:
    prompt, draws = requests(policy)[0].prompt_ids, 4000
    sampled = sample(
        policy, [SampleRequest(prompt, tuple(range(draws)))], max_tokens=1, temperature=temperature, batch_rows=2000
    )[0]
    with torch.no_grad():
        probabilities = (policy.model(torch.tensor([prompt])).logits[0, -1] / temperature).softmax(-1)
    counts = torch.bincount(torch.tensor([s.completion.token_ids[0] for s in sampled]), minlength=len(probabilities))
    # Cells of at least 20 expected draws, and one for the rest; chi-square has mean df and variance 2 df.
    cell = probabilities * draws >= 20
    observed = torch.cat([counts[cell], counts[~cell].sum()[None]])
    expected = torch.cat([probabilities[cell], probabilities[~cell].sum()[None]]) * draws
    df = len(observed) - 1
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert df >= 4 and statistic < df + 5 * (2 * df) ** 0.5


def test_recorded_distributions_are_those_of_temperature_one(policy: Policy) -> None:
    request = [SampleRequest(requests(policy)[1].prompt_ids, (1, 2, 3, 4))]
    full = sample(policy, request, max_tokens=8, temperature=0.5, record_top_k=0)[0]
    top = sample(policy, request, max_tokens=8, temperature=0.5, record_top_k=4)[0]
    for one, few in zip(full, top, strict=True):
        assert one.teacher is not None and few.teacher is not None and few.teacher.ids is not None
        group = [PackedGroup(request[0].prompt_ids, (Segment(one.completion.token_ids),))]
        with torch.no_grad():
            want = plain_logits(policy.model, group).log_softmax(-1)
        torch.testing.assert_close(one.teacher.logps, want, rtol=0, atol=1e-4)
        torch.testing.assert_close(few.teacher.logps, bucket(one.teacher.logps, few.teacher.ids))
        assert torch.equal(few.teacher.ids, one.teacher.logps.topk(4).indices)
    assert sample(policy, request, max_tokens=2, temperature=1)[0][0].teacher is None


def test_completions_stop_at_the_end_token(policy: Policy) -> None:
    sampled = [s.completion for s in flat(sample(policy, requests(policy, 20), max_tokens=10, temperature=1.5))]
    assert {c.finished for c in sampled} == {True, False}
    for completion in sampled:
        ends = [t for t, token in enumerate(completion.token_ids) if token in policy.end_ids]
        assert ends == ([len(completion.token_ids) - 1] if completion.finished else [])
        assert completion.finished or len(completion.token_ids) == 10
        assert "<|im_end|>" not in completion.text


def test_prompts_of_one_token_and_requests_without_seeds(policy: Policy) -> None:
    sampled = sample(policy, [SampleRequest((9,), (1, 2)), SampleRequest((9, 9), ())], max_tokens=4, temperature=0)
    assert [len(many) for many in sampled] == [2, 0]
    want = policy.model.generate(
        torch.tensor([[9]]), do_sample=False, max_new_tokens=4, attention_mask=torch.ones(1, 1)
    )
    assert list(sampled[0][0].completion.token_ids) == want[0, 1:].tolist()
    mixed = sample(policy, [SampleRequest((9,), (1,)), SampleRequest((9, 8, 7), (1,))], max_tokens=4, temperature=0)
    assert mixed[0][0].completion.token_ids == sampled[0][0].completion.token_ids


def test_a_prompt_that_does_not_fit_is_refused(policy: Policy) -> None:
    with pytest.raises(ModelError, match=r"81 prompt tokens.*at most 80 \(96 less max_tokens 16\)"):
        sample(policy, [SampleRequest((9,) * 81, (1,))], max_tokens=16, temperature=1)
    with pytest.raises(ModelError, match="empty prompt"):
        sample(policy, [SampleRequest((), (1,))], max_tokens=16, temperature=1)


def test_training_mode_is_given_back(policy: Policy) -> None:
    policy.model.train()
    sample(policy, [SampleRequest((9, 8), (1,))], max_tokens=2, temperature=1)
    assert policy.model.training


def continued(policy: Policy, histories: int = 3) -> list[SampleRequest]:
    """Prompts that share a history and go on differently, by one token to nine, as corrections of a group do."""
    asked = []
    for i in range(histories):
        history = tuple(policy.render([Message("user", PROMPTS[i])]))
        rests = [tuple(range(9, 9 + length)) for length in (1, 4, 9)[: i + 1]]
        asked += [SampleRequest((*history, *rest), (10 * i + len(rest),), len(history)) for rest in rests]
    return asked


@pytest.mark.parametrize("rows", [2, 64])
def test_sharing_a_history_changes_nothing(policy: Policy, rows: int) -> None:
    asked = continued(policy)
    alone = [replace(request, shared=None) for request in asked]
    options = {"max_tokens": 12, "temperature": 0.8, "batch_rows": rows, "record_top_k": 0}
    for a, b in zip(*(flat(sample(policy, some, **options)) for some in (asked, alone)), strict=True):
        assert a.completion.token_ids == b.completion.token_ids
        assert a.completion.logps == pytest.approx(b.completion.logps, abs=1e-5)
        assert a.teacher is not None and b.teacher is not None
        torch.testing.assert_close(a.teacher.logps, b.teacher.logps, rtol=0, atol=1e-4)


def encoded(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of tokens that the model reads at a time from here on."""
    lengths: list[int] = []
    embed = policy.model.get_input_embeddings()
    monkeypatch.setattr(embed, "forward", lambda ids: (lengths.append(len(ids)), type(embed).forward(embed, ids))[1])
    return lengths


def test_a_history_is_encoded_once(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, asked = encoded(policy, monkeypatch), continued(policy)
    sample(policy, asked, max_tokens=1, temperature=1.0)
    histories = {request.prompt_ids[: request.shared] for request in asked}
    rests = [len(request.prompt_ids) - (request.shared or 0) for request in asked]
    assert lengths == [sum(map(len, histories)), sum(rests)]
    lengths.clear()
    # All but the last token of a prompt, once for three completions.
    sample(policy, [SampleRequest((9,) * 20, (1, 2, 3))], max_tokens=1, temperature=1.0)
    assert lengths == [19, 3]


@pytest.mark.parametrize("most", [1 << 30, 0])
def test_a_talk_goes_on_from_what_is_kept_of_it(policy: Policy, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    memory, lengths = Memory(most), encoded(policy, monkeypatch)
    prompts, new = [tuple(policy.render([Message("user", text)])) for text in PROMPTS], [0, 0, 0]
    for turn in range(3):
        seeds = [(turn * 10 + i,) for i in range(3)]
        plain = [SampleRequest(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        named = [replace(request, talk=str(i)) for i, request in enumerate(plain)]
        want = flat(sample(policy, plain, max_tokens=5, temperature=0.9))
        lengths.clear()
        got = flat(sample(policy, named, max_tokens=5, temperature=0.9, memory=memory))
        for a, b in zip(got, want, strict=True):
            assert a.completion.token_ids == b.completion.token_ids
            assert a.completion.logps == pytest.approx(b.completion.logps, abs=1e-4)
        # The last token of a prompt is read with what is written; that of a reply as well, if others wrote longer ones.
        known = turn > 0 and most > 0
        fresh = sum(new) if known else sum(len(prompt) - 1 for prompt in prompts)
        assert fresh - 3 * known <= lengths[0] <= fresh
        prompts = [
            (*prompt, *one.completion.token_ids, *range(20, 23 + i))
            for i, (prompt, one) in enumerate(zip(prompts, got, strict=True))
        ]
        new = [3 + i for i in range(3)]
    # A branch goes back to an earlier point of the talk: nothing is left to encode.
    lengths.clear()
    back = tuple(policy.render([Message("user", PROMPTS[1])]))
    sample(policy, [SampleRequest(back, (1, 2, 3), talk="1")], max_tokens=1, temperature=1.0, memory=memory)
    assert lengths == ([3] if most else [len(back) - 1, 3])
    # And the talk goes on from where it was.
    kept = memory.find("1")
    assert kept is None if most == 0 else kept is not None and len(kept.ids) > len(back) + 8


def test_a_talk_under_another_name_changes_nothing(policy: Policy) -> None:
    memory = Memory()
    one, other = (tuple(policy.render([Message("user", text)])) for text in PROMPTS[:2])
    sample(policy, [SampleRequest(one, (1,), talk="a")], max_tokens=5, temperature=1.0, memory=memory)
    got = sample(policy, [SampleRequest(other, (2,), talk="a")], max_tokens=5, temperature=1.0, memory=memory)
    want = sample(policy, [SampleRequest(other, (2,))], max_tokens=5, temperature=1.0)
    assert got[0][0].completion.token_ids == want[0][0].completion.token_ids


def test_models_of_other_kinds_are_sampled_by_their_own_forward(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = flat(sample(policy, continued(policy), max_tokens=12, temperature=0.8))
    monkeypatch.setattr(sampler, "obstacle", lambda model: "a test says so")
    for a, b in zip(flat(sample(policy, continued(policy), max_tokens=12, temperature=0.8)), want, strict=True):
        assert a.completion.token_ids == b.completion.token_ids
        assert a.completion.logps == pytest.approx(b.completion.logps, abs=1e-5)
