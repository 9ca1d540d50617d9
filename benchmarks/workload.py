"""Models with random weights that every contender of a benchmark loads from one folder, and prompts in their words.

A word is a token: the tokenizer knows ``w6``, ``w7``, ... so that a prompt has exactly the length it is asked for. The
end token's id is one past the vocabulary the model can write, so every reply has full length, and nobody pays for a
rule that forbids ending.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config
from transformers.utils.logging import disable_progress_bar

SPECIALS = ("<|pad|>", "<|unknown|>", "<|turn|>")
ROLES = ("system", "user", "assistant")
TEMPLATE = (
    "{% for m in messages %}{{ '<|turn|>' + m['role'] + ' ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn|>assistant ' }}{% endif %}"
)
STEPS = 32  # after so many, contexts come again
TEMPLATE_TOKENS = 4  # what the template adds to a prompt of one message
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden": 32, "feed": 64, "layers": 2, "heads": 4, "kv_heads": 2, "width": 8},
    "6m": {"hidden": 256, "feed": 1024, "layers": 4, "heads": 8, "kv_heads": 4, "width": 32},
    "0.6b": {"hidden": 1024, "feed": 3072, "layers": 28, "heads": 16, "kv_heads": 8, "width": 128},
    "4b": {"hidden": 2560, "feed": 9728, "layers": 36, "heads": 32, "kv_heads": 8, "width": 128},
}


@dataclass(frozen=True, slots=True)
class Point:
    """What is measured.

    Attributes:
        prompt, reply, group: P tokens of context, C of each reply, G replies.
        groups: contexts per step.
        feedback: tokens of the text that tells the teacher what was wrong with a reply.
        corrections: replies of a group that our teacher writes anew (the contender that learns from corrections).
        rival_rows: replies per forward pass of the rivals that split a step.
        vocabulary, shape, dtype: of the model.
        device, threads: where it runs.
    """

    prompt: int = 512
    reply: int = 64
    group: int = 8
    groups: int = 1
    feedback: int = 32
    corrections: int = 4
    rival_rows: int = 1
    vocabulary: int = 8192
    shape: str = "6m"
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1


def write_model(folder: Path, shape: str, vocabulary: int, *, dtype: str = "float32") -> int:
    """Write a Qwen3 with seeded random weights and its tokenizer; returns its number of parameters.

    Args:
        folder: becomes a Hugging Face model folder.
        shape: a key of ``SHAPES``; ``6m`` has 6.0M parameters with 8,192 tokens.
        vocabulary: tokens the model can read and write.
        dtype: of the weights.
    """
    size = SHAPES[shape]
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=size["hidden"],
        intermediate_size=size["feed"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["kv_heads"],
        head_dim=size["width"],
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    disable_progress_bar()
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    tokenizer(vocabulary).save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token per word, and a chat template of two tokens per turn."""
    named = (*SPECIALS, *ROLES)
    words = {name: i for i, name in enumerate(named)} | {f"w{i}": i for i in range(len(named), vocabulary)}
    made = Tokenizer(models.WordLevel({**words, "<|end|>": vocabulary}, unk_token="<|unknown|>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<|pad|>",
        unk_token="<|unknown|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|turn|>"],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def words(count: int, vocabulary: int, *key: Any) -> str:
    """A text of ``count`` tokens, the same for the same key."""
    draw = random.Random(repr(key))
    first = len(SPECIALS) + len(ROLES)
    return " ".join(f"w{draw.randrange(first, vocabulary)}" for _ in range(count))


def dialogues(point: Point) -> list[tuple[str, str]]:
    """What a user says, a prompt of P tokens once the template is around it, and what is to be said of the replies."""
    return [
        (
            words(point.prompt - TEMPLATE_TOKENS, point.vocabulary, "prompt", number),
            words(point.feedback, point.vocabulary, "feedback", number),
        )
        for number in range(STEPS * point.groups)
    ]
