"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) on a frozen base model, in peft's layers and files.

The model stays the ``PreTrainedModel`` it was, in class, config and attributes; some of its linear layers are wrapped.
peft is the extra ``lora``, imported where an adapter is made or read.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from rapo.errors import ModelError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_NAME = "default"  # what peft calls the only adapter of a model
_PREFIX = "base_model.model."  # what it puts before the names of tensors in files
_SAMPLE = 1024  # numbers of each base weight that the fingerprint looks at
# Any other value would train or change more than low-rank factors beside frozen layers.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "lora_bias": (False,),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
    "modules_to_save": (),
    "trainable_token_indices": (),
    "target_parameters": (),
    "layer_replication": (),
    "alora_invocation_tokens": (),
}


class Shape(NamedTuple):
    """An adapter without its weights: output of each layer named in ``targets`` + (alpha / rank) B A x."""

    rank: int
    alpha: float
    targets: tuple[str, ...]

    def __str__(self) -> str:
        return f"rank {self.rank}, alpha {self.alpha:g} on {', '.join(self.targets)}"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter in place of a whole model."""
    return (folder / CONFIG).is_file()


def adapted(model: nn.Module) -> bool:
    """Whether a model has an adapter."""
    return bool(getattr(model, "peft_config", None))


def shape(model: PreTrainedModel) -> Shape:
    """What the adapter of a model is like."""
    return _shape(_config(model))


def adapter_weights(model: nn.Module) -> list[nn.Parameter]:
    """The low-rank factors A [rank, in] and B [out, rank] of every adapted layer."""
    return [weight for name, weight in model.named_parameters() if "lora_" in name]


def base_weights(model: nn.Module) -> list[nn.Parameter]:
    """Every weight that is not the adapter's."""
    return [weight for name, weight in model.named_parameters() if "lora_" not in name]


def add(
    model: PreTrainedModel, *, rank: int, alpha: float | None = None, targets: Sequence[str] = (), seed: int = 0
) -> None:
    """Put a fresh adapter, which changes no output yet, on a model and freeze everything else.

    Args:
        model: without an adapter.
        rank: of the factors.
        alpha: the adapter's output counts ``alpha / rank`` times; None for 2 * ``rank``.
        targets: names of linear layers, such as ``q_proj``; empty for all linear layers of the decoder.
        seed: of A (B begins at 0); the global generator is left as it was.

    Raises:
        ModelError: a target is no linear layer of this model, or peft is not installed.
    """
    known = _linear_layers(model)
    if unknown := sorted(set(targets) - known):
        raise ModelError(
            "lora.targets names no linear layer of this model",
            got=", ".join(unknown),
            expected=f"some of {', '.join(sorted(known))}",
        )
    config = _peft().LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        target_modules=sorted(targets or known),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _inject(model, config)


def base_of(folder: Path) -> str:
    """The base model of the adapter in a folder: a path or a hub id.

    Raises:
        ModelError: the adapter is not a plain LoRA in safetensors, or does not name its base.
    """
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        base, odd = settings.get("base_model_name_or_path"), _odd(settings)
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{folder / CONFIG} is not a JSON object", got=str(error), fix="copy it again") from error
    if odd:
        raise ModelError(f"the adapter in {folder} is not a plain LoRA", got=odd, fix="merge it into its base first")
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"the adapter in {folder} has no weights", expected=WEIGHTS, fix="save it as safetensors")
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"the adapter in {folder} does not name its base", fix=f"add base_model_name_or_path to {CONFIG}"
        )
    return base


def read(model: PreTrainedModel, folder: Path) -> None:
    """Give a model the adapter in a folder: a new one, or other weights for one of the same shape.

    Raises:
        ModelError: the adapter cannot be read, was trained on another base model, or does not fit this one.
    """
    try:
        config = _peft().PeftConfig.from_pretrained(str(folder))
        tensors, base = _load(folder / WEIGHTS)
        if not adapted(model):
            _inject(model, config)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ModelError(f"the adapter in {folder} cannot be read", got=str(error)) from error
    if base not in (None, fingerprint(model)):
        raise ModelError(
            f"the base model is not the one that the adapter in {folder} was trained on",
            got=model.config._name_or_path,
            fix="bring back the weights it had then, or train the adapter again",
        )
    if (got := _shape(config)) != (wanted := shape(model)):
        raise ModelError(f"the adapter in {folder} has another shape", got=str(got), expected=str(wanted))
    own = _tensors(model)
    if odd := own.keys() ^ tensors.keys() or {name for name in own if own[name].shape != tensors[name].shape}:
        raise ModelError(f"the adapter in {folder} does not fit its base model", got=min(odd), fix="copy it again")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def write(model: PreTrainedModel, folder: Path) -> None:
    """Write the adapter of a model as peft does, and with it what tells its base model from another."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_PREFIX + name: tensor.cpu().contiguous() for name, tensor in _tensors(model).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", "base": fingerprint(model)})
    settings = _config(model).to_dict()
    settings["target_modules"] = list(shape(model).targets)
    (folder / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(model: PreTrainedModel) -> None:
    """Work the adapter into copies of the weights it stands on; the model is an ordinary one afterwards.

    Computed in float32 and rounded to the number format of the base. Models that share the base keep theirs.
    """
    for name, layer in list(_layers(model)):
        base = layer.base_layer = copy.deepcopy(layer.base_layer)
        kept = base.weight.dtype
        base.to(torch.promote_types(kept, torch.float32))
        layer.merge(safe_merge=True)
        model.set_submodule(name, base.to(kept))
    del model.peft_config
    model._hf_peft_config_loaded = False


def fingerprint(model: PreTrainedModel) -> str:
    """A hash of up to 1,024 numbers from each base weight, the same in float32 and in bfloat16."""
    digest = hashlib.sha256()
    for weight in base_weights(model):
        flat = weight.detach().flatten()
        sample = flat[:: max(1, -(-len(flat) // _SAMPLE))].to(torch.bfloat16)
        digest.update(repr(tuple(weight.shape)).encode())
        digest.update(sample.view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModelError("adapters need peft", expected="the extra lora", fix="pip install 'rapo-rl[lora]'") from error
    return peft


def _inject(model: PreTrainedModel, config: Any) -> None:
    """Wrap the layers that ``config`` names; their factors keep at least float32, in which small steps are not lost."""
    source = str(model.config._name_or_path)
    # Nothing here trains with dropout: the update must see the model that was sampled from.
    config.lora_dropout = 0.0
    model.add_adapter(config)
    config.base_model_name_or_path = str(Path(source).resolve()) if Path(source).is_dir() else source
    for weight in adapter_weights(model):
        weight.data = weight.data.to(torch.promote_types(weight.dtype, torch.float32))
    ends = {id(each.weight) for each in (model.get_input_embeddings(), model.get_output_embeddings())}
    if on := [name for name, layer in _layers(model) if id(layer.get_base_layer().weight) in ends]:
        raise ModelError(
            "an adapter may not stand on the embeddings or the output layer",
            got=", ".join(on),
            expected="linear layers between them",
        )


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every adapted layer by its name."""
    return ((name, each) for name, each in model.named_modules() if hasattr(each, "lora_A"))


def _linear_layers(model: PreTrainedModel) -> set[str]:
    """Last names of the linear layers between embeddings and output layer."""
    inside = model.get_decoder().named_modules()
    return {name.rpartition(".")[2] for name, each in inside if isinstance(each, nn.Linear)}


def _config(model: PreTrainedModel) -> Any:
    return model.peft_config[_NAME]


def _shape(config: Any) -> Shape:
    targets = config.target_modules
    return Shape(config.r, config.lora_alpha, (targets,) if isinstance(targets, str) else tuple(sorted(targets)))


def _odd(settings: dict[str, Any]) -> str | None:
    """The first setting that a plain LoRA does not have."""
    for key, plain in _PLAIN.items():
        if (value := settings.get(key, plain[0] if plain else None)) not in (None, [], *plain):
            return f"{key}={value}"
    return None


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """The adapter's weights themselves, by the names that peft writes after its prefix."""
    # Asked to find out whether embeddings were changed, it would look for the base model on the hub.
    found: dict[str, Tensor] = _peft().get_peft_model_state_dict(model, save_embedding_layers=False)
    return found


def _load(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of an adapter's file, and the fingerprint of its base model where one was written."""
    with safe_open(path, "pt") as file:
        tensors = {name.removeprefix(_PREFIX): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, (file.metadata() or {}).get("base")
