"""Both sides of a loss over the vocabulary, in chunks of tokens: what the policy says, and what its teacher says.

The memory that logits take depends on neither the number of tokens nor the length of prompts.

Shape suffixes: N scored tokens of one kind in the order group, segment, token; n tokens of a chunk; V vocabulary; B
buckets; K likeliest tokens; E width of the states that the output layer reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rapo.optimize.lessons import TaughtReply
from rapo.optimize.losses import bucket
from rapo.optimize.packing import Scores

# Losses hold a few tensors of a chunk's logits at a time. Fewer tokens, and reading the weights is most of a product; a
# GPU needs more.
CHUNK_TOKENS = {"cpu": 128, "cuda": 1024}


class StudentLogits:
    """What the policy says, chunk by chunk, and the gradient that comes back.

    Args:
        states: [N, E] of the tokens, cut off from the decoder.
        project: states to logits.

    Attributes:
        gradient: [N, E] by the states of the chunks that losses have been taken back from.
    """

    def __init__(self, states: Tensor, project: Callable[[Tensor], Tensor]) -> None:
        self._states, self._project = states, project
        self.gradient = torch.zeros_like(states)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Which tokens, and their logits [n, V]; take each loss of a chunk back to them before the next chunk."""
        for chunk in chunks(self._states):
            below = self._states[chunk].requires_grad_()
            projected = self._project(below)
            # A leaf: what one loss holds is gone before the next, and the projection is taken back once for all.
            logits = projected.detach().requires_grad_()
            yield chunk, logits
            projected.backward(logits.grad)
            if below.grad is not None:
                self.gradient[chunk] = below.grad


@dataclass(slots=True)
class TeacherLogps:
    """What the teacher says at each taught token: recorded while it decoded, or from a forward of its own."""

    replies: Sequence[TaughtReply]
    top_k: int
    scores: Scores | None = None

    @property
    def recorded(self) -> bool:
        """Whether the distributions were recorded; raises ValueError when some were and others were not."""
        found = {reply.teacher is not None for reply in self.replies}
        if len(found) > 1 or len({reply.teacher.ids is None for reply in self.replies if reply.teacher}) > 1:
            raise ValueError("the distributions of some taught replies are recorded and others' are not, or otherwise")
        return found == {True}

    def logps(self, chunk: slice, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities [n, B] of a chunk's tokens, and the ids [n, K] they are bucketed by (None: all tokens)."""
        if self.scores is None:
            told = [reply.teacher for reply in self.replies if reply.teacher is not None]
            ids = [each.ids for each in told if each.ids is not None]
            logps_nB = cut([each.logps for each in told], chunk).to(like.device)
            return logps_nB, cut(ids, chunk).to(like.device) if ids else None
        with torch.no_grad():
            logps_nV = self.scores.project(self.scores.states[chunk]).float().log_softmax(-1)
        if not self.top_k:
            return logps_nV, None
        ids_nK = logps_nV.topk(min(self.top_k, logps_nV.shape[-1] - 1)).indices
        return bucket(logps_nV, ids_nK), ids_nK


def chunks(states: Tensor) -> Iterator[slice]:
    """``CHUNK_TOKENS`` of the tokens [N, E] at a time."""
    size = CHUNK_TOKENS[states.device.type]
    for start in range(0, len(states), size):
        yield slice(start, start + size)


def cut(pieces: Sequence[Tensor], chunk: slice) -> Tensor:
    """Rows ``chunk`` of the pieces' concatenation, without making it."""
    found, start = [], 0
    for piece in pieces:
        found.append(piece[max(0, chunk.start - start) : max(0, chunk.stop - start)])
        start += len(piece)
    return torch.cat(found)
