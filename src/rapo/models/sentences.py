"""Sentences as vectors, by any encoder of the Hugging Face hub: the mean of its last hidden states.

That is how most sentence encoders were trained (Reimers and Gurevych 2019, arXiv 1908.10084). One that wants another
pooling, or an instruction before the text, gives vectors here that are less telling than its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer

from rapo.errors import ModelError

BATCH = 64


class SentenceEncoder:
    """The encoder in a folder or of a hub id, for example ``sentence-transformers/all-MiniLM-L6-v2``.

    Args:
        source: folder or hub id; weights are read as safetensors only.
        device: a torch device.

    Raises:
        ModelError: it cannot be found or read.
    """

    def __init__(self, source: str, *, device: str = "cpu") -> None:
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            self._model: Any = AutoModel.from_pretrained(source, use_safetensors=True).to(device).eval()
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            why = str(error).strip().splitlines()[0]
            raise ModelError(
                f"the sentence encoder {source} cannot be loaded",
                got=why,
                expected="a folder or hub id with safetensors",
                fix="check the name, or download it first: hf download NAME --local-dir FOLDER",
            ) from error

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One unit vector per text, [N, E]; each the same whoever shares its batch (rounding aside)."""
        rows = [self._encode(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        return np.concatenate(rows) if rows else np.zeros((0, self._model.config.hidden_size), dtype=np.float32)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        # A text without a token has no mean.
        shown = [text if text.strip() else "." for text in texts]
        batch = self._tokenizer(shown, padding=True, truncation=True, return_tensors="pt").to(self._model.device)
        states_BTE = self._model(**batch).last_hidden_state
        mask_BT1 = batch["attention_mask"][..., None].to(states_BTE.dtype)
        means_BE = (states_BTE * mask_BT1).sum(1) / mask_BT1.sum(1)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(means_BE, dim=-1).float().cpu().numpy()
        return vectors
