"""Model files on this machine: how large, how much the model reads, what keeps a check from loading them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 2**30
_ENDS = ("embed_tokens", "lm_head")  # matrices that no adapter stands on
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


def base(source: str) -> str:
    """The model whose weights do the work: the base of an adapter folder, as far as it names one; else ``source``."""
    path = Path(source) / "adapter_config.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return source


def size(source: str) -> int:
    """Bytes of the weights, for an adapter those of its base; 0 where there are none on this machine."""
    return sum(path.stat().st_size for path in _files(source))


def adapter_size(source: str, rank: int, targets: Sequence[str]) -> int:
    """Bytes of an adapter on a model: rank * (in + out) float32 numbers per linear layer; 0 where size() is 0."""
    from safetensors import safe_open

    numbers = 0
    for path in _files(source):
        with safe_open(path, "np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        for name, shape in shapes.items():
            layer = name.removesuffix(".weight").rpartition(".")[2]
            if len(shape) == 2 and (layer in targets if targets else layer not in _ENDS):
                numbers += rank * sum(shape)
    return 4 * numbers


def _files(source: str) -> list[Path]:
    place = folder(base(source))
    return sorted(place.glob("*.safetensors")) if place else []


def context(source: str) -> int | None:
    """The longest prompt plus answer, in tokens; None where its config does not tell."""
    place = folder(base(source))
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
    if not bytes_ and _hub_id(name := base(source)):
        return Obstacle(f"{name} is not downloaded yet", f"hf download {name} gets it; so does the run")
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
