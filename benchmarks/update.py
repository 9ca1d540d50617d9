"""The update's forward and backward pass: shared-prefix rows against ordinary rows, same model, same process.

    python benchmarks/update.py [--prompt 512 --reply 64 --group 8 --threads 1]

"plain" is what most code does: one row [prompt + reply] per candidate, logits at every position, sliced afterwards.
"plain, kept logits" projects the vocabulary at the predicted positions only, as ours does, so that what is left is the
prefix alone. Medians over alternating runs; a table and JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from rapo.optimize.losses import grpo, token_logps
from rapo.optimize.packing import PackedGroup, Segment, completion_logits, plain_logits, scored_ids


def main() -> None:
    """Time the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("prompt", 512), ("reply", 64), ("group", 8), ("threads", 1), ("runs", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, default=Path("runs/update.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(shape())
    group = make_group(args.prompt, args.reply, args.group, model.config.vocab_size)
    ways: dict[str, Callable[[], Tensor]] = {
        "shared prefix": lambda: completion_logits(model, [group], packed=True),
        "plain": lambda: all_logits(model, group),
        "plain, kept logits": lambda: plain_logits(model, [group]),
    }
    seconds = {name: [] for name in ways}
    for _ in range(args.runs + 1):
        for name, logits in ways.items():
            seconds[name].append(timed(model, group, logits))
    medians = {name: statistics.median(some[1:]) for name, some in seconds.items()}
    parameters = sum(weight.numel() for weight in model.parameters())
    print(
        f"{parameters / 1e6:.1f}M parameters, P={args.prompt} C={args.reply} G={args.group}, {args.threads} thread(s)"
    )
    for name, median in medians.items():
        print(f"{name:<20} {median:7.3f} s   {median / medians['shared prefix']:5.2f} x")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(
        json.dumps({"v": 1, "shape": vars(args) | {"json": str(args.json)}, "seconds": seconds}) + "\n"
    )


def shape() -> Qwen3Config:
    """The 6M-parameter model that is measured."""
    return Qwen3Config(
        vocab_size=8192,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )


def make_group(prompt: int, reply: int, size: int, vocabulary: int) -> PackedGroup:
    """Random tokens in the layout of a group."""
    draw = random.Random(0)
    prefix, *replies = (
        tuple(draw.randrange(vocabulary) for _ in range(length)) for length in (prompt, *[reply] * size)
    )
    return PackedGroup(prefix, tuple(Segment(ids) for ids in replies))


def all_logits(model: Qwen3ForCausalLM, group: PackedGroup) -> Tensor:
    """Logits [N, V] by one ordinary row per reply and the whole output of the model."""
    ids = torch.tensor([group.prefix + segment.ids for segment in group.segments])
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits[:, len(group.prefix) - 1 : -1].flatten(0, 1)


def timed(model: Qwen3ForCausalLM, group: PackedGroup, logits: Callable[[], Tensor]) -> float:
    """Seconds of one GRPO gradient."""
    ids = scored_ids([group])
    start = time.perf_counter()
    logp = token_logps(logits(), ids)
    advantage = torch.linspace(-1, 1, len(ids))
    loss, _ = grpo(logp, logp.detach(), advantage, clip_low=0.2, clip_high=0.28, token_count=len(ids))
    loss.backward()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
