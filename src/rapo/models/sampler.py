"""Sampling in this process: every context is encoded once, however many completions it gets.

Shape suffixes: R rows (completions decoded together), T completion tokens, V vocabulary, K recorded tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from rapo.errors import ModelError
from rapo.models.decoder import obstacle
from rapo.models.decoding import Decoding, Engine, Prompt
from rapo.models.generic_decoding import GenericDecoding
from rapo.models.memory import Memory
from rapo.models.policy import Policy
from rapo.models.products import Project, products_for
from rapo.optimize.losses import bucket
from rapo.types import Completion


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A prompt and one seed for each completion wanted.

    Attributes:
        prompt_ids: at least one token.
        seeds: one each.
        shared: tokens from the beginning that other requests have in common, so that they are encoded once; None shares
            the whole prompt with the requests that have the same one.
        talk: the name of the talk it belongs to, whose encoding a memory keeps from turn to turn.
    """

    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]
    shared: int | None = None
    talk: str | None = None

    def row(self) -> Prompt:
        """As a row of the engine, which reads the last token at least by itself."""
        length = len(self.prompt_ids)
        shared = min(length if self.shared is None else self.shared, length - 1)
        # Several completions of one talk are branches, and it goes on from none of them.
        return Prompt(self.prompt_ids, shared, self.talk, kept=len(self.seeds) == 1)


@dataclass(frozen=True, slots=True)
class TeacherDistribution:
    """The next-token distributions a completion was decoded from, at temperature 1, one for each of its T tokens.

    Attributes:
        logps: float32 [T, V]; or [T, K + 1]: the K most likely tokens and, last, all others together.
        ids: int64 [T, K], the token each of the first K columns stands for; None for the full vocabulary.
    """

    logps: Tensor
    ids: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """A completion, and the distributions it was decoded from where they were asked for."""

    completion: Completion
    teacher: TeacherDistribution | None = None


def sample(
    policy: Policy,
    requests: Sequence[SampleRequest],
    *,
    max_tokens: int,
    temperature: float,
    batch_rows: int = 64,
    record_top_k: int | None = None,
    memory: Memory | None = None,
) -> list[list[Sampled]]:
    """Completions for each request, one per seed, in order.

    A completion depends on its prompt, its seed and the weights alone: token t is drawn by inverse CDF from the t-th
    uniform number of its seed. How rows share a batch can change a logit by rounding, nothing else.

    Args:
        policy: the model to sample from; put into eval mode meanwhile.
        requests: prompts (at least one token each) and seeds.
        max_tokens: length limit; a completion that reaches it is not ``finished``.
        temperature: above 0, of the distribution sampled from and of the log-probabilities reported. 0 decodes greedily
            and reports the log-probabilities of temperature 1.
        batch_rows: completions decoded together. Requests are taken in order and kept whole unless larger than this.
        record_top_k: None records nothing; 0 the full next-token distributions; K > 0 the K most likely tokens and the
            rest as one. Recorded at temperature 1.
        memory: encodings of these very weights, of talks that requests name.

    Raises:
        ModelError: a prompt is empty, or prompt and ``max_tokens`` do not fit the model's context.
    """
    _check(policy, requests, max_tokens)
    sampled: list[list[Sampled]] = [[] for _ in requests]
    training = policy.model.training
    policy.model.train(False)
    try:
        with torch.inference_mode(), policy.precision():
            project = products_for(policy.model, max_tokens)
            writer = _Writer(policy, max_tokens, temperature, record_top_k, memory, project)
            for rows in _batches(requests, batch_rows):
                completions = writer.run([requests[i].row() for i, _ in rows], [seed for _, seed in rows])
                for (i, _), completion in zip(rows, completions, strict=True):
                    sampled[i].append(completion)
    finally:
        policy.model.train(training)
    return sampled


def _check(policy: Policy, requests: Sequence[SampleRequest], max_tokens: int) -> None:
    room = policy.max_context - max_tokens
    for request in requests:
        if not request.prompt_ids:
            raise ModelError("an empty prompt cannot be continued", fix="render at least one message")
        if len(request.prompt_ids) > room:
            raise ModelError(
                "the prompt does not fit the model's context",
                got=f"{len(request.prompt_ids)} prompt tokens",
                expected=f"at most {room} ({policy.max_context} less max_tokens {max_tokens})",
                fix="play fewer turns, or use a model with a longer context",
            )


def _batches(requests: Sequence[SampleRequest], batch_rows: int) -> Iterator[list[tuple[int, int]]]:
    """Rows (request index, seed) to decode together, at most ``batch_rows``; formed from the requests' order alone."""
    batch: list[tuple[int, int]] = []
    for i, request in enumerate(requests):
        seeds = iter(request.seeds)
        while part := [(i, seed) for seed in islice(seeds, batch_rows)]:
            if len(batch) + len(part) > batch_rows:
                yield batch
                batch = []
            batch += part
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _Writer:
    policy: Policy
    max_tokens: int
    temperature: float
    record_top_k: int | None
    memory: Memory | None
    project: Project

    def run(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Sampled]:
        """One completion per row."""
        device, engine = self.policy.device, self._engine()
        end_ids = torch.tensor(sorted(self.policy.end_ids), device=device)
        tape = _Tape(len(prompts), self.max_tokens, self.record_top_k)
        noise_RT = _noise(seeds, self.max_tokens).to(device)
        origin_R = torch.arange(len(prompts), device=device)
        running_R = torch.ones_like(origin_R, dtype=torch.bool)
        logits_RV = engine.start(prompts, self.max_tokens)
        for t in range(self.max_tokens):
            ids_R, logps_R = self._draw(logits_RV, noise_RT[:, t])
            tape.write(t, origin_R, ids_R, logps_R, logits_RV)
            running_R &= ~torch.isin(ids_R, end_ids)
            left = int(running_R.sum()) if t % self._look_every() == 0 else len(running_R)
            if left == 0 or t + 1 == self.max_tokens:
                break
            # Copying keys and values costs about as much as one step, so rows go when that halves every later step.
            if left <= len(running_R) // 2:
                keep_R = running_R.nonzero().squeeze(-1)
                engine.select(keep_R)
                origin_R, noise_RT, ids_R, running_R = (x[keep_R] for x in (origin_R, noise_RT, ids_R, running_R))
            logits_RV = engine.step(ids_R)
        engine.close()
        return tape.read(self.policy)

    def _engine(self) -> Engine:
        model = self.policy.model
        return GenericDecoding(model) if obstacle(model) else Decoding(model, self.memory, self.project)

    def _look_every(self) -> int:
        """Steps between two looks at who has ended: a look makes a GPU wait."""
        return 1 if self.policy.device.type == "cpu" else 8

    def _draw(self, logits_RV: Tensor, noise_R: Tensor) -> tuple[Tensor, Tensor]:
        """Token and log-probability [R] of each row."""
        logits_RV = logits_RV.to(torch.promote_types(logits_RV.dtype, torch.float32))
        if self.temperature == 0:
            logps_RV = logits_RV.log_softmax(-1)
            ids_R1 = logps_RV.argmax(-1, keepdim=True)
        else:
            logps_RV = (logits_RV / self.temperature).log_softmax(-1)
            # In float64 noise < 1 keeps the target below the total, so a token of probability 0 is never drawn.
            cdf_RV = logps_RV.exp().cumsum(-1, dtype=torch.float64)
            ids_R1 = torch.searchsorted(cdf_RV, (noise_R * cdf_RV[:, -1])[:, None], right=True)
        return ids_R1.squeeze(-1), logps_RV.gather(-1, ids_R1).squeeze(-1)


class _Tape:
    """What was drawn so far: ids and log-probabilities [R, T], and the recorded distributions [R, T, V or K + 1]."""

    def __init__(self, rows: int, max_tokens: int, top_k: int | None) -> None:
        self._shape, self._top_k = (rows, max_tokens), top_k
        self._columns: dict[str, Tensor] = {}
        self._length = 0

    def write(self, t: int, origin_R: Tensor, ids_R: Tensor, logps_R: Tensor, logits_RV: Tensor) -> None:
        """Note step t of the rows ``origin_R``."""
        step = {"ids": ids_R, "logps": logps_R, **_record(logits_RV, self._top_k)}
        for name, values in step.items():
            if name not in self._columns:
                self._columns[name] = values.new_zeros(*self._shape, *values.shape[1:])
            self._columns[name][origin_R, t] = values
        self._length = t + 1

    def read(self, policy: Policy) -> list[Sampled]:
        """Each row, cut after its first end token."""
        ids_RT = self._columns["ids"][:, : self._length].tolist()
        logps_RT = self._columns["logps"][:, : self._length].tolist()
        sampled = []
        for row, (ids, logps) in enumerate(zip(ids_RT, logps_RT, strict=True)):
            end = next((t for t, token in enumerate(ids) if token in policy.end_ids), None)
            length = len(ids) if end is None else end + 1
            completion = Completion(
                policy.decode(ids[:length]), tuple(ids[:length]), tuple(logps[:length]), finished=end is not None
            )
            sampled.append(Sampled(completion, self._teacher(row, length)))
        return sampled

    def _teacher(self, row: int, length: int) -> TeacherDistribution | None:
        if self._top_k is None:
            return None
        # Cloned, so that keeping one row does not keep the whole batch in memory.
        cut = {name: column[row, :length].clone() for name, column in self._columns.items()}
        return TeacherDistribution(cut["teacher_logps"], cut.get("teacher_ids"))


def _noise(seeds: Sequence[int], count: int) -> Tensor:
    """Uniform float64 [R, T] in [0, 1), row r keyed by seed r; a longer limit extends a row and changes none of it."""
    # Philox takes the whole seed as its key, where torch's CPU generator uses its lower 32 bits only.
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(count) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def _record(logits_RV: Tensor, top_k: int | None) -> dict[str, Tensor]:
    if top_k is None:
        return {}
    logps_RV = logits_RV.float().log_softmax(-1)
    if top_k == 0:
        return {"teacher_logps": logps_RV}
    ids_RK = logps_RV.topk(min(top_k, logps_RV.shape[-1] - 1)).indices
    return {"teacher_logps": bucket(logps_RV, ids_RK), "teacher_ids": ids_RK}
