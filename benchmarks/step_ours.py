"""Our side of ``step.py``: what ``rapo.trainer.Trainer.step`` does once users and judge have spoken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path

import torch

from harness import Channel, Clock, Memory
from rapo.hindsight.revision import teacher_messages
from rapo.models.policy import Policy
from rapo.models.sampler import Sampled, SampleRequest, sample
from rapo.optimize.advantage import group_advantage, rank_rewards
from rapo.optimize.lessons import RankedReply, TaughtReply, TrainingGroup
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.update import Hybrid, update
from rapo.types import Message
from workload import Point, dialogues

Ids = tuple[int, ...]
Told = tuple[str, str]


def run(point: Point, folder: Path, contender: str, channel: Channel) -> None:
    """Step until the parent has no more commands."""
    torch.set_num_threads(point.threads)
    ours = CONTENDERS[contender](point, folder)
    memory, number = Memory(point.device), 0
    while command := channel.wait():
        clock = Clock(point.device, count=command == "count")
        ours.step(number, clock)
        channel.report(clock.report() | memory.report())
        number += 1


class Grpo:
    """The macro term alone."""

    macro, micro = 1.0, 0.0

    def __init__(self, point: Point, folder: Path) -> None:
        self.point = point
        self.policy = Policy.load(folder, dtype=point.dtype, device=point.device)
        self.optimizer = Optimizer(self.policy, lr=1e-5)
        told, size = dialogues(point), point.groups
        self.steps = [told[i : i + size] for i in range(0, len(told), size)]

    def step(self, number: int, clock: Clock) -> None:
        """Sample groups and learn from them."""
        batch = self.steps[number % len(self.steps)]
        clock.start("sample")
        prompts = [tuple(self.policy.render([Message("user", text)])) for text, _ in batch]
        found = self._sample(self.policy, prompts, self.point.group, number)
        lessons = self._lessons(batch, prompts, found, number)
        clock.stop()
        clock.start("update")
        self._update([self._group(*parts) for parts in zip(prompts, found, lessons, strict=True)])
        clock.stop()
        if any(len(each.completion.token_ids) != self.point.reply for some in found for each in some):
            raise RuntimeError("a reply does not have the length that was asked for")

    def _sample(
        self,
        policy: Policy,
        prompts: Sequence[Ids],
        each: int,
        number: int,
        *,
        shared: Sequence[int | None] | None = None,
        record: int | None = None,
    ) -> list[list[Sampled]]:
        seeds = count(number * 10**6)
        requests = [
            SampleRequest(prompt, tuple(islice(seeds, each)), length)
            for prompt, length in zip(prompts, shared or [None] * len(prompts), strict=True)
        ]
        return sample(policy, requests, max_tokens=self.point.reply, temperature=1.0, record_top_k=record)

    def _lessons(
        self, batch: Sequence[Told], prompts: Sequence[Ids], found: Sequence[Sequence[Sampled]], number: int
    ) -> list[list[TaughtReply]]:
        """What the micro term teaches in each group."""
        return [[] for _ in batch]

    def _group(self, prompt: Ids, found: Sequence[Sampled], taught: Sequence[TaughtReply]) -> TrainingGroup:
        advantages = group_advantage(rank_rewards(list(range(1, len(found) + 1))))
        ranked = [
            RankedReply(each.completion.token_ids, each.completion.logps, advantage)
            for each, advantage in zip(found, advantages, strict=True)
        ]
        return TrainingGroup(prompt, tuple(ranked), tuple(taught))

    def _update(self, groups: Sequence[TrainingGroup]) -> None:
        update(self.policy, self.optimizer, groups, self._numbers())

    def _numbers(self) -> Hybrid:
        return Hybrid(
            macro=self.macro,
            micro=self.micro,
            divergence="forward_kl",
            top_k=0,
            clip_low=0.2,
            clip_high=0.28,
            kl=0.0,
            replay=0.0,
            temperature=1.0,
            tokens_per_forward=8192,
            grad_clip=1.0,
        )


class PlainRows(Grpo):
    """The macro term with one ordinary row per reply, as models take that cannot share prefixes."""

    def __init__(self, point: Point, folder: Path) -> None:
        super().__init__(point, folder)
        # Such a model is one that trains with dropout; in eval mode, in which updates run, it has none.
        self.policy.model.config.attention_dropout = 0.1


class OwnTokens(Grpo):
    """Both terms, the micro one along the replies themselves: an EMA teacher reads reply and critique, then scores."""

    macro, micro = 0.5, 0.5

    def __init__(self, point: Point, folder: Path) -> None:
        super().__init__(point, folder)
        self.teacher = self.policy.clone()

    def _lessons(
        self, batch: Sequence[Told], prompts: Sequence[Ids], found: Sequence[Sequence[Sampled]], number: int
    ) -> list[list[TaughtReply]]:
        return [
            [TaughtReply(each.completion.token_ids, feedback=self._told(told, each)[len(prompt) :]) for each in some]
            for told, prompt, some in zip(batch, prompts, found, strict=True)
        ]

    def _told(self, told: Told, reply: Sampled) -> Ids:
        """The teacher's prompt: context, failed reply, critique."""
        text, critique = told
        return tuple(self.policy.render(teacher_messages([Message("user", text)], reply.completion.text, critique)))

    def _update(self, groups: Sequence[TrainingGroup]) -> None:
        update(self.policy, self.optimizer, groups, self._numbers(), teacher=self.teacher)
        self.teacher.follow(self.policy, 0.95)


class Corrections(OwnTokens):
    """Both terms, the micro one along corrections that the EMA teacher writes; its distributions are recorded."""

    def _lessons(
        self, batch: Sequence[Told], prompts: Sequence[Ids], found: Sequence[Sequence[Sampled]], number: int
    ) -> list[list[TaughtReply]]:
        failed = [some[: self.point.corrections] for some in found]
        asked = [self._told(told, each) for told, some in zip(batch, failed, strict=True) for each in some]
        shared = [len(prompt) for prompt, some in zip(prompts, failed, strict=True) for _ in some]
        written = (each for (each,) in self._sample(self.teacher, asked, 1, number, shared=shared, record=0))
        return [
            [TaughtReply(each.completion.token_ids, each.teacher) for each in islice(written, len(some))]
            for some in failed
        ]


CONTENDERS: dict[str, type[Grpo]] = {
    "rapo-grpo": Grpo,
    "rapo-grpo-plain": PlainRows,
    "rapo-own": OwnTokens,
    "rapo-corrections": Corrections,
}
