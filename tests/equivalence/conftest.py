"""Tiny random models that the equivalence tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from rapo.models.policy import Policy
from rapo.models.scratch import new_policy

TEXTS = ["I feel so alone since my friend moved away .", "Who could you call when the evening feels long ?"] * 20


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_model() -> Callable[..., PreTrainedModel]:
    """A two-layer model with 61 tokens, grouped-query attention and large weights, so that errors show."""

    def make(model_type: str = "qwen3", *, attention: str = "sdpa", **extra: Any) -> PreTrainedModel:
        config = AutoConfig.for_model(
            model_type,
            **{
                "vocab_size": 61,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "max_position_embeddings": 128,
                "initializer_range": 0.3,
                "pad_token_id": 0,
                "eos_token_id": 1,
                "bos_token_id": 2,
                **extra,
            },
        )
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention)

    return make


@pytest.fixture(scope="session")
def policy() -> Policy:
    """A policy whose distributions are far from uniform and where a sixth of the vocabulary ends a reply."""
    made = new_policy(TEXTS, vocab_size=320, hidden=32, layers=2, heads=2, max_context=96, seed=3)
    with torch.no_grad():
        made.model.get_input_embeddings().weight.mul_(6)
    made.model.generation_config.eos_token_id = [2, *range(100, 150)]
    return made
