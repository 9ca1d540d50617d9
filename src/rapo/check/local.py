"""What a run needs of this machine: its folder and disk, the device, the policy's files, the data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rapo import plugins
from rapo.check.findings import Finding, tried
from rapo.config import WORLDS, RunConfig
from rapo.data import load_conversations, load_scenarios
from rapo.data.conversation import Loaded
from rapo.errors import ModelError
from rapo.parts import Parts

GIB = 2**30
LARGEST_LOADED = 4 * GIB  # larger weights would take longer to load than a check may take
BYTES = {"float32": 4, "bfloat16": 2}


def check_machine(config: RunConfig, parts: Parts) -> Iterator[Finding]:
    """Every finding that needs no other machine."""
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "run folder": lambda: _folder(config),
        "device": lambda: _device(config),
        "policy": lambda: _policy(config),
        "training text": lambda: _text(config),
        "users": lambda: _users(config, parts),
        "judge": lambda: _judge(config, parts),
    }
    for what, look in looks.items():
        yield from tried(what, look)


def _folder(config: RunConfig) -> Iterator[Finding]:
    path = config.run.dir
    above = next(each for each in (path, *path.absolute().parents) if each.exists())
    if (path / "config.yaml").is_file():
        yield Finding(
            "run folder", "warn", f"{path} already holds a run", "rapo resume goes on with it, or set run.dir"
        )
    elif path.is_dir() and any(path.iterdir()):
        yield Finding("run folder", "fail", f"{path} is not empty", "choose another run.dir")
    elif not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        yield Finding("run folder", "fail", f"{above} cannot be written to", "choose another run.dir")
    else:
        yield Finding("run folder", "ok", f"{path} is free")
    needed, free = _disk_needed(config), shutil.disk_usage(above if above.is_dir() else above.parent).free
    found = f"{free / GIB:.1f} GiB free, about {needed / GIB:.1f} GiB needed for checkpoints"
    if free < needed:
        yield Finding("disk", "fail", found, "free some space, lower train.keep, or choose another run.dir")
    else:
        yield Finding("disk", "ok", found)


def _disk_needed(config: RunConfig) -> int:
    """Bytes of the checkpoints kept at once: the newest, the best and one being written."""
    p = config.policy
    weights = sum(path.stat().st_size for path in Path(p.path or "").glob("*.safetensors")) if p.path else 0
    scratch = (p.vocab_size * p.hidden + p.layers * 12 * p.hidden**2) * BYTES[config.run.dtype]
    # Weights, two moments of AdamW, and the teacher where it has weights of its own.
    copies = 3 + (config.teacher.kind == "ema")
    return (config.train.keep + 2) * copies * (weights or scratch)


def _device(config: RunConfig) -> Iterator[Finding]:
    import torch

    if config.run.device == "cpu":
        yield Finding("device", "ok", f"CPU, {config.run.threads} of {os.cpu_count()} threads")
    elif not torch.cuda.is_available():
        yield Finding("device", "fail", "torch sees no GPU", "set run.device=cpu, or install torch for CUDA")
    else:
        yield Finding("device", "ok", torch.cuda.get_device_name())


def _policy(config: RunConfig) -> Iterator[Finding]:
    p = config.policy
    if p.path is None:
        yield Finding("policy", "ok", f"made from scratch: {p.layers} layers of {p.hidden}, {p.vocab_size} tokens")
        return
    from rapo.models.policy import Policy

    size = sum(path.stat().st_size for path in Path(p.path).glob("*.safetensors"))
    if Path(p.path).is_dir() and size > LARGEST_LOADED:
        yield Finding(
            "policy", "warn", f"{p.path}: {size / GIB:.1f} GiB, not loaded in a check", "train.steps=1 tries it"
        )
        return
    policy = Policy.load(p.path, dtype=config.run.dtype, trust_remote_code=p.trust_remote_code)
    if policy.max_context <= p.max_tokens:
        raise ModelError(
            f"the context of {p.path} is too short",
            got=f"{policy.max_context} tokens",
            expected=f"more than policy.max_tokens={p.max_tokens}",
            fix="lower policy.max_tokens",
        )
    millions = sum(each.numel() for each in policy.model.parameters()) / 1e6
    yield Finding("policy", "ok", f"{p.path}: {millions:.1f}M parameters, context {policy.max_context}")


def _text(config: RunConfig) -> Iterator[Finding]:
    if config.policy.path is None:
        if not config.sft.files:
            yield Finding("training text", "ok", "the embedded corpus")
            return
        loaded = load_conversations(config.sft.files, plugins.reader(config.sft.importer, "sft.importer"))
        usable = sum(not talk.set_aside for talk in loaded.conversations)
        yield from _rows("training text", loaded, f"{usable} dialogues to learn from")


def _users(config: RunConfig, parts: Parts) -> Iterator[Finding]:
    kind, files = config.users.kind, config.users.files
    scenarios = parts.users().scenarios(config.play.dialogues, 0)
    # A scenario that is played twice has two ids.
    distinct = len({(s.situation, s.opening) if kind == "llm" else s.id for s in scenarios})
    read = plugins.reader(config.users.importer, "users.importer")
    if kind == "llm":
        yield from _rows(
            "users", load_scenarios(files, config.users.domain, read), f"{distinct} scenarios for a first step"
        )
    elif kind == "replay":
        yield from _rows("users", load_conversations(files, read), f"{distinct} scenarios for a first step")
    else:
        yield Finding(
            "users", "ok", f"the embedded world {kind}" if kind in WORLDS else f"{kind}: {distinct} scenarios"
        )
    if distinct < config.play.dialogues:
        fix = "bring more scenarios, or lower play.dialogues"
        yield Finding("users", "warn", f"{distinct} different scenarios for {config.play.dialogues} dialogues", fix)


def _judge(config: RunConfig, parts: Parts) -> Iterator[Finding]:
    parts.judge()
    yield Finding("judge", "ok", f"{config.judge.kind}, {config.judge.permutations} order(s) per group")


def _rows(what: str, loaded: Loaded, found: str) -> Iterator[Finding]:
    """What was loaded; rows left out are a warning that names the first."""
    problems: Sequence[object] = loaded.problems
    if problems:
        yield Finding(
            what, "warn", f"{found}; {len(problems)} rows left out, first {problems[0]}", "rapo data names all"
        )
    else:
        yield Finding(what, "ok", found)
