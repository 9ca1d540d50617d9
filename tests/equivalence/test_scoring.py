"""How likely a policy finds given replies: batches against one plain forward per row."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from rapo.interact.play import Scorer
from rapo.models import scoring
from rapo.models.policy import Policy
from rapo.models.scoring import log_likelihoods
from rapo.models.speaker import PolicySpeaker
from rapo.types import Dialogue, Message, Reaction, Scenario, Turn

ROWS = [([5, 6, 7], [8, 9]), ([5] * 20, [4, 3, 2, 1, 7]), ([9], [11]), ([3, 4, 5, 6, 7, 8], [10] * 9)]
OPEN = Dialogue(Scenario("s", "", (Message("user", "I feel so alone"),), 5.0))
LATER = Dialogue(OPEN.scenario, (Turn("Who could you call ?", Reaction("my friend", 6.0)),))


def plain(model: PreTrainedModel, prompt: list[int], reply: list[int]) -> float:
    """The same by the chain rule, one row and every logit."""
    model.eval()
    with torch.no_grad():
        logps_TV = model(torch.tensor([[*prompt, *reply]])).logits[0].log_softmax(-1)
    return sum(logps_TV[len(prompt) + t - 1, token].item() for t, token in enumerate(reply))


@pytest.mark.parametrize("model_type", ["qwen3", "gpt2", "granite"])
@pytest.mark.parametrize("most", [1, 1 << 20])
def test_batches_change_nothing(make_model: Callable[..., PreTrainedModel], policy, model_type, most, monkeypatch):
    own = {"gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2}, "granite": {"logits_scaling": 5.0}}
    model = make_model(model_type, **own.get(model_type, {}))
    monkeypatch.setattr(scoring, "MOST_TOKENS", most)
    found = log_likelihoods(Policy(model, policy.tokenizer), ROWS)
    assert found == pytest.approx([plain(model, *row) for row in ROWS], abs=1e-4)


def test_rows_are_taken_together_within_both_bounds(monkeypatch):
    lengths = [(10, 2), (10, 2), (11, 2), (40, 2)]
    rows = [([0] * prompt, [0] * reply) for prompt, reply in lengths]
    assert list(scoring._batches(rows, 50)) == [[0, 1, 2, 3]]
    monkeypatch.setattr(scoring, "MOST_TOKENS", 40)  # 3 rows of 13 fit, 4 of 42 do not, nor does 1: alone
    assert list(scoring._batches(rows, 50)) == [[0, 1, 2], [3]]
    monkeypatch.setattr(scoring, "MOST_LOGITS", 2 * 3 * 50)  # 2 rows, 2 tokens and the one before, 50 logits each
    assert list(scoring._batches(rows, 50)) == [[0, 1], [2], [3]]


def test_a_policy_scores_what_it_would_say(policy: Policy):
    speaker = PolicySpeaker(policy, "Be kind .", max_tokens=8, temperature=0.3)
    assert isinstance(speaker, Scorer)
    replies = ["the evening feels long", "I moved away ."]
    found = speaker.score([OPEN, LATER], replies)
    for dialogue, reply, (logp, count) in zip([OPEN, LATER], replies, found, strict=True):
        ids = policy.encode_reply(reply)
        assert count == len(ids) and ids[-1] == policy.end_of_turn
        # At temperature 1, whatever it samples at.
        assert logp == pytest.approx(plain(policy.model, list(speaker.prompt(dialogue.messages)), ids), abs=1e-3)
        assert not math.isclose(logp, 0)


def test_what_is_too_long_has_no_score(policy: Policy):
    speaker = PolicySpeaker(policy, None, max_tokens=8, temperature=1.0)
    assert speaker.score([OPEN, OPEN], ["friend " * 200, "friend"])[0] is None
    assert speaker.score([OPEN, OPEN], ["friend " * 200, "friend"])[1] == speaker.score([OPEN], ["friend"])[0]
