"""Supervised fine-tuning: what is learnt, in which batches, at which rate."""

from __future__ import annotations

import math
import re

import pytest
import torch

from rapo.errors import RunError
from rapo.models.policy import Policy
from rapo.models.scratch import CHATML, new_policy
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.packing import PackedGroup, Segment, plain_logits
from rapo.optimize.render import Example, dialogue_examples, only_words, reply_example
from rapo.optimize.sft import SftStep, batch_loss, make_batches, mean_loss, schedule, train_sft
from rapo.types import Message

TALK = (Message("user", "ab"), Message("assistant", "cd"), Message("user", "e"), Message("assistant", "f"))
# Shows what the assistant said before as "old": past replies differ from the one being written.
FORGETFUL = CHATML.replace("m['content']", "('old' if m['role'] == 'assistant' and not loop.last else m['content'])")


@pytest.fixture
def policy() -> Policy:
    """Its only tokens of several characters are the names of the roles."""
    torch.set_num_threads(1)
    return new_policy([], vocab_size=300, hidden=16, layers=1, heads=1, max_context=64, seed=0)


def learnt(policy: Policy, example: Example) -> str:
    """The tokens of an example in order, those that are learnt in brackets."""
    assert len(example.ids) == len(example.learn)
    tokens = policy.tokenizer.convert_ids_to_tokens(list(example.ids))
    short = {"<|im_start|>": "S", "<|im_end|>": "E", "Ċ": "/"}
    shown = [short.get(token, token) for token in tokens]
    return " ".join(f"[{token}]" if learn else token for token, learn in zip(shown, example.learn, strict=True))


def test_only_replies_and_their_ends_are_learnt(policy: Policy) -> None:
    (example,) = dialogue_examples(policy, TALK)
    wanted = "S user / a b E / S assistant / [c] [d] [E] / S user / e E / S assistant / [f] [E] /"
    assert learnt(policy, example) == wanted


def test_from_a_message_on(policy: Policy) -> None:
    (example,) = dialogue_examples(policy, TALK, first=2)
    assert learnt(policy, example).count("[") == 2
    assert learnt(policy, example).endswith("[f] [E] /")


def test_a_template_that_rewrites_past_turns_gives_one_sequence_per_reply(policy: Policy) -> None:
    policy.tokenizer.chat_template = FORGETFUL
    one, two = dialogue_examples(policy, TALK)
    assert learnt(policy, one) == "S user / a b E / S assistant / [c] [d] [E]"
    assert learnt(policy, two) == ("S user / a b E / S assistant / o l d E / S user / e E / S assistant / [f] [E]")
    (last,) = dialogue_examples(policy, TALK, first=2)
    assert learnt(policy, last) == learnt(policy, two) + " /"
    # A dialogue with one reply, the last, is not rewritten.
    assert len(dialogue_examples(policy, TALK[:2])) == 1


def test_a_greeting_nobody_asked_for_is_context(policy: Policy) -> None:
    (example,) = dialogue_examples(policy, [Message("assistant", "x"), *TALK[:2]])
    assert learnt(policy, example) == "S assistant / x E / S user / a b E / S assistant / [c] [d] [E] /"


def test_reply_example(policy: Policy) -> None:
    assert learnt(policy, reply_example(policy, TALK[:1], "x")) == "S user / a b E / S assistant / [x] [E]"


@pytest.mark.parametrize(("phrases", "marked"), [(("bc",), ["[c]"]), (("BC", "e"), ["[c]", "[e]"]), (("b",), [])])
def test_only_words(policy: Policy, phrases: tuple[str, ...], marked: list[str]) -> None:
    example = only_words(policy, reply_example(policy, [Message("user", "bc e")], "a bc, e."), phrases)
    # A letter that only begins a longer word completes nothing once the word goes on, but is marked when it is met.
    found = re.findall(r"\[\S+\]", learnt(policy, example))
    assert found == (marked or ["[b]"])


def test_loss_is_the_sum_over_learnt_tokens_of_unpadded_rows(policy: Policy) -> None:
    examples = [*dialogue_examples(policy, TALK), reply_example(policy, TALK[:1], "xyz")]
    loss, count = batch_loss(policy, examples)
    # "cd" and "f" with an end each, "xyz" with its end: 3 + 2 + 4.
    assert count == 9
    want = 0.0
    for example in examples:
        row = PackedGroup(example.ids[:1], (Segment(example.ids[1:]),))
        logps = plain_logits(policy.model, [row]).log_softmax(-1).detach()
        want -= sum(float(logps[i - 1, example.ids[i]]) for i in range(1, len(example.ids)) if example.learn[i])
    assert loss.item() == pytest.approx(want, rel=1e-5)
    assert mean_loss(policy, examples, batch_tokens=1) == pytest.approx(want / 9, rel=1e-5)
    assert mean_loss(policy, examples, batch_tokens=10_000) == pytest.approx(want / 9, rel=1e-5)
    assert math.isnan(mean_loss(policy, [], batch_tokens=10))


def lengths(*sizes: int) -> list[Example]:
    """Examples of these lengths, each with its number as ids."""
    return [Example((i,) * size, (True,) * size) for i, size in enumerate(sizes)]


POOL = lengths(*[3 + i * 7 % 40 for i in range(300)], 500)


@pytest.mark.parametrize("epochs", [1.0, 2.0])
def test_batches_keep_the_budget_and_pass_over_all(epochs: float) -> None:
    batches = make_batches(POOL, batch_tokens=120, epochs=epochs, seed=0)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(e.ids) for e in batch) <= 120
    seen = [example.ids[0] for batch in batches for example in batch]
    assert sorted(seen) == sorted(list(range(301)) * int(epochs))
    # Full: one more example of the same length would not have fitted, but for the last of a window of 256.
    assert sum(len(b) * max(len(e.ids) for e in b) < 60 for b in batches) <= 2 * epochs
    # Little is padding.
    padded = sum(len(b) * max(len(e.ids) for e in b) for b in batches)
    assert sum(len(e.ids) for b in batches for e in b) > 0.9 * padded


def test_a_part_of_an_epoch_stops_at_its_tokens() -> None:
    batches = make_batches(lengths(*[10] * 20), batch_tokens=20, epochs=0.5, seed=0)
    assert [len(batch) for batch in batches] == [2] * 5  # 100 of 200 tokens
    assert make_batches([], batch_tokens=20, epochs=1.0, seed=0) == []


def test_batches_are_seeded() -> None:
    first, again, other = (make_batches(POOL, batch_tokens=120, epochs=2.0, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first[: len(first) // 2] != first[len(first) // 2 :], "each pass is shuffled anew"


@pytest.mark.parametrize(
    ("steps", "warmup", "scales"),
    [
        # Rises in ceil(5 * 0.4) = 2 steps, then 1 - 0.9 s / 3 for s = 0, 1, 2.
        (5, 0.4, [0.5, 1.0, 1.0, 0.7, 0.4]),
        (4, 0.0, [1.0, 0.775, 0.55, 0.325]),  # 1 - 0.9 s / 4
        (1, 0.05, [1.0]),
        (1, 0.0, [1.0]),
    ],
)
def test_schedule(steps: int, warmup: float, scales: list[float]) -> None:
    assert [schedule(step, steps, warmup) for step in range(steps)] == pytest.approx(scales)


def test_training_learns_the_replies(policy: Policy) -> None:
    examples = dialogue_examples(policy, TALK)
    told, length = list[SftStep](), len(examples[0].ids)
    before = mean_loss(policy, examples, batch_tokens=100)
    optimizer = Optimizer(policy, lr=0.01, muon_lr=0.05)
    train_sft(policy, optimizer, [examples] * 30, warmup=0.2, grad_clip=1.0, on_step=told.append)
    assert [(each.step, each.steps, each.tokens) for each in told] == [(i, 30, length) for i in range(1, 31)]
    assert told[0].loss == pytest.approx(before, rel=1e-5)
    assert mean_loss(policy, examples, batch_tokens=100) < 0.5 * before


# The first step's loss is finite whatever its rate is: only what follows shows it, be it another step or not.
@pytest.mark.parametrize(("batches", "when"), [(1, "the last step"), (3, "step 2 of 3")])
def test_a_loss_that_is_no_number_ends_the_training(policy: Policy, batches: int, when: str) -> None:
    steps, optimizer, batch = list[SftStep](), Optimizer(policy, lr=1e38), dialogue_examples(policy, TALK)
    with pytest.raises(RunError, match=f"not finite at {when}, .*got (nan|inf); lower sft.adam_lr"):
        train_sft(policy, optimizer, [batch] * batches, warmup=0, grad_clip=1.0, on_step=steps.append)
    assert len(steps) == 1


def test_a_gradient_that_is_no_number_leaves_the_weights_alone(policy: Policy) -> None:
    before = [weight.clone() for weight in policy.model.parameters()]
    policy.model.get_output_embeddings().weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(RunError, match="the gradient of fine-tuning is not finite at step 1 of 1"):
        train_sft(policy, Optimizer(policy, lr=0.01), [dialogue_examples(policy, TALK)], warmup=0, grad_clip=1.0)
    assert all(torch.equal(*pair) for pair in zip(before, policy.model.parameters(), strict=True))
