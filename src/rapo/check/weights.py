"""Model files on this machine: how large, how much the model reads, what keeps a check from loading them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 2**30
LARGEST_LOADED = 4 * GIB  # larger weights would take longer to load than a check may take


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a check does not load a model, and the way out."""

    found: str
    fix: str


def folder(source: str) -> Path | None:
    """Where the files of a model folder or hub id are; None for a hub id that is not downloaded."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(source, "config.json")
    except ValueError:  # no hub id
        return None
    return Path(found).parent if isinstance(found, str) else None


def size(source: str) -> int:
    """Bytes of the weights; 0 where there are none on this machine."""
    place = folder(source)
    return sum(path.stat().st_size for path in place.glob("*.safetensors")) if place else 0


def context(source: str) -> int | None:
    """The longest prompt plus answer, in tokens; None where its config does not tell."""
    place = folder(source)
    try:
        found: Any = json.loads((place / "config.json").read_text(encoding="utf-8")) if place else {}
    except (OSError, ValueError):
        return None
    for part in (found, found.get("text_config")) if isinstance(found, dict) else ():
        if isinstance(part, dict) and isinstance(part.get("max_position_embeddings"), int):
            return int(part["max_position_embeddings"])
    return None


def obstacle(source: str) -> Obstacle | None:
    """What keeps a check from loading a model; None where nothing does, or where loading names the mistake at once."""
    if (bytes_ := size(source)) > LARGEST_LOADED:
        return Obstacle(f"{source}: {bytes_ / GIB:.1f} GiB, not loaded in a check", "train.steps=1 tries it")
    if not bytes_ and _hub_id(source):
        return Obstacle(f"{source} is not downloaded yet", f"hf download {source} gets it; so does the run")
    return None


def _hub_id(source: str) -> bool:
    from huggingface_hub.utils._validators import validate_repo_id

    if Path(source).exists() or (Path(source).parent != Path() and Path(source).parent.is_dir()):
        return False
    try:
        validate_repo_id(source)
    except ValueError:
        return False
    return True
