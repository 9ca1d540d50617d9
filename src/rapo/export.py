"""What ``rapo export`` does: an ordinary model folder of whatever training left."""

from __future__ import annotations

from pathlib import Path

from rapo.errors import RunError
from rapo.models.policy import Policy
from rapo.optimize import checkpoint
from rapo.stages import silence


def run_export(source: str, out: Path, *, trust_remote_code: bool = False) -> str:
    """Write the model at ``source`` to the new folder ``out``, whole or not at all; returns the folder it came from.

    Args:
        source: a run folder, model folder, adapter folder or hub id.
        out: afterwards an ordinary Hugging Face folder in the number format of the (base) model, adapters merged.
        trust_remote_code: let the model's folder run its own Python code, whatever a config beside it says.

    Raises:
        RunError: ``out`` exists or cannot be written, or the run holds no model.
        ModelError: the model cannot be loaded.
    """
    if out.exists():
        raise RunError(f"{out} exists already", fix="give a new folder")
    silence()
    found = model_source(source)
    policy = Policy.load(found, dtype="auto", trust_remote_code=trust_remote_code)
    policy.merge()
    checkpoint.write_whole(out, policy.save)
    return found


def model_source(name: str) -> str:
    """A model folder or hub id as it is; of a run folder, its newest checkpoint or else its start policy."""
    folder = Path(name)
    if not (folder / "config.yaml").is_file():
        return name
    newest, _ = checkpoint.latest(folder / "checkpoints")
    found = newest or (folder / "sft" if (folder / "sft").is_dir() else None)
    if found is None:
        raise RunError(f"{folder} holds no model yet", fix=f"finish it first: rapo resume {folder}")
    return str(found)
