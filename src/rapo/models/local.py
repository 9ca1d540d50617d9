"""A language model in this process: for small judges and users, and for runs without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from rapo.config.sections import ModelSpec
from rapo.errors import ModelError
from rapo.models.chat import ChatAnswer, ChatRequest
from rapo.models.policy import Policy
from rapo.models.sampler import SampleRequest, sample
from rapo.models.source import fingerprint


class LocalModel:
    """The model at ``spec.path``, sampled in batches of ``spec.concurrency``.

    An answer depends on its messages, its seed and the weights, never on who shares its batch (rounding aside). A JSON
    schema is not enforced.

    Args:
        spec: folder or hub id, and how to sample.
        notice: told once if prompts are too long.
        device: where it computes.
        dtype: number format of its weights.

    Raises:
        ModelError: it cannot be loaded, or ``spec.max_tokens`` leaves no room for a prompt.
    """

    def __init__(
        self, spec: ModelSpec, *, notice: Callable[[str], None], device: str = "cpu", dtype: str = "float32"
    ) -> None:
        self.name = spec.name or str(spec.path)
        self._spec, self._notice, self._noticed = spec, notice, False
        self._policy = _load(str(spec.path), device, dtype, fingerprint(str(spec.path)))
        self._room = self._policy.max_context - spec.max_tokens
        if self._room < 1:
            raise ModelError(
                f"the context of {self.name} is no longer than the answer it may give",
                got=f"max_tokens {spec.max_tokens}",
                expected=f"less than {self._policy.max_context}",
            )

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        """Every request's answer, batch by batch; None, told once, where a prompt does not fit the context.

        Raises:
            ModelError: the chat template rejects the messages.
        """
        fitting: list[tuple[int, SampleRequest]] = []
        for place, request in enumerate(requests):
            prompt = tuple(self._policy.render(request.messages))
            if len(prompt) > self._room:
                self._too_long(len(prompt))
                yield place, None
            else:
                fitting.append((place, SampleRequest(prompt, (request.seed,))))
        for start in range(0, len(fitting), self._spec.concurrency):
            yield from self._batch(fitting[start : start + self._spec.concurrency])

    def _batch(self, batch: Sequence[tuple[int, SampleRequest]]) -> Iterator[tuple[int, ChatAnswer]]:
        sampled = sample(
            self._policy,
            [request for _, request in batch],
            max_tokens=self._spec.max_tokens,
            temperature=self._spec.temperature,
            batch_rows=self._spec.concurrency,
        )
        for (place, request), (one,) in zip(batch, sampled, strict=True):
            written = one.completion
            yield place, ChatAnswer(written.text, written.finished, len(request.prompt_ids), len(written.token_ids))

    def _too_long(self, length: int) -> None:
        if not self._noticed:
            self._noticed = True
            self._notice(
                f"{self.name} is given prompts that do not fit its context, which stay without an answer: "
                f"{length} tokens, where {self._room} fit beside an answer of {self._spec.max_tokens}"
            )


@lru_cache(maxsize=4)
def _load(path: str, device: str, dtype: str, files: str) -> Policy:
    # One model may play users and judge: its weights are loaded once.
    return Policy.load(path, device=device, dtype=dtype)
