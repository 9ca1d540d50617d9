"""The cost model: operations of each phase from first principles, this machine's ceiling, and the share reached.

    python benchmarks/cost.py [--shape small|wide] [--prompt 512 --reply 64 --group 8 --threads 1]

Counted are the multiplications and additions that the mathematics needs, two operations each: matrix products of the
tokens that matter, and attention over the pairs of tokens that see each other. The backward pass needs twice what the
forward pass needs; what flash attention computes again there is not counted as useful. The ceiling is the best matrix
product found on this machine in the same run. Where the rest of the time goes is told by torch's profiler.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen3Config, Qwen3ForCausalLM

from rapo.models.policy import Policy
from rapo.models.sampler import SampleRequest, sample
from rapo.models.scratch import new_policy
from rapo.optimize.lessons import RankedReply, TrainingGroup
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.update import Hybrid, update

SHAPES = {"small": (256, 1024, 4, 8, 4, 32, 8192), "wide": (768, 3072, 6, 12, 6, 64, 8192)}
NUMBERS = Hybrid(
    macro=1.0,
    micro=0.0,
    divergence="forward_kl",
    top_k=0,
    clip_low=0.2,
    clip_high=0.28,
    kl=0.0,
    replay=0.0,
    temperature=1.0,
    tokens_per_forward=1 << 20,
    grad_clip=1.0,
)
KINDS = {
    "matrix products": ("aten::mm", "aten::bmm", "aten::addmm"),
    "attention": ("aten::_scaled_dot_product_flash_attention_for_cpu",),
    "softmax and losses": ("aten::_log_softmax", "aten::exp", "aten::nll_loss", "aten::cumsum", "aten::searchsorted"),
    "new memory, copies": ("aten::fill_", "aten::copy_", "aten::cat", "aten::empty", "aten::zero_"),
    "element by element": ("aten::mul", "aten::add", "aten::sub", "aten::silu", "aten::pow", "aten::sum", "aten::roll"),
}


@dataclass(frozen=True)
class Work:
    """One phase: tokens read or written, operations needed, seconds taken (median)."""

    tokens: int
    operations: float
    seconds: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("prompt", 512), ("reply", 64), ("group", 8), ("threads", 1), ("runs", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--json", type=Path, default=Path("runs/cost.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    policy, ids = make_policy(args.shape, args.prompt + args.reply), make_ids(args.prompt, args.reply, args.group)
    learn, write = learning(policy, ids), writing(policy, ids[0], args.reply, args.group)
    counts = operations(policy, args.prompt, args.reply, args.group)
    works, ceilings = {}, []
    for name, act in (
        ("update", learn),
        ("read the prompt", writing(policy, ids[0], 1, args.group)),
        ("sample", write),
    ):
        seconds = []
        for _ in range(args.runs):
            ceilings.append(ceiling())
            seconds.append(timed(act))
        works[name] = Work(*counts[name], statistics.median(seconds))
    top = max(ceilings)
    parameters = sum(weight.numel() for weight in policy.model.parameters())
    print(
        f"{args.shape}: {parameters / 1e6:.1f}M parameters, P={args.prompt} C={args.reply} G={args.group},"
        f" {args.threads} thread(s); matrix products reach {top / 1e9:.0f} billion operations per second"
    )
    for name, work in works.items():
        share = work.operations / work.seconds / top
        print(
            f"{name:<16} {work.tokens:6d} tokens  {work.operations / 1e9:7.1f}e9 operations  {work.seconds:7.3f} s"
            f"  {share:4.0%} of the ceiling"
        )
    parts = shares(learn)
    print("the update's time: " + ", ".join(f"{name} {share:.0%}" for name, share in parts.items()))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    found = {"ceiling": top, "works": {name: asdict(work) for name, work in works.items()}, "update": parts}
    args.json.write_text(json.dumps({"v": 1, "shape": vars(args) | {"json": str(args.json)}} | found) + "\n")


def make_policy(shape: str, length: int) -> Policy:
    """A random model of the shape, and any tokenizer."""
    hidden, inner, layers, heads, kv_heads, width, vocabulary = SHAPES[shape]
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=width,
            max_position_embeddings=max(4096, length),
            tie_word_embeddings=True,
            attn_implementation="sdpa",
        )
    )
    tokenizer = new_policy(["a word"] * 9, vocab_size=300, hidden=8, layers=1, heads=1, max_context=9, seed=0).tokenizer
    return Policy(model, tokenizer)


def make_ids(prompt: int, reply: int, size: int) -> list[tuple[int, ...]]:
    """The prompt and the replies; none holds the tokenizer's end token."""
    draw = random.Random(0)
    return [tuple(draw.randrange(400, 8192) for _ in range(n)) for n in (prompt, *[reply] * size)]


def learning(policy: Policy, ids: list[tuple[int, ...]]) -> Callable[[], object]:
    """One GRPO update, the optimizer's step included."""
    optimizer = Optimizer(policy, lr=1e-6)
    replies = tuple(RankedReply(reply, (-9.0,) * len(reply), 1.0 - i) for i, reply in enumerate(ids[1:]))
    return lambda: update(policy, optimizer, [TrainingGroup(ids[0], replies)], NUMBERS)


def writing(policy: Policy, prompt: tuple[int, ...], reply: int, size: int) -> Callable[[], object]:
    """Sampling replies of a fixed length: with so many tokens to choose from, an end token is drawn almost never."""
    request = [SampleRequest(prompt, tuple(range(size)))]
    return lambda: sample(policy, request, max_tokens=reply, temperature=1.0)


def operations(policy: Policy, prompt: int, reply: int, size: int) -> dict[str, tuple[int, float]]:
    """Tokens and operations of each phase."""
    c = policy.model.config
    layers, queries = c.num_hidden_layers, c.num_attention_heads * c.head_dim
    keys = 2 * c.num_key_value_heads * c.head_dim * c.hidden_size
    rest = 2 * queries * c.hidden_size + 3 * c.hidden_size * c.intermediate_size
    head = c.vocab_size * c.hidden_size
    written = size * reply
    total, matter = prompt + written, 1 + written
    # Two operations a weight and token. Only what the last layer is needed for goes through all of it.
    matrices = 2 * (total * (layers * keys + (layers - 1) * rest) + matter * rest + written * head)
    pairs, own = prompt * (prompt + 1) / 2, written * (prompt + (reply + 1) / 2)
    attention = 4 * queries * ((layers - 1) * (pairs + own) + prompt + own)
    reading = 2 * (prompt - 1) * (layers * keys + (layers - 1) * rest) + 4 * queries * (layers - 1) * pairs
    first = size * (2 * (layers * (keys + rest) + head) + 4 * queries * layers * prompt)
    each = 2 * written * (layers * (keys + rest) + head) + 4 * queries * layers * own
    return {
        "update": (total, 3 * (matrices + attention)),
        "read the prompt": (prompt - 1 + size, reading + first),
        "sample": (prompt - 1 + written, reading + each),
    }


def ceiling() -> float:
    """Operations per second of the best of a few matrix products."""
    best = 0.0
    for rows, inner, columns in ((1024, 1024, 1024), (1024, 512, 2048), (2048, 1024, 512)):
        a, b = torch.randn(rows, inner), torch.randn(columns, inner)
        best = max(best, 2 * rows * inner * columns / min(timed(lambda a=a, b=b: a @ b.T) for _ in range(3)))
    return best


def timed(act: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def shares(act: Callable[[], object]) -> dict[str, float]:
    """Shares of the time by kind of work."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        act()
    sums: defaultdict[str, float] = defaultdict(float)
    for row in found.key_averages():
        kind = next((kind for kind, names in KINDS.items() if row.key.startswith(names)), "everything else")
        sums[kind] += row.self_cpu_time_total
    total = sum(sums.values())
    return {name: value / total for name, value in sorted(sums.items(), key=lambda pair: -pair[1])}


if __name__ == "__main__":
    main()
