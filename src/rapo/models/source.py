"""The files of a model: what they lack, in one line before anything is loaded, and whether they are still the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from rapo.errors import ModelError
from rapo.models import adapters

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def check_source(source: str) -> None:
    """See that there is a model at ``source``, a folder or a hub id; of the hub no more than its config is read.

    Raises:
        ModelError: there is none, or files are missing.
    """
    check_files(source)
    if Path(source).is_dir():
        return
    try:
        cached_file(source, adapters.CONFIG if find_adapter_config_file(source) else "config.json")
    except (OSError, ValueError) as error:
        raise unloadable(source, False, error) from error


def check_files(source: str) -> None:
    """See that a folder, or the folder of an adapter's base, has what a model needs; a hub id is not looked up.

    Raises:
        ModelError: something is missing, or a path leads nowhere.
    """
    folder = Path(source)
    if folder.is_dir() and adapters.is_adapter(folder):
        _check_base(folder)
    elif folder.is_dir():
        _check_folder(folder)
    elif _meant_as_folder(source):
        raise ModelError("no such model folder", got=source, fix="check the path")


def fingerprint(source: str) -> str:
    """What tells a model from others that lay or will lie at ``source``; it is loaded from nothing else.

    Of a folder: name, size and time of change of every file but its texts for people, of an adapter's also those of its
    base. Of a hub id: the commit that is on this machine, "" where none is.
    """
    folder = Path(source)
    if not folder.is_dir():
        try:
            found = try_to_load_from_cache(source, "config.json")
        except ValueError:  # no hub id
            return ""
        return Path(found).parent.name if isinstance(found, str) else ""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.suffix != ".md"]
    base = fingerprint(adapters.base_of(folder)) if adapters.is_adapter(folder) else ""
    return json.dumps([base, *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)])


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"))


def unloadable(source: str, local: bool, error: Exception) -> ModelError:
    """Why transformers could not load a model, a folder's or (not ``local``) the hub's."""
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{source} needs its own Python code",
            fix="read it; if you trust it: policy.trust_remote_code=true, or rapo export --trust-remote-code",
        )
    if local:
        return ModelError(f"the model folder {source} cannot be loaded", got=first_line(error))
    return ModelError(
        f"{source} is neither a folder nor a model that could be read from the Hugging Face hub",
        got=first_line(error),
        fix=f"check the name, or download it first: hf download {source}",
    )


def first_line(error: Exception) -> str:
    """The name of an error and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def _meant_as_folder(source: str) -> bool:
    # A mistyped path such as runs/a would otherwise be asked of the hub, which takes a minute when there is no network.
    parent = Path(source).parent
    return not _HUB_ID.fullmatch(source) or (parent != Path() and parent.is_dir())


def _check_folder(folder: Path) -> None:
    """Say in one line what a folder lacks, before transformers says it in thirty."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json", fix="give a Hugging Face model folder")
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder}/config.json is not JSON", got=str(error), fix="copy the folder again") from error
    if not any(folder.glob("*.safetensors")):
        other = next((path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)), None)
        raise ModelError(
            f"{folder} has no weights", got=other, expected="*.safetensors", fix="save the model as safetensors"
        )
    if not has_tokenizer(folder):
        raise ModelError(
            f"{folder} has no tokenizer", expected="tokenizer.json", fix="save the tokenizer beside the model"
        )


def _check_base(folder: Path) -> None:
    """Say in one line why the base of the adapter in a folder cannot be used."""
    base = adapters.base_of(folder)
    if not Path(base).is_dir() and _meant_as_folder(base):
        raise ModelError(
            f"the base model of the adapter in {folder} is not there",
            got=base,
            fix=f"put it back, or write its place as base_model_name_or_path into {folder / adapters.CONFIG}",
        )
    if adapters.is_adapter(Path(base)):
        fix = f"merge that first: rapo export {base} OUT"
        raise ModelError(f"the base model of the adapter in {folder} is itself an adapter", got=base, fix=fix)
    if Path(base).is_dir():
        _check_folder(Path(base))
