"""The model being trained: a Hugging Face causal language model with its tokenizer and chat template.

Weights are read and written as safetensors only; nothing here can unpickle. A policy may have an adapter
(:mod:`rapo.models.adapters`): then that is what is trained, saved and copied, and policies share the base weights.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any
from unicodedata import normalize

import jinja2
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from rapo.errors import ModelError
from rapo.models import adapters
from rapo.models.source import check_files, first_line, has_tokenizer, unloadable
from rapo.types import Message

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


class Policy:
    """A causal language model and the tokenizer that turns chat messages into its token ids.

    Args:
        model: a ``transformers`` causal LM.
        tokenizer: its tokenizer, with a chat template and an end-of-sequence token.
        autocast: multiply matrices in bfloat16, whatever the weights are.

    Raises:
        ModelError: no chat template, no end token, or no context length in the config.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, autocast: bool = False) -> None:
        self.model, self.tokenizer, self.autocast = model, tokenizer, autocast
        name = getattr(model.config, "_name_or_path", "") or type(model).__name__
        if not isinstance(tokenizer.chat_template, str):
            raise ModelError(
                f"the tokenizer of {name} has no chat template",
                fix="use an instruct model, or add chat_template.jinja to its folder",
            )
        if tokenizer.eos_token_id is None:
            raise ModelError(f"the tokenizer of {name} has no eos_token", fix="set one in tokenizer_config.json")
        if not isinstance(getattr(_text_config(model), "max_position_embeddings", None), int):
            raise ModelError(
                f"the config of {name} does not state max_position_embeddings", fix="add it to config.json"
            )

    @classmethod
    def load(
        cls, source: str | Path, *, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False
    ) -> Policy:
        """Load a model folder (no socket is opened) or a Hugging Face hub id.

        Args:
            source: a folder with ``config.json``, ``*.safetensors`` and tokenizer files; a hub id; or a folder with an
                adapter, whose base model is loaded from the place it names.
            dtype: one of ``float32``, ``bfloat16``, ``float16``, ``float64``, or ``auto``: as the weights are stored.
            device: a torch device, such as ``cpu`` or ``cuda:0``.
            trust_remote_code: run the Python code that comes with the model; leave it off unless you have read it.

        Raises:
            ModelError: the source cannot be found, read, or used as a chat model.
        """
        if dtype not in (*DTYPES, "auto"):
            raise ModelError("unknown dtype", got=dtype, expected=" or ".join((*DTYPES, "auto")))
        local = Path(source).is_dir()
        check_files(str(source))
        if local and adapters.is_adapter(Path(source)):
            base = adapters.base_of(Path(source))
            return cls.load(base, dtype=dtype, device=device, trust_remote_code=trust_remote_code)._with(Path(source))
        shared: dict[str, Any] = {"local_files_only": local, "trust_remote_code": trust_remote_code}
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(source), **shared)
            if not local and find_adapter_config_file(str(source)):
                # transformers would load it by itself, from pickled weights if there are no others.
                raise ModelError(
                    f"{source} is an adapter", fix=f"give its folder: hf download {source} --local-dir FOLDER"
                )
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(source),
                dtype=DTYPES.get(dtype, dtype),
                attn_implementation="sdpa",
                use_safetensors=True,
                output_loading_info=True,
                **shared,
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise unloadable(str(source), local, error) from error
        model, report = loaded
        if report["missing_keys"]:
            raise ModelError(
                f"the weights of {source} are incomplete",
                got=f"no {min(report['missing_keys'])} and {len(report['missing_keys']) - 1} more",
                fix="copy the folder again, or check that config.json belongs to these weights",
            )
        return cls(_to(model, device), tokenizer)

    def save(self, folder: str | Path) -> None:
        """Write a Hugging Face folder (safetensors, config, tokenizer) that any tool can load; the adapter, if any."""
        if self.adapted:
            adapters.write(self.model, Path(folder))
        else:
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def merge(self) -> None:
        """Make an ordinary model of one with an adapter; any other stays as it is."""
        if self.adapted:
            adapters.merge(self.model)

    def clone(self, *, trainable: bool = False) -> Policy:
        """A copy of the weights with the same tokenizer object: a frozen or EMA teacher, or a reference policy.

        Beside an adapter the base weights, which nobody changes, are shared and not copied.
        """
        shared = adapters.base_weights(self.model) if self.adapted else []
        model = copy.deepcopy(self.model, {id(weight): weight for weight in shared})
        copied = Policy(model.train(trainable and self.model.training), self.tokenizer, autocast=self.autocast)
        for weight in copied.trained:
            weight.requires_grad_(trainable)
        return copied

    @torch.no_grad()
    def follow(self, other: Policy, decay: float) -> None:
        """Move every trained weight w towards ``other``'s v: w <- decay w + (1 - decay) v."""
        for mine, theirs in zip(self.trained, other.trained, strict=True):
            mine.lerp_(theirs, 1 - decay)

    def precision(self) -> AbstractContextManager[Any]:
        """The number formats in which a forward pass computes; backward passes follow by themselves."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)

    @property
    def adapted(self) -> bool:
        """Whether there is an adapter."""
        return adapters.adapted(self.model)

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """The weights that training changes: the adapter's where there is one, else all."""
        return adapters.adapter_weights(self.model) if self.adapted else list(self.model.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def max_context(self) -> int:
        """The longest prompt plus completion, in tokens."""
        return int(_text_config(self.model).max_position_embeddings)

    @cached_property
    def end_of_turn(self) -> int:
        """The token the chat template ends a reply with; the tokenizer's eos where it ends it with plain text."""
        turn = [Message("user", "question"), Message("assistant", "answer")]
        tail = self._template(turn, generation_prompt=False).rpartition("answer")[2]
        specials = [i for i in self._encode(tail) if i in self._special_ids]
        return specials[0] if specials else int(self.tokenizer.eos_token_id)

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Ids that end a reply: the eos of tokenizer and generation config, and the template's end-of-turn token."""
        config = self.model.generation_config
        eos = None if config is None else config.eos_token_id
        return frozenset(
            {self.tokenizer.eos_token_id, self.end_of_turn, *([eos] if isinstance(eos, int) else eos or [])}
        )

    def render(self, messages: Sequence[Message], *, generation_prompt: bool = True) -> list[int]:
        """The prompt as token ids, by the chat template, tokenised once.

        What people say stays text: where a message spells a control token of this tokenizer (``<|im_end|>``), a space
        is put after its first character (a token of one character becomes the space), so that no message can close its
        own turn or open another role's.

        Args:
            messages: the dialogue, oldest first.
            generation_prompt: end with the header of the assistant's next turn.

        Raises:
            ModelError: the template rejects the messages (their order, or a role it does not know).
        """
        safe = [Message(message.role, self._disarm(message.content)) for message in messages]
        return self._encode(self._template(safe, generation_prompt=generation_prompt))

    def encode_reply(self, text: str) -> list[int]:
        """A reply as token ids, as the policy would sample it: its text and the end-of-turn token."""
        return [*self._encode(self._disarm(text)), self.end_of_turn]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of sampled ids, without special tokens."""
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _with(self, adapter: Path) -> Policy:
        """This policy with the adapter in a folder, and the tokenizer if there is one beside it."""
        adapters.read(self.model, adapter)
        if not has_tokenizer(adapter):
            return self
        try:
            shared = {"local_files_only": True, "trust_remote_code": False}
            return Policy(self.model, AutoTokenizer.from_pretrained(str(adapter), **shared))
        except (OSError, ValueError, KeyError) as error:
            raise unloadable(str(adapter), True, error) from error

    def _template(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=generation_prompt, enable_thinking=False
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(message.role for message in messages) or "no messages"
            raise ModelError(f"the chat template rejects the dialogue: {error}", got=roles) from error
        return str(text)

    def _encode(self, text: str) -> list[int]:
        # The template has written the begin-of-sequence token where the model wants one.
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special)

    @cached_property
    def _control(self) -> re.Pattern[str]:
        """Matches what a message may not spell: special tokens, and added tokens the template itself writes."""
        template = self.tokenizer.chat_template
        tokens = {
            token.content
            for token in self.tokenizer.added_tokens_decoder.values()
            if token.special or (token.content in template and not token.content.isspace())
        }
        longest_first = sorted(tokens, key=lambda token: (-len(token), token))
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)", re.IGNORECASE)

    def _disarm(self, text: str) -> str:
        # Some tokenizers match their tokens after compatibility normalisation (full-width brackets) or lower-casing.
        plain = normalize("NFKC", text)
        if not self._control.search(plain):
            return text
        while self._control.search(plain):
            plain = self._control.sub(
                lambda match: f"{match[0][0]} {match[0][1:]}" if len(match[0]) > 1 else " ", plain
            )
        return plain


def _text_config(model: PreTrainedModel) -> Any:
    return model.config.get_text_config()


def _to(model: Any, device: str) -> PreTrainedModel:
    try:
        for weight in model.parameters():
            # Always a copy: safetensors leaves weights at any address, and matrix products round by alignment.
            weight.data = weight.data.to(device, copy=True)
        moved: PreTrainedModel = model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            "the device cannot be used", got=device, fix=f"choose another device ({first_line(error)})"
        ) from error
    return moved
