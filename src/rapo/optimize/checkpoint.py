"""Checkpoints: written whole or not at all, checked before they are used, free of pickle.

checkpoints/step-000020/
  config.json, model.safetensors, ...   the policy, a Hugging Face folder that any tool loads; or, beside a tokenizer,
  adapter_config.json,                  its adapter, which peft and transformers load onto the base model named there
      adapter_model.safetensors
  teacher/                              further models, each such a folder
  optimizer.safetensors, optimizer.json the tensors of the optimizers, and everything around them
  cursor.json                           where training stands
  manifest.json                         every file's size, and the SHA-256 of those up to 1 MiB
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rapo.errors import RunError
from rapo.records import FORMAT, disk_errors, from_json, sync_folder, to_json

CARD = "README.md"
HASHED_BYTES = 2**20
WriteModel = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where training stands.

    Attributes:
        step: optimizer steps done.
        score: how good the policy was found at this step, higher is better; None where it was not measured.
        numbers: whatever else the trainer needs to go on; JSON data.
        v: format version.
    """

    step: int
    score: float | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    v: int = FORMAT


def save(
    folder: Path,
    cursor: Cursor,
    *,
    write_model: WriteModel,
    optimizers: Mapping[str, Mapping[str, Any]],
    keep: int,
    extra: Mapping[str, WriteModel] | None = None,
) -> Path:
    """Write ``folder/step-NNNNNN`` and delete all but the ``keep`` newest and the best whole checkpoints.

    Args:
        folder: holds the checkpoints; made when missing. A checkpoint of the same step is replaced.
        cursor: where training stands.
        write_model: writes the policy into the empty folder that it is given.
        optimizers: state_dict of each optimizer, by a name of its own.
        keep: how many of the newest checkpoints stay, at least 1.
        extra: further models by the name of their sub-folder, such as ``teacher``.

    Raises:
        RunError: the disk is full or the folder cannot be written; the checkpoints of before are untouched.
    """
    final = folder / f"step-{cursor.step:06d}"
    with _disk_errors(final), _temporary(folder, final.name) as temporary:
        write_model(temporary)
        for name, write in (extra or {}).items():
            (temporary / name).mkdir()
            write(temporary / name)
        _write_tree(temporary, "optimizer", optimizers)
        _write_json(temporary / "cursor.json", to_json(cursor))
        _write_json(temporary / "manifest.json", {"v": FORMAT, "files": _describe(temporary)})
        _sync(temporary)
        if final.exists():
            shutil.rmtree(final)
        temporary.replace(final)
        sync_folder(folder)
        _prune(folder, keep)
    return final


def write_whole(folder: Path, write_model: WriteModel) -> None:
    """Write a model into the new ``folder``, which exists once all of it is on disk; raises RunError."""
    with _disk_errors(folder), _temporary(folder.parent, folder.name) as temporary:
        write_model(temporary)
        _sync(temporary)
        temporary.replace(folder)
        sync_folder(folder.parent)


def latest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, or None; and one line for the user per newer one that had to be passed over."""
    notices: list[str] = []
    for path in reversed(_steps(folder)):
        if not (damage := find_damage(path)):
            return path, notices
        notices.append(f"checkpoint {path} is passed over: {damage}")
    return None, notices


def best(folder: Path) -> Path | None:
    """The whole checkpoint with the highest score, the earliest of equals; None when none was scored."""
    whole = [path for path in _steps(folder) if not find_damage(path)]
    scores = {path: score for path in whole if (score := read_cursor(path).score) is not None}
    return max(scores, key=scores.__getitem__, default=None)


def clean(folder: Path) -> list[str]:
    """Remove what interrupted writes left behind; returns the names removed. Call before the first ``save``."""
    leftovers = sorted(folder.glob(".tmp-*"))
    for path in leftovers:
        with disk_errors(path):
            shutil.rmtree(path)
    return [path.name for path in leftovers]


def find_damage(path: Path) -> str:
    """What is wrong with a checkpoint, in words; "" when every file is there, whole and of this format."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if manifest["v"] != FORMAT:
            return f"format {manifest['v']}, not {FORMAT}"
        for name, expected in manifest["files"].items():
            if _fingerprint(path / name) != expected:
                return f"{name} is damaged"
    except OSError as error:
        return f"{Path(error.filename or path).name} is missing or unreadable"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "manifest.json is damaged"
    return ""


def read_cursor(path: Path) -> Cursor:
    """Where training stood at the checkpoint ``path``; raises RunError when it cannot be read."""
    return from_json(Cursor, _read_json(path / "cursor.json"))


def read_optimizers(path: Path) -> dict[str, dict[str, Any]]:
    """The optimizers' state_dicts bit for bit as saved, tensors on the CPU; raises RunError when unreadable."""
    try:
        tensors = load_file(path / "optimizer.safetensors")
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path / 'optimizer.safetensors'} cannot be read", got=str(error)) from error
    tree: dict[str, dict[str, Any]] = _unflatten(_read_json(path / "optimizer.json"), tensors)
    return tree


def _write_tree(folder: Path, name: str, tree: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    _write_json(folder / f"{name}.json", _flatten(tree, tensors))
    save_file(tensors, folder / f"{name}.safetensors")


def _flatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """``value`` as JSON that keeps the type of keys, tuples and lists; its tensors go to ``tensors``, numbered."""
    if isinstance(value, torch.Tensor):
        tensors[str(len(tensors))] = value.detach().cpu().contiguous()
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, Mapping):
        return {"dict": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_flatten(item, tensors) for item in value]}
    return value


def _unflatten(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    return (tuple if kind == "tuple" else list)(_unflatten(item, tensors) for item in content)


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read", got=str(error), fix="resume from another checkpoint") from error


def _describe(folder: Path) -> dict[str, dict[str, Any]]:
    # The card is for people, and is written anew when the run has been measured.
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    return {path.relative_to(folder).as_posix(): _fingerprint(path) for path in files}


def _fingerprint(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    return {"size": size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest() if size <= HASHED_BYTES else None}


def _sync(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _steps(folder: Path) -> list[Path]:
    """The checkpoint folders by step, oldest first, whole or not."""
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def _prune(folder: Path, keep: int) -> None:
    # Damaged ones do not count: they must not push out the ones a run can be resumed from.
    kept = {*[path for path in _steps(folder) if not find_damage(path)][-keep:], best(folder)}
    for path in _steps(folder):
        if path not in kept:
            shutil.rmtree(path)


@contextmanager
def _temporary(folder: Path, name: str) -> Iterator[Path]:
    """A fresh folder to fill; it is gone after the block unless the block moved it."""
    path = folder / f".tmp-{name}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what torch-side writers raise about the disk into a RunError too."""
    try:
        with disk_errors(path):
            yield
    except SafetensorError as error:
        raise RunError(f"{path} cannot be written", got=str(error), fix="free some space") from error
