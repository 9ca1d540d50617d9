"""What a run needs of this machine: its folder, journal and disk, the device, the policy's files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rapo.check import weights
from rapo.check.findings import Finding, tried
from rapo.check.weights import GIB
from rapo.config import RunConfig
from rapo.errors import ModelError, RunError
from rapo.records import refuse_used


def check_machine(config: RunConfig) -> Iterator[Finding]:
    """Every finding that needs no other machine and no data."""
    looks: dict[str, Callable[[RunConfig], Iterator[Finding]]] = {
        "run folder": _folder,
        "journal": _journal,
        "disk": _disk,
        "device": _device,
        "policy": _policy,
    }
    for what, look in looks.items():
        yield from tried(what, lambda look=look: look(config))  # type: ignore[misc]


def _folder(config: RunConfig) -> Iterator[Finding]:
    path = config.run.dir
    if path.is_dir():
        refuse_used(path)
    _demand_writable(path, "choose another run.dir")
    yield Finding("run folder", "ok", f"{path} is free")


def _journal(config: RunConfig) -> Iterator[Finding]:
    path = config.calls.journal
    if path is None:
        return
    fix = "give another file as calls.journal"
    _demand_writable(path, fix)
    if path.exists() and (not path.is_file() or _head(path) not in (b"", b"SQLite format 3\0")):
        raise RunError(f"{path} is not a journal", fix=fix)
    yield Finding("journal", "ok", f"{path} {'is there' if path.exists() else 'can be made'}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _demand_writable(path: Path, fix: str) -> None:
    """Raise RunError when ``path`` can neither be written nor made; nothing is tried."""
    above = _above(path)
    passable = os.W_OK | (os.X_OK if above.is_dir() else 0)
    if (above != path and not above.is_dir()) or not os.access(above, passable):
        raise RunError(f"{above} cannot be written to", fix=fix)


def _above(path: Path) -> Path:
    """The path itself if it exists, else the nearest that does above it."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def _disk(config: RunConfig) -> Iterator[Finding]:
    above = _above(config.run.dir)
    needed, free = _disk_needed(config), shutil.disk_usage(above if above.is_dir() else above.parent).free
    found = f"{free / GIB:.1f} GiB free, about {needed / GIB:.1f} GiB needed for checkpoints"
    if free < needed:
        yield Finding("disk", "fail", found, "free some space, lower train.keep, or choose another run.dir")
    else:
        yield Finding("disk", "ok", found)


def _disk_needed(config: RunConfig) -> int:
    """Bytes of the checkpoints kept at once: the newest, the best and one being written."""
    p, rank = config.policy, config.lora.rank
    scratch = (p.vocab_size * p.hidden + p.layers * 12 * p.hidden**2) * 4
    # Weights, two moments of AdamW, and the teacher where it has weights of its own.
    copies = 3 + (config.teacher.kind == "ema")
    trained = 0
    if p.path:
        trained = weights.adapter_size(p.path, rank, config.lora.targets) if rank else weights.size(p.path)
    return (config.train.keep + 2) * copies * (trained or scratch)


def _device(config: RunConfig) -> Iterator[Finding]:
    import torch

    from rapo.stages import prepare

    prepare(config)
    cpu = f"CPU, {config.run.threads} of {os.cpu_count()} threads"
    yield Finding("device", "ok", cpu if config.run.device == "cpu" else torch.cuda.get_device_name())


def _policy(config: RunConfig) -> Iterator[Finding]:
    from rapo.supervised import adapt, demand_float32

    demand_float32(config)
    p = config.policy
    if p.path is None:
        yield Finding("policy", "ok", f"made from scratch: {p.layers} layers of {p.hidden}, {p.vocab_size} tokens")
        return
    if why := weights.obstacle(p.path):
        yield Finding("policy", "warn", why.found, why.fix)
        return
    from rapo.models.policy import Policy

    # By its folder: a hub id would be asked of the hub, downloaded or not.
    source = weights.folder(p.path) or p.path
    policy = Policy.load(source, dtype=config.run.dtype, trust_remote_code=p.trust_remote_code)
    adapt(policy, config)
    if policy.max_context <= p.max_tokens:
        raise ModelError(
            f"the context of {p.path} is too short",
            got=f"{policy.max_context} tokens",
            expected=f"more than policy.max_tokens={p.max_tokens}",
            fix="lower policy.max_tokens",
        )
    trained, every = (sum(each.numel() for each in some) for some in (policy.trained, policy.model.parameters()))
    part = f", {trained / 1e6:.1f}M of them trained" if policy.adapted else ""
    yield Finding("policy", "ok", f"{p.path}: {every / 1e6:.1f}M parameters{part}, context {policy.max_context}")
