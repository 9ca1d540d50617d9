"""A config that lies beside a model and that nobody named: it has no say in what is run, called or written where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rapo.config.load import load_config
from rapo.config.run_config import RunConfig
from rapo.config.sections import DOTTED
from rapo.errors import ConfigError


def load_found(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config that was found at ``path``, in the folder of a model, which is its ``run.dir``, wherever it was made.

    Raises:
        ConfigError: as for :func:`load_config`; also where it would run code, call an address, send a key or write
            elsewhere, and no override names that very key.
    """
    config, named = load_config(path, overrides), {each.partition("=")[0].strip() for each in overrides}
    for key, what in _powers(config):
        if key not in named:
            raise ConfigError(
                f"{key} in {path} {what}, which a config that lies beside a model may not",
                fix=f"read it, and if you trust it add: --config {path}",
            )
    if "run.dir" in named:
        return config
    return config.model_copy(update={"run": config.run.model_copy(update={"dir": path.parent})})


def _powers(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Every key by which the config reaches beyond this program's own code and this machine, and what it does."""
    code = {
        "users.kind": config.users.kind,
        "users.importer": config.users.importer,
        "judge.kind": config.judge.kind,
        "sft.importer": config.sft.importer,
        **{f"models.{name}.path": spec.path for name, spec in config.models.items()},
    }
    for key, value in code.items():
        if value and re.fullmatch(DOTTED, value):
            yield key, "runs code"
    for name, spec in config.models.items():
        if spec.url:
            yield f"models.{name}.url", "calls an address"
        if spec.key_env:
            yield f"models.{name}.key_env", "sends a key"
    if config.calls.journal is not None:
        yield "calls.journal", "writes to a file elsewhere"
    if config.policy.trust_remote_code:
        yield "policy.trust_remote_code", "lets a model's folder run code"
