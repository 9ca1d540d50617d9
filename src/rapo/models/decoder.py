"""The decoder of Llama, Qwen2 and Qwen3 as plain tensor code over a flat list of tokens.

The weights stay in the Hugging Face model, and its own projection modules are applied, so that adapters inside them
work (how, the caller may say: :mod:`rapo.models.products`). What is ours is all between them: tokens of any number of
texts stand in one list without padding, and who sees whom is decided by an attention function that the caller brings.
Training packs groups that share a prefix (:mod:`rapo.optimize.packing`), sampling keeps keys and values
(:mod:`rapo.models.decoding`).

Shape suffixes: T tokens of the flat list, M of them that still matter in the last layer, H heads, K key-value heads,
D width of a head, E width of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn import Dropout, SiLU
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM, Qwen3ForCausalLM
from transformers.activations import SiLUActivation

from rapo.models.products import Project, apply

_LENGTH_FREE_ROPE = ("default", "linear", "llama3", "yarn")


class Attend(Protocol):
    """Who sees whom: one attention for all layers.

    In the last layer ``query`` holds the M tokens that matter only, if the caller named them.
    """

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor, /) -> Tensor:
        """[T or M, H, D], [T, K, D], [T, K, D] to [T or M, H, D]."""
        ...


def obstacle(model: PreTrainedModel) -> str | None:
    """Why this code cannot stand in for the model's own forward, or None where it was verified to be exact."""
    config = model.config
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    # By class and not by what the config calls it: a model that brings its own code may call itself llama.
    if type(model) not in (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM):
        return f"{type(model).__name__} is not one of the verified Llama, Qwen2 and Qwen3"
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "it has sliding-window layers"
    if rope_type not in _LENGTH_FREE_ROPE:
        return f"its rotary embedding ({rope_type}) may depend on the length of the row"
    if getattr(config, "attention_dropout", 0) or any(isinstance(m, Dropout) and m.p for m in model.modules()):
        return "it trains with dropout"
    return None


def decode(
    model: PreTrainedModel,
    ids_T: Tensor,
    positions_T: Tensor,
    attend: Attend,
    matter_M: Tensor | None = None,
    project: Project = apply,
) -> Tensor:
    """Hidden states [T, E], ready for the output layer; [M, E] where ``matter_M`` names the tokens that are needed.

    After the last attention no token reads another, so a token that predicts nothing needs no query and no
    feed-forward block there.
    """
    decoder = cast(Any, model).get_decoder()
    hidden_TE: Tensor = decoder.embed_tokens(ids_T)
    cos_TD, sin_TD = (each[0] for each in decoder.rotary_emb(hidden_TE, positions_T[None]))
    rotary = (cos_TD[:, None], _signed(sin_TD)[:, None])
    again = torch.is_grad_enabled() and checkpoints_activations(model)
    for number, layer in enumerate(decoder.layers):
        last = matter_M if number == len(decoder.layers) - 1 else None
        run = partial(_layer, layer, partial(attend, number), project, last)
        hidden_TE = checkpoint(run, hidden_TE, *rotary, use_reentrant=False) if again else run(hidden_TE, *rotary)
    return _norm(decoder.norm, hidden_TE)


def _layer(
    layer: Any,
    attend: Callable[..., Tensor],
    project: Project,
    matter_M: Tensor | None,
    hidden_TE: Tensor,
    cos: Tensor,
    sin: Tensor,
) -> Tensor:
    block, normed_TE = layer.self_attn, _norm(layer.input_layernorm, hidden_TE)
    key, value = (_heads(block, which, project, normed_TE) for which in "kv")
    key = _rotate(key, cos, sin)
    if matter_M is not None:
        normed_TE, hidden_TE, cos, sin = (each[matter_M] for each in (normed_TE, hidden_TE, cos, sin))
    query = _rotate(_heads(block, "q", project, normed_TE), cos, sin)
    # Under autocast a norm's float32 weights make queries and keys wider than values.
    seen = attend(query.to(value.dtype), key.to(value.dtype), value)
    hidden_TE = hidden_TE + project(block.o_proj, seen.flatten(1))
    mlp, normed_TE = layer.mlp, _norm(layer.post_attention_layernorm, hidden_TE)
    gated = _gated(mlp.act_fn, project(mlp.gate_proj, normed_TE), project(mlp.up_proj, normed_TE))
    return hidden_TE + project(mlp.down_proj, gated)


def _heads(block: Any, which: str, project: Project, normed_TE: Tensor) -> Tensor:
    """Queries, keys or values [T, heads, D], normed where the architecture (Qwen3) does."""
    states = project(getattr(block, f"{which}_proj"), normed_TE).unflatten(-1, (-1, block.head_dim))
    norm = getattr(block, f"{which}_norm", None)
    return states if norm is None else _norm(norm, states)


def _norm(norm: Any, states: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return _normed(states, norm.weight, norm.variance_epsilon)[0]
    return cast(Tensor, cast(Any, _RMSNorm).apply(states, norm.weight, norm.variance_epsilon))


def _normed(states: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Root mean square norm, in float32 as in transformers; and what each token was scaled by."""
    wide = states.float()
    scale = (wide.pow(2).mean(-1, keepdim=True) + epsilon).rsqrt()
    return weight * (wide * scale).to(states.dtype), scale


class _RMSNorm(torch.autograd.Function):
    """The norm with a backward that keeps its input and nothing else of that size."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        result, scale = _normed(states, weight, epsilon)
        ctx.save_for_backward(states, weight, scale)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        states, weight, scale = ctx.saved_tensors
        normed = states.float() * scale
        gradient = gradients[0].float()
        product = gradient * normed
        by_weight = product.flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        # d/dx of x r(x): r (w g - n mean(n w g)), n the normed input.
        projection = (product @ weight.float() / product.shape[-1])[..., None]
        by_states = gradient.mul(weight).addcmul_(normed, projection, value=-1).mul_(scale)
        return by_states.to(states.dtype), by_weight, None


def _gated(act: Any, gate: Tensor, up: Tensor) -> Tensor:
    if not (torch.is_grad_enabled() and isinstance(act, SiLU | SiLUActivation)):
        return cast(Tensor, act(gate) * up)
    return cast(Tensor, cast(Any, _SwiGLU).apply(gate, up))


class _SwiGLU(torch.autograd.Function):
    """silu(gate) up, with a backward that computes silu again instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        by_up = silu(gate).mul_(gradients[0])
        return torch.ops.aten.silu_backward(gradients[0] * up, gate), by_up


def _signed(sin_TD: Tensor) -> Tensor:
    """The sine with the sign that turning a pair of halves by a quarter gives its first half."""
    half = sin_TD.shape[-1] // 2
    return torch.cat([-sin_TD[:, :half], sin_TD[:, half:]], dim=-1)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (RoFormer, arXiv 2104.09864): (a, b) to (a cos - b sin, b cos + a sin)."""
    return torch.addcmul(states * cos, states.roll(states.shape[-1] // 2, -1), sin)


# Both are called activation checkpointing from transformers 5 on; the old names print a warning there.
def checkpoint_activations(model: PreTrainedModel) -> None:
    """Compute activations again in the backward pass instead of keeping them; the result is the same."""
    name = "activation_checkpointing_enable"
    getattr(model, name if hasattr(model, name) else "gradient_checkpointing_enable")()


def checkpoints_activations(model: PreTrainedModel) -> bool:
    """Whether activations are computed again in the backward pass."""
    name = "is_activation_checkpointing"
    return bool(getattr(model, name if hasattr(type(model), name) else "is_gradient_checkpointing", False))
