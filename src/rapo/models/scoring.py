"""How likely a policy finds given replies: full forwards in batches, for any causal language model.

Shape suffixes: B rows, W their width (prompt, reply, padding), K of it whose logits are needed, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rapo.models.policy import Policy

MOST_TOKENS = 1 << 14  # B W
MOST_LOGITS = 1 << 26  # B K V

Row = tuple[Sequence[int], Sequence[int]]  # the ids of a prompt and of the reply after it, neither empty


def log_likelihoods(policy: Policy, rows: Sequence[Row]) -> list[float]:
    """Log-probability (nats, temperature 1) of each row's reply after its prompt, summed over the reply's tokens."""
    found = [0.0] * len(rows)
    vocabulary = int(policy.model.config.get_text_config().vocab_size)
    training = policy.model.training
    policy.model.train(False)
    try:
        with torch.inference_mode(), policy.precision():
            for places in _batches(rows, vocabulary):
                sums = _sums(policy, [rows[place] for place in places])
                for place, total in zip(places, sums.tolist(), strict=True):
                    found[place] = total
    finally:
        policy.model.train(training)
    return found


def _sums(policy: Policy, rows: Sequence[Row]) -> Tensor:
    """The sums [B] of rows that are padded on the right, where causal attention never looks from a reply."""
    texts = [[*prompt, *reply] for prompt, reply in rows]
    width, keep = max(map(len, texts)), _keep(rows)
    ids_BW = torch.tensor([text + text[-1:] * (width - len(text)) for text in texts], device=policy.device)
    lengths_B = torch.tensor([len(text) for text in texts], device=policy.device)
    starts_B = torch.tensor([len(prompt) for prompt, _ in rows], device=policy.device)
    places_W = torch.arange(width, device=policy.device)
    logits_BKV: Tensor = cast(Any, policy.model)(
        input_ids=ids_BW,
        attention_mask=(places_W < lengths_B[:, None]).long(),
        use_cache=False,
        logits_to_keep=keep,
    ).logits
    # Logits at one place are of the token at the next; the last place predicts nothing that is here.
    targets_BK = ids_BW[:, width - keep + 1 :]
    said_K = places_W[width - keep + 1 :]
    reply_BK = (said_K >= starts_B[:, None]) & (said_K < lengths_B[:, None])
    logps_BK = logits_BKV[:, :-1].float().log_softmax(-1).gather(-1, targets_BK[..., None]).squeeze(-1)
    return logps_BK.double().masked_fill(~reply_BK, 0).sum(-1)


def _batches(rows: Sequence[Row], vocabulary: int) -> Iterator[list[int]]:
    """Places of rows to compute together: rows of like length, within both bounds, one at least."""
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1])):
        larger = [*batch, place]
        width = len(rows[place][0]) + len(rows[place][1])
        logits = len(larger) * _keep([rows[i] for i in larger]) * vocabulary
        if batch and (len(larger) * width > MOST_TOKENS or logits > MOST_LOGITS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _keep(rows: Sequence[Row]) -> int:
    """How many places from the end of the batch on reach back to the first that predicts a reply."""
    return max(len(prompt) + len(reply) for prompt, reply in rows) - min(len(prompt) for prompt, _ in rows) + 1
