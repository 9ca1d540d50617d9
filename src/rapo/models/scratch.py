"""A small policy made from nothing: a tokenizer trained on given texts and a Qwen3 with seeded random weights."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from rapo.errors import ModelError
from rapo.models.policy import Policy

TURN_START, TURN_END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def new_policy(
    texts: Iterable[str], *, vocab_size: int, hidden: int, layers: int, heads: int, max_context: int, seed: int
) -> Policy:
    """A policy with random weights; the same arguments give identical weights and vocabulary.

    Args:
        texts: what the tokenizer is trained on; a word seen often becomes one token with the space before it.
        vocab_size: the most tokens to have (at least 300); fewer when the texts have no more to merge.
        hidden: width, a multiple of 2 * ``heads``; the feed-forward layers are three times as wide.
        layers: number of layers.
        heads: attention heads.
        max_context: longest prompt plus completion, in tokens.
        seed: of the weights; the global generator is left as it was.

    Raises:
        ModelError: ``vocab_size`` or ``hidden`` cannot work.
    """
    if vocab_size < 300:
        raise ModelError(
            "vocab_size is too small", got=vocab_size, expected="at least 300 (256 bytes, 3 specials, merges)"
        )
    if hidden % (2 * heads):
        raise ModelError("hidden does not divide into heads", got=hidden, expected=f"a multiple of {2 * heads}")
    tokenizer = _train_tokenizer(texts, vocab_size, max_context)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        max_position_embeddings=max_context,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return Policy(model, tokenizer)


def _train_tokenizer(texts: Iterable[str], vocab_size: int, max_context: int) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[PAD, TURN_START, TURN_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The template writes the role names in every turn, so they must be whole tokens even where no text says them.
    roles = ["system", "user", "assistant"] * 1000
    bpe.train_from_iterator(chain(texts, roles), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=TURN_END,
        pad_token=PAD,
        additional_special_tokens=[TURN_START],
        chat_template=CHATML,
        model_max_length=max_context,
        clean_up_tokenization_spaces=False,
    )
