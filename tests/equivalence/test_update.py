"""The hybrid update: the same gradient however it is computed, and only from what should teach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rapo import stages
from rapo.config import RunConfig
from rapo.models import decoder
from rapo.models.decoder import checkpoint_activations
from rapo.models.policy import Policy
from rapo.models.sampler import SampleRequest, sample
from rapo.models.scratch import new_policy
from rapo.optimize import update as room
from rapo.optimize.chunks import CHUNK_TOKENS
from rapo.optimize.lessons import RankedReply, TaughtReply, TrainingGroup
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.packing import PackedGroup, Segment, completion_logits, plain_logits, scored_ids
from rapo.optimize.render import Example
from rapo.optimize.update import Gradient, Hybrid, UpdateResult, update
from rapo.parts import Parts
from rapo.progress import Terminal
from rapo.records import RunDirectory

TEXTS = ["I feel so alone since my friend moved away .", "Who could you call when the evening feels long ?"] * 20
NUMBERS = Hybrid(
    macro=1.0,
    micro=0.7,
    divergence="forward_kl",
    top_k=0,
    clip_low=0.2,
    clip_high=0.28,
    kl=0.0,
    replay=0.5,
    temperature=0.9,
    tokens_per_forward=90,
    grad_clip=1e9,
)


def made(seed: int) -> Policy:
    policy = new_policy(TEXTS, vocab_size=300, hidden=16, layers=2, heads=2, max_context=96, seed=seed)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(6)
    # Float64 keeps rounding out of the comparisons, all but that of RMSNorm, which works in float32 even then.
    policy.model.double().requires_grad_(True)
    return policy


@pytest.fixture
def policy() -> Policy:
    return made(3)


@pytest.fixture(scope="module")
def teacher() -> Policy:
    return made(4)


class Recorder(Optimizer):
    """Keeps the gradient of the step (missing ones as zeros) and lets the weights be."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy, lr=1.0)
        self.parameters = list(policy.model.parameters())
        self.gradient: Tensor | None = None

    def step(self, *, scale: float = 1.0) -> None:
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        self.gradient = torch.cat([grad.flatten() for grad in found])
        for parameter in self.parameters:
            parameter.grad = None


def groups() -> list[TrainingGroup]:
    """Six groups of different make: 0-3 ranked and 0-3 taught replies of different lengths, 4 tied, 5 only taught."""
    draw = torch.Generator().manual_seed(5)

    def ids(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high, (), generator=draw))
        return tuple(torch.randint(3, 290, (length,), generator=draw).tolist())

    def ranked(advantage: float) -> RankedReply:
        body = ids(2, 9)
        # About what a random model gives, so that some ratios clip and some do not.
        logps = -6 + 2 * torch.rand(len(body), generator=draw)
        return RankedReply(body, tuple(logps.tolist()), advantage)

    advantages = [(1.2, -0.3, -0.9), (0.7, -0.7), (1.0, -1.0), (1.4, -0.7, -0.7), (0.0, 0.0), ()]
    return [
        TrainingGroup(
            ids(3, 20),
            tuple(ranked(each) for each in some),
            tuple(TaughtReply(ids(2, 7), feedback=ids(3, 8)) for _ in range((2, 0, 1, 3, 1, 2)[g])),
        )
        for g, some in enumerate(advantages)
    ]


def own(lessons: list[TrainingGroup]) -> list[TrainingGroup]:
    """All but the first ranked reply of each group taught as well (``update.along=own``), and once one of another's."""
    taught = [tuple(TaughtReply(reply.ids, feedback=(20, 21, i)) for i, reply in enumerate(g.ranked)) for g in lessons]
    groups = [replace(group, taught=some[1:]) for group, some in zip(lessons, taught, strict=True)]
    groups[2] = replace(groups[2], taught=(*taught[2], taught[0][1]))
    return groups


def gradient(
    policy: Policy, lessons: list[TrainingGroup], numbers: Hybrid = NUMBERS, **options: object
) -> tuple[Tensor, UpdateResult]:
    recorder = Recorder(policy)
    result = update(policy, recorder, lessons, numbers, **options)  # type: ignore[arg-type]
    assert recorder.gradient is not None
    return recorder.gradient, result


def assert_same(got: Tensor, want: Tensor, within: float) -> None:
    assert want.norm() > 1e-2
    assert (got - want).norm() <= within * want.norm()


def assert_same_divergences(got: UpdateResult, want: UpdateResult) -> None:
    for mine, theirs in zip(got.divergences, want.divergences, strict=True):
        # Small ones differ more than in their last digits: they are what is left of large ones.
        assert [pytest.approx(gaps, rel=1e-5, abs=1e-6) for gaps in mine] == theirs


REPLAY = [Example((5, 6, 7, 8, 9), (False, False, True, True, True)), Example((9, 8, 7), (False, True, True))]


@pytest.mark.parametrize("tokens", [90, 10_000])
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd"])
def test_tokens_per_forward_change_nothing(policy: Policy, teacher: Policy, tokens: int, divergence: str) -> None:
    options = {"teacher": teacher, "reference": teacher, "replay": REPLAY}
    numbers = replace(NUMBERS, kl=0.1, divergence=divergence, tokens_per_forward=1)
    want, one = gradient(policy, groups(), numbers, **options)
    got, many = gradient(policy, groups(), replace(numbers, tokens_per_forward=tokens), **options)
    assert_same(got, want, 1e-6)
    assert many.metrics == pytest.approx(one.metrics, rel=1e-6)
    assert {
        "replay_loss",
        "divergence",
        "reference_kl",
        "clip_share",
        "entropy",
        "gradient_norm",
    } <= many.metrics.keys()
    assert [len(some) for some in many.divergences] == [2, 0, 1, 3, 1, 2]
    assert_same_divergences(many, one)


def test_token_counts_and_divergences_by_hand(policy: Policy, teacher: Policy) -> None:
    lessons = groups()
    _, result = gradient(policy, lessons, teacher=teacher)
    # The tied group 4 has no say in the macro term.
    assert result.metrics["macro_tokens"] == sum(len(r.ids) for g in lessons[:4] for r in g.ranked)
    sizes = [[len(reply.ids) for reply in group.taught] for group in lessons]
    assert result.metrics["micro_tokens"] == sum(map(sum, sizes))
    assert [[len(gaps) for gaps in some] for some in result.divergences] == sizes
    mean = sum(gap for some in result.divergences for gaps in some for gap in gaps) / result.metrics["micro_tokens"]
    assert result.metrics["divergence"] == pytest.approx(mean)


def test_tied_and_empty_groups_teach_nothing(policy: Policy) -> None:
    tied = [replace(groups()[4], taught=())]
    empty = TrainingGroup((5, 6, 7))
    before = [parameter.clone() for parameter in policy.model.parameters()]
    for lessons in ([], tied, [empty], [empty, *tied]):
        # No step at all: an optimizer with momentum would move the weights even for a gradient of zero.
        result = update(policy, Optimizer(policy, lr=1.0), lessons, NUMBERS)
        assert result.metrics == {}
        assert result.divergences == [[] for _ in lessons]
    assert all(torch.equal(was, now) for was, now in zip(before, policy.model.parameters(), strict=True))
    # And beside others they change nothing, not even a denominator.
    alone, one = gradient(policy, groups()[:1], replace(NUMBERS, micro=0))
    among, two = gradient(policy, [*tied, groups()[0], empty], replace(NUMBERS, micro=0))
    assert torch.equal(alone, among)
    assert one.metrics == two.metrics


def test_no_gradient_reaches_the_teacher(policy: Policy, teacher: Policy) -> None:
    assert all(parameter.requires_grad for parameter in teacher.model.parameters())
    gradient(policy, groups(), replace(NUMBERS, kl=0.1), teacher=teacher, reference=teacher)
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_a_live_teacher_is_as_still_as_a_frozen_one(policy: Policy) -> None:
    live, _ = gradient(policy, groups(), replace(NUMBERS, macro=0), teacher=policy)
    frozen, _ = gradient(policy, groups(), replace(NUMBERS, macro=0), teacher=policy.clone())
    assert torch.equal(live, frozen)
    assert live.norm() > 1e-2


def test_hybrid_is_macro_plus_lambda_micro(policy: Policy, teacher: Policy) -> None:
    both, _ = gradient(policy, groups(), teacher=teacher)
    macro, grpo = gradient(policy, groups(), replace(NUMBERS, micro=0), teacher=teacher)
    micro, distilled = gradient(policy, groups(), replace(NUMBERS, macro=0, micro=1.0), teacher=teacher)
    assert_same(both, macro + 0.7 * micro, 1e-6)
    # Each alone is what it is without the other's replies.
    without, _ = gradient(policy, [replace(group, taught=()) for group in groups()], replace(NUMBERS, micro=0))
    assert_same(macro, without, 1e-6)
    without, _ = gradient(policy, [replace(g, ranked=()) for g in groups()], replace(NUMBERS, micro=1), teacher=teacher)
    assert_same(micro, without, 1e-6)
    assert "divergence" not in grpo.metrics and "clip_share" not in distilled.metrics


def test_macro_term_against_the_plain_formula(policy: Policy) -> None:
    # -min(r A, clip(r, 0.8, 1.28) A), r against the recorded log-probabilities at the sampling temperature 0.9.
    total, clipped, tokens = torch.zeros((), dtype=torch.float64), 0.0, 0
    for group in groups()[:4]:
        for reply in group.ranked:
            logits = plain_logits(policy.model, [PackedGroup(group.prompt, (Segment(reply.ids),))]) / 0.9
            logp = logits.log_softmax(-1)[range(len(reply.ids)), list(reply.ids)]
            ratio = (logp - torch.tensor(reply.old_logps)).exp()
            gain, bound = ratio * reply.advantage, ratio.clamp(0.8, 1.28) * reply.advantage
            total = total - torch.minimum(gain, bound).sum()
            clipped += float((bound < gain).sum())
            tokens += len(reply.ids)
    (total / tokens).backward()
    want = torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()])
    policy.model.zero_grad(set_to_none=True)
    got, result = gradient(policy, groups(), replace(NUMBERS, micro=0))
    assert_same(got, want, 1e-5)
    assert 0 < result.metrics["clip_share"] < 1
    assert result.metrics["clip_share"] == pytest.approx(clipped / tokens)


def test_micro_term_against_the_plain_formula(policy: Policy, teacher: Policy) -> None:
    # KL(teacher(. | prompt, feedback, y<t) || student(. | prompt, y<t)), mean over all taught tokens of the step.
    total = torch.zeros((), dtype=torch.float64)
    tokens = 0
    for group in groups():
        for reply in group.taught:
            alone = PackedGroup(group.prompt, (Segment(reply.ids),))
            told = PackedGroup((*group.prompt, *reply.feedback), (Segment(reply.ids),))
            p = plain_logits(teacher.model, [told]).detach().log_softmax(-1)
            q = plain_logits(policy.model, [alone]).log_softmax(-1)
            total = total + (p.exp() * (p - q)).sum()
            tokens += len(reply.ids)
    (0.7 * total / tokens).backward()
    want = torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()])
    policy.model.zero_grad(set_to_none=True)
    # The teacher's log-probabilities are taken in float32.
    got, _ = gradient(policy, groups(), replace(NUMBERS, macro=0), teacher=teacher)
    assert_same(got, want, 1e-5)


@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_packed_equals_plain(policy: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch, kl: float) -> None:
    numbers, options = replace(NUMBERS, kl=kl), {"teacher": teacher, "reference": teacher}
    packed, one = gradient(policy, groups(), numbers, **options)
    asked: list[bool] = []
    scores = room.scores
    monkeypatch.setattr(room, "obstacle", lambda model: "a test says so")
    monkeypatch.setattr(room, "scores", lambda *args, packed: (asked.append(packed), scores(*args, packed=packed))[1])
    plain, two = gradient(policy, groups(), numbers, **options)
    assert set(asked) == {False}
    assert_same(packed, plain, 1e-5)
    assert one.metrics == pytest.approx(two.metrics, rel=1e-5)


@pytest.mark.parametrize("top_k", [0, 5])
def test_recorded_distributions_equal_a_forward_of_the_teacher(policy: Policy, teacher: Policy, top_k: int) -> None:
    lessons, prompts = groups(), []
    for group in lessons:
        prompts += [(*group.prompt, *reply.feedback) for reply in group.taught]
    requests = [SampleRequest(prompt, (i,)) for i, prompt in enumerate(prompts)]
    sampled = sample(teacher, requests, max_tokens=8, temperature=0.7, record_top_k=top_k)
    written = iter(each[0] for each in sampled)
    taken = [[(reply, next(written)) for reply in group.taught] for group in lessons]
    recorded, asked = (
        [
            replace(
                group,
                taught=tuple(
                    TaughtReply(new.completion.token_ids, new.teacher if known else None, () if known else old.feedback)
                    for old, new in some
                ),
            )
            for group, some in zip(lessons, taken, strict=True)
        ]
        for known in (True, False)
    )
    numbers = replace(NUMBERS, top_k=top_k, macro=0)
    want, one = gradient(policy, asked, numbers, teacher=teacher)
    got, two = gradient(policy, recorded, numbers)
    assert_same(got, want, 1e-5)
    assert two.metrics == pytest.approx(one.metrics, rel=1e-5)


def test_top_k_beyond_the_vocabulary_compares_all(policy: Policy, teacher: Policy) -> None:
    want, _ = gradient(policy, groups(), replace(NUMBERS, macro=0), teacher=teacher)
    got, _ = gradient(policy, groups(), replace(NUMBERS, macro=0, top_k=10_000), teacher=teacher)
    # All but the least likely token, and the rest, which is that token.
    assert_same(got, want, 1e-5)


def test_missing_teacher_is_an_error(policy: Policy) -> None:
    with pytest.raises(ValueError, match="need a teacher"):
        gradient(policy, groups())


def test_gradients_are_clipped_and_the_norm_before_is_logged(policy: Policy, teacher: Policy) -> None:
    free, one = gradient(policy, groups(), teacher=teacher)
    clipped, two = gradient(policy, groups(), replace(NUMBERS, grad_clip=0.01), teacher=teacher)
    assert one.metrics["gradient_norm"] == two.metrics["gradient_norm"] == pytest.approx(float(free.norm()))
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    with RunDirectory.create(tmp_path / "run", RunConfig()) as made:
        yield made


class NoSteps(Exception):
    """Raised where training would start."""


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_plain_updates_are_announced_once(
    policy: Policy,
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dropout: float,
) -> None:
    class Idle:
        def __init__(self) -> None:
            self.policy = policy

        def step(self, *_: object) -> None:
            raise NoSteps

    monkeypatch.setattr(stages, "make_trainer", lambda *_: Idle())
    policy.model.config.attention_dropout = dropout
    with pytest.raises(NoSteps):
        stages.learn(run, Parts(run.config, run.path, print), policy, Terminal(quiet=True))
    shown = " ".join(capsys.readouterr().err.split())
    notice = "this model cannot share prefixes (it trains with dropout); updates take the plain, slower path"
    assert shown == (f"warning: {notice}" if dropout else "")


@pytest.mark.parametrize("twice", [False, True])
def test_an_unpackable_model_learns_the_same(policy: Policy, teacher: Policy, twice: bool) -> None:
    lessons = own(groups()) if twice else groups()
    packed, _ = gradient(policy, lessons, teacher=teacher)
    policy.model.config.attention_dropout = 0.1
    assert room.obstacle(policy.model) is not None
    plain, _ = gradient(policy, lessons, teacher=teacher)
    assert_same(plain, packed, 1e-5)


@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_terms_kept_apart_until_counted_give_the_same(policy: Policy, teacher: Policy, kl: float) -> None:
    numbers, options = replace(NUMBERS, kl=kl), {"teacher": teacher, "reference": teacher}
    want, one = gradient(policy, groups(), numbers, replay=REPLAY, **options)
    recorder, late = Recorder(policy), Gradient(policy, numbers, **options)
    for start, stop in ((0, 1), (1, 4), (4, 6)):
        late.add(groups()[start:stop])
    two = late.apply(recorder, REPLAY)
    assert recorder.gradient is not None
    assert_same(recorder.gradient, want, 1e-6)
    assert two.metrics == pytest.approx(one.metrics, rel=1e-6)
    assert_same_divergences(one, two)


@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("chunk", [3, 10_000])
@pytest.mark.parametrize("tokens", [1, 90, 10_000])
def test_replies_ranked_and_taught_at_once_teach_what_they_teach_one_after_the_other(
    policy: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch, top_k: int, chunk: int, tokens: int
) -> None:
    numbers = replace(NUMBERS, kl=0.1, top_k=top_k, tokens_per_forward=10_000)
    options = {"teacher": teacher, "reference": teacher}
    macro, ranked = gradient(policy, own(groups()), replace(numbers, micro=0), **options)
    micro, taught = gradient(policy, own(groups()), replace(numbers, macro=0, kl=0.0, micro=1.0), **options)
    monkeypatch.setitem(CHUNK_TOKENS, "cpu", chunk)
    both, found = gradient(policy, own(groups()), replace(numbers, tokens_per_forward=tokens), **options)
    assert_same(both, macro + 0.7 * micro, 1e-6)
    apart = {**taught.metrics, **ranked.metrics, "micro_tokens": taught.metrics["micro_tokens"]}
    assert {**found.metrics, "gradient_norm": 0} == pytest.approx({**apart, "gradient_norm": 0}, rel=1e-6)
    assert [len(some) for some in found.divergences] == [2, 1, 3, 2, 1, 0]
    assert_same_divergences(taught, found)


def test_replies_ranked_and_taught_are_encoded_once(
    policy: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons, read, projected = own(groups())[:2], [], []
    for model, seen in ((policy.model.model.embed_tokens, read), (policy.model.lm_head, projected)):
        model.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(inputs[0].shape[0]))
    gradient(policy, lessons, teacher=teacher)
    replies = sum(len(reply.ids) for group in lessons for reply in group.ranked)
    assert sum(read) == sum(len(group.prompt) for group in lessons) + replies
    assert sum(projected) == replies


@pytest.mark.parametrize("top_k", [0, 5])
def test_chunks_of_the_vocabulary_change_nothing(
    policy: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch, top_k: int
) -> None:
    numbers, options = replace(NUMBERS, kl=0.1, top_k=top_k), {"teacher": teacher, "reference": teacher}
    want, one = gradient(policy, groups(), numbers, **options)
    monkeypatch.setitem(CHUNK_TOKENS, "cpu", 3)
    got, two = gradient(policy, groups(), numbers, **options)
    assert_same(got, want, 1e-6)
    assert two.metrics == pytest.approx(one.metrics, rel=1e-6)
    assert_same_divergences(one, two)


def test_checkpointing_changes_nothing(policy: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"teacher": teacher, "reference": teacher, "replay": REPLAY}
    want, one = gradient(policy, groups(), **options)
    checkpoint_activations(policy.model)
    again, run = [], decoder.checkpoint
    monkeypatch.setattr(decoder, "checkpoint", lambda *args, **more: (again.append(1), run(*args, **more))[1])
    got, two = gradient(policy, groups(), **options)
    # Two layers, in the forward passes of the policy alone.
    assert again and len(again) % 2 == 0
    assert torch.equal(got, want)
    assert one == two


@pytest.mark.parametrize("packed", [True, False])
def test_autocast_stays_within_the_rounding_of_bfloat16(
    policy: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    policy.model.float()
    options = {"teacher": teacher, "reference": teacher, "replay": REPLAY}
    want, _ = gradient(policy, groups(), **options)
    if not packed:
        monkeypatch.setattr(room, "obstacle", lambda model: "a test says so")
    policy.autocast = policy.clone().autocast = True
    got, _ = gradient(policy, groups(), **options)
    # bfloat16 has 8 bits: 0.4% for each product, and the two layers have few of them.
    assert got.dtype == torch.float32
    assert 1e-4 * want.norm() < (got - want).norm() < 0.05 * want.norm()


def test_under_autocast_the_update_sees_the_policy_that_sampled(policy: Policy) -> None:
    policy.model.float()
    policy.autocast = True
    prompt, numbers = (5, 6, 7, 8), replace(NUMBERS, micro=0)
    written = sample(policy, [SampleRequest(prompt, tuple(range(8)))], max_tokens=9, temperature=0.9)[0]
    replies = tuple(RankedReply(o.completion.token_ids, o.completion.logps, (-1.0) ** i) for i, o in enumerate(written))
    _, same = gradient(policy, [TrainingGroup(prompt, replies)], numbers)
    policy.autocast = False
    _, other = gradient(policy, [TrainingGroup(prompt, replies)], numbers)
    assert same.metrics["approx_kl"] < 0.5 * other.metrics["approx_kl"]


def test_every_term_against_the_plain_formula(policy: Policy, teacher: Policy) -> None:
    # macro, 0.1 KL to the reference (k3, temperature of sampling), 0.5 replay; with kl > 0 the tied group counts.
    numbers = replace(NUMBERS, micro=0, kl=0.1)
    total, tokens = torch.zeros((), dtype=torch.float64), sum(len(r.ids) for g in groups()[:5] for r in g.ranked)
    distances = 0.0
    for group in groups()[:5]:
        for reply in group.ranked:
            row = [PackedGroup(group.prompt, (Segment(reply.ids),))]
            mine, theirs = (
                (plain_logits(each.model, row) / 0.9).log_softmax(-1)[range(len(reply.ids)), list(reply.ids)]
                for each in (policy, teacher)
            )
            ratio = (mine - torch.tensor(reply.old_logps)).exp()
            gain = torch.minimum(ratio * reply.advantage, ratio.clamp(0.8, 1.28) * reply.advantage)
            gap = theirs.detach() - mine
            distance = gap.exp() - 1 - gap
            distances += float(distance.detach().sum())
            total = total + (-gain + 0.1 * distance).sum() / tokens
    learnt = [(example, i) for example in REPLAY for i, learn in enumerate(example.learn) if learn]
    for example, i in learnt:
        logits = policy.model(torch.tensor([example.ids])).logits[0, i - 1]
        total = total - 0.5 * logits.log_softmax(-1)[example.ids[i]] / len(learnt)
    total.backward()
    want = torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()])
    policy.model.zero_grad(set_to_none=True)
    got, result = gradient(policy, groups(), numbers, reference=teacher, replay=REPLAY)
    assert_same(got, want, 1e-5)
    assert result.metrics["reference_kl"] == pytest.approx(distances / tokens, rel=1e-5)


def test_distance_to_the_start_by_hand(policy: Policy, teacher: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHUNK_TOKENS, "cpu", 3)
    total, tokens = 0.0, 0
    for group in groups()[:3]:
        for reply in group.ranked:
            row = [PackedGroup(group.prompt, (Segment(reply.ids),))]
            mine, theirs = (
                plain_logits(each.model, row).log_softmax(-1)[range(len(reply.ids)), list(reply.ids)]
                for each in (policy, teacher)
            )
            total += float(((theirs - mine).exp() - 1 - (theirs - mine)).detach().sum())
            tokens += len(reply.ids)
    assert room.kl_to(teacher, policy, groups()[:3]) == pytest.approx(total / tokens, rel=1e-5)


def test_what_is_lacking_is_an_error(policy: Policy, teacher: Policy) -> None:
    with pytest.raises(ValueError, match="a distance to the reference needs one"):
        gradient(policy, groups(), replace(NUMBERS, kl=0.1), teacher=teacher)
    one = sample(teacher, [SampleRequest((5, 6), (1,))], max_tokens=4, temperature=1.0, record_top_k=0)[0][0]
    mixed = (TaughtReply(one.completion.token_ids, one.teacher), TaughtReply((7, 8), feedback=(9,)))
    with pytest.raises(ValueError, match="some taught replies are recorded"):
        gradient(policy, [TrainingGroup((5, 6), (), mixed)], teacher=teacher)


def test_autocast_reaches_every_product(policy: Policy) -> None:
    policy.model.float()
    policy.autocast, found = True, []
    layer = policy.model.model.layers[1].mlp.down_proj
    hooks = [m.register_forward_hook(lambda _, __, out: found.append(out.dtype)) for m in (layer, policy.model.lm_head)]
    prompt = (5, 6, 7)
    written = sample(policy, [SampleRequest(prompt, (1, 2))], max_tokens=2, temperature=1.0)[0]
    replies = tuple(RankedReply(o.completion.token_ids, o.completion.logps, (-1.0) ** i) for i, o in enumerate(written))
    gradient(policy, [TrainingGroup(prompt, replies)], replace(NUMBERS, micro=0), replay=REPLAY)
    for hook in hooks:
        hook.remove()
    assert len(found) > 6 and set(found) == {torch.bfloat16}


def test_in_bfloat16_the_ratio_is_one_where_nothing_has_changed(policy: Policy) -> None:
    policy.model.bfloat16()
    prompt, numbers = (5, 6, 7, 8), replace(NUMBERS, micro=0, temperature=1.0)
    ids = [(9, 10, 11, 12), (30, 31, 32, 33, 34)]
    rows = [PackedGroup(prompt, tuple(map(Segment, ids)))]
    with torch.no_grad():
        logps = room.token_logps(completion_logits(policy.model, rows, packed=True), scored_ids(rows)).tolist()
    replies = (RankedReply(ids[0], tuple(logps[:4]), 1.0), RankedReply(ids[1], tuple(logps[4:]), -1.0))
    _, result = gradient(policy, [TrainingGroup(prompt, replies)], numbers)
    assert result.metrics["ratio"] == pytest.approx(1, abs=1e-6)
