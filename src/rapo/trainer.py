"""One training step, in the order of the algorithm: play, select, branch, judge, correct, update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random

import torch

from rapo.config import RunConfig
from rapo.errors import ModelError
from rapo.hindsight.feedback import RewardModel, give_feedback
from rapo.hindsight.revision import teacher_messages
from rapo.hindsight.selection import select_pivotal
from rapo.interact.play import branch, play
from rapo.interact.users import UserSimulator
from rapo.missing import CountingUsers, demand
from rapo.models.policy import Policy
from rapo.models.sampler import SampleRequest, TeacherDistribution, sample
from rapo.models.speaker import PolicySpeaker
from rapo.optimize.advantage import group_advantage, rank_rewards
from rapo.optimize.lessons import RankedReply, TaughtReply, TrainingGroup
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.render import Example
from rapo.optimize.update import Hybrid, UpdateResult, kl_to, update
from rapo.seeds import derive_seed
from rapo.step_metrics import improves, step_metrics
from rapo.types import Correction, Dialogue, EchoRequest, Group, Message

KL_GROUPS = 4  # the distance to the start is a sample: these many groups of a step


@dataclass(frozen=True, slots=True)
class Step:
    """Everything one step produced.

    Attributes:
        number: counted from 1.
        dialogues: what was played.
        groups: the branched turns with candidates, echoes, feedback and corrections.
        advantages: of every candidate, group by group; zeros where feedback is missing or ties.
        divergences: student from teacher, nats per token, of every correction (of every candidate with
            ``update.along=own``), group by group; NaN where it was not learnt from.
        metrics: see the glossary in ``docs/algorithm.md``.
    """

    number: int
    dialogues: list[Dialogue]
    groups: list[Group]
    advantages: list[tuple[float, ...]]
    divergences: list[list[float]]
    metrics: dict[str, float]


class Trainer:
    """Holds what lasts from step to step: policy, teacher, optimizer.

    Args:
        config: the run's config.
        policy: trained in place.
        start: the policy as it was before the first step; frozen.
        users: the user simulator.
        judge: the generative reward model.
        replay: ``replay(step) -> examples``, supervised correction examples that keep the teacher's skill alive.
    """

    def __init__(
        self,
        config: RunConfig,
        policy: Policy,
        *,
        start: Policy,
        users: UserSimulator,
        judge: RewardModel,
        replay: Callable[[int], Sequence[Example]] = lambda step: (),
    ) -> None:
        self.config, self.policy, self.start, self.judge, self.replay = config, policy, start, judge, replay
        self.users = CountingUsers(users)
        self.optimizer = Optimizer(policy, lr=config.update.lr)
        kinds: dict[str, Callable[[], Policy]] = {"ema": policy.clone, "frozen": lambda: start, "live": lambda: policy}
        self.teacher = kinds[config.teacher.kind]()

    def step(self, number: int, on_phase: Callable[[str], None] = lambda phase: None) -> Step:
        """The algorithm box of the paper, once; ``number`` counts from 1 and keys all randomness.

        ``on_phase`` hears the name of each phase as it begins.
        """
        c, clock, before = self.config, _Clock(on_phase), (self.users.calls, self.users.missing)
        seed = derive_seed(c.run.seed, "step", number)
        with clock.phase("play"):
            scenarios = self.users.scenarios(c.play.dialogues, seed)
            dialogues = play(self._speaker(c.play.temperature), self.users, scenarios, turns=c.play.turns, seed=seed)
        pivots = select_pivotal(
            dialogues, share=c.select.share, per_dialogue=c.select.per_dialogue, floor=c.select.floor
        )
        with clock.phase("branch"):
            sampler = self._speaker(c.branch.temperature)
            groups = branch(sampler, self.users, pivots, candidates=c.branch.candidates, seed=seed)
        self._demand("reactions", self.users.missing - before[1], self.users.calls - before[0])
        with clock.phase("judge"):
            groups = give_feedback(groups, self.judge, permutations=c.judge.permutations, seed=seed)
        judged = [group for group in groups if len(group.candidates) > 1]
        self._demand("verdicts", sum(group.feedback is None for group in judged), len(judged))
        with clock.phase("correct"):
            groups, recorded = (
                self._correct(groups, seed) if self._micro(number) > 0 else (groups, [[] for _ in groups])
            )
        with clock.phase("update"):
            advantages = [_advantages(group) for group in groups]
            result = self._update(groups, advantages, recorded, number)
            self._follow()
        calls, missing = self.users.calls - before[0], self.users.missing - before[1]
        metrics = {
            **step_metrics(dialogues, groups),
            **result.metrics,
            "cut_short": _cut_short(dialogues, c.play.turns),
            "simulator_calls": float(calls),
            "missing_reactions": missing / calls if calls else 0.0,
            "judge_calls": float(sum(len(group.candidates) > 1 for group in groups) * c.judge.permutations),
            **clock.seconds,
        }
        return Step(number, dialogues, groups, advantages, result.divergences, metrics)

    def _demand(self, what: str, missing: int, asked: int) -> None:
        demand(f"{what} of a step", missing=missing, asked=asked, limit=self.config.calls.max_missing)

    def _speaker(self, temperature: float) -> PolicySpeaker:
        return PolicySpeaker(self.policy, self.config.policy.system_prompt, self.config.policy.max_tokens, temperature)

    def _prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(self.policy.render(self._speaker(1.0).context(messages)))

    def _correct(self, groups: Sequence[Group], seed: int) -> tuple[list[Group], list[list[TeacherDistribution]]]:
        """The groups with the teacher's corrections of failed replies, and the distributions each was decoded from."""
        c = self.config
        failed = [
            [i for i in _failed(group, c.correct.below, c.correct.per_group, seed) if self._fits_teacher(group, i)]
            for group in groups
        ]
        sampled = sample(
            self.teacher,
            [
                SampleRequest(self._teacher_prompt(group, i), (_key(seed, "correct", group, i),))
                for group, places in zip(groups, failed, strict=True)
                for i in places
            ],
            max_tokens=c.policy.max_tokens,
            temperature=c.correct.temperature,
            record_top_k=c.update.top_k,
        )
        written = iter(found[0] for found in sampled)
        corrected, recorded = [], []
        for group, places in zip(groups, failed, strict=True):
            mine = [next(written) for _ in places]
            drafts = tuple(Correction(i, each.completion) for i, each in zip(places, mine, strict=True))
            corrected.append(replace(group, corrections=drafts))
            recorded.append([each.teacher for each in mine if each.teacher is not None])
        return self._verify(corrected, seed), recorded

    def _verify(self, groups: Sequence[Group], seed: int) -> list[Group]:
        """Ask for the echo of a share of the corrections."""
        asked = [
            (g, k, EchoRequest(group.pivot.dialogue, each.completion.text, _key(seed, "verify", group, each.candidate)))
            for g, group in enumerate(groups)
            for k, each in enumerate(group.corrections)
            if Random(_key(seed, "verify?", group, each.candidate)).random() < self.config.correct.verify
        ]
        verified = [list(group.corrections) for group in groups]
        for (g, k, _), echo in zip(asked, self.users.react([request for _, _, request in asked]), strict=True):
            verified[g][k] = replace(verified[g][k], reaction=echo)
        return [replace(group, corrections=tuple(some)) for group, some in zip(groups, verified, strict=True)]

    def _update(
        self,
        groups: Sequence[Group],
        advantages: Sequence[Sequence[float]],
        recorded: Sequence[Sequence[TeacherDistribution]],
        number: int,
    ) -> UpdateResult:
        c = self.config.update
        judged = [i for i, group in enumerate(groups) if group.feedback is not None]
        taught = {i: self._lessons_of(groups[i], recorded[i], number) for i in judged}
        lessons = [
            TrainingGroup(
                self._prompt(groups[i].pivot.dialogue.messages),
                _ranked(groups[i], advantages[i]),
                tuple(taught[i].values()),
            )
            for i in judged
        ]
        replay = self.replay(number)
        result = update(
            self.policy,
            self.optimizer,
            lessons,
            self._numbers(number),
            teacher=self.teacher,
            reference=self.start if c.kl > 0 else None,
            replay=replay,
        )
        result.metrics["kl_to_start"] = kl_to(self.start, self.policy, lessons[:KL_GROUPS])
        width = {i: len(g.candidates if c.along == "own" else g.corrections) for i, g in enumerate(groups)}
        aligned = [[math.nan] * width[i] for i in range(len(groups))]
        for i, values in zip(judged, result.divergences, strict=True):
            for place, value in zip(taught[i], values, strict=False):
                aligned[i][place] = value
        result.divergences = aligned
        return result

    def _micro(self, number: int) -> float:
        """Lambda at a step; it falls linearly to 0 over ``update.micro_decay`` steps."""
        c = self.config.update
        return c.micro * (max(0.0, 1 - (number - 1) / c.micro_decay) if c.micro_decay else 1.0)

    def _numbers(self, number: int) -> Hybrid:
        c = self.config
        return Hybrid(
            macro=c.update.macro,
            micro=self._micro(number),
            divergence=c.update.divergence,
            top_k=c.update.top_k,
            clip_low=c.update.clip_low,
            clip_high=c.update.clip_high,
            kl=c.update.kl,
            replay=c.teacher.replay_weight,
            temperature=c.branch.temperature,
            tokens_per_forward=c.update.tokens_per_forward,
            grad_clip=c.update.grad_clip,
        )

    def _teacher_prompt(self, group: Group, i: int) -> tuple[int, ...]:
        critique = group.feedback[i].critique if group.feedback else ""
        reply = group.candidates[i].completion.text
        return self._prompt(teacher_messages(group.pivot.dialogue.messages, reply, critique))

    def _fits_teacher(self, group: Group, i: int) -> bool:
        """Whether a correction can be written after the context, the failed reply and its critique."""
        return len(self._teacher_prompt(group, i)) + self.config.policy.max_tokens <= self.teacher.max_context

    def _lessons_of(self, group: Group, recorded: Sequence[TeacherDistribution], number: int) -> dict[int, TaughtReply]:
        """What the micro term teaches in a group, by place."""
        if self._micro(number) == 0:
            return {}
        return self._own_tokens(group) if self.config.update.along == "own" else _taught(group, recorded)

    def _own_tokens(self, group: Group) -> dict[int, TaughtReply]:
        """The failed candidates themselves by their place, for the teacher to comment on token by token."""
        prompt = self._prompt(group.pivot.dialogue.messages)
        taught = {}
        for i in _failed(group, self.config.correct.below, len(group.candidates), 0):
            if not self._fits_teacher(group, i):
                continue
            told = self._teacher_prompt(group, i)
            if told[: len(prompt)] != prompt:
                raise ModelError(
                    "the chat template renders a past reply differently from the one being written",
                    fix="use update.along=corrections with this model",
                )
            taught[i] = TaughtReply(group.candidates[i].completion.token_ids, feedback=told[len(prompt) :])
        return taught

    @torch.no_grad()
    def _follow(self) -> None:
        """Let an EMA teacher follow the policy."""
        if self.config.teacher.kind == "ema":
            weights = zip(self.teacher.model.parameters(), self.policy.model.parameters(), strict=True)
            for theirs, mine in weights:
                theirs.lerp_(mine, 1 - self.config.teacher.decay)


def _cut_short(dialogues: Sequence[Dialogue], turns: int) -> float:
    """Share of the dialogues that neither their user nor the number of turns ended."""
    return sum(not d.done and len(d.turns) < turns for d in dialogues) / len(dialogues)


def _failed(group: Group, below: float, most: int, seed: int) -> list[int]:
    """The candidates to be corrected, at most ``most`` of them, drawn at random.

    A candidate failed when its rank reward is below ``below`` and its echo left the user no better off than before:
    beside a better one, a reply that helped needs no correction.
    """
    if group.feedback is None:
        return []
    before = group.pivot.dialogue.trajectory[-1]
    rewards = rank_rewards([feedback.rank for feedback in group.feedback])
    places = [
        i
        for i, (reward, candidate) in enumerate(zip(rewards, group.candidates, strict=True))
        if reward < below and candidate.reaction.state <= before
    ]
    return sorted(Random(_key(seed, "failed", group, 0)).sample(places, min(most, len(places))))


def _advantages(group: Group) -> tuple[float, ...]:
    if group.feedback is None:
        return (0.0,) * len(group.candidates)
    return group_advantage(rank_rewards([feedback.rank for feedback in group.feedback]))


def _ranked(group: Group, advantages: Sequence[float]) -> tuple[RankedReply, ...]:
    return tuple(
        RankedReply(candidate.completion.token_ids, candidate.completion.logps, advantage)
        for candidate, advantage in zip(group.candidates, advantages, strict=True)
    )


def _taught(group: Group, recorded: Sequence[TeacherDistribution]) -> dict[int, TaughtReply]:
    """The corrections worth learning from, by place: finished, and not found to be no better than the reply."""
    return {
        place: TaughtReply(correction.completion.token_ids, teacher)
        for place, (correction, teacher) in enumerate(zip(group.corrections, recorded, strict=True))
        if correction.completion.finished and (correction.reaction is None or improves(group, correction))
    }


def _key(seed: int, purpose: str, group: Group, i: int) -> int:
    dialogue = group.pivot.dialogue
    return derive_seed(seed, purpose, dialogue.scenario.id, len(dialogue.turns), i)


@dataclass(slots=True)
class _Clock:
    on_phase: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.on_phase(name)
        start = time.perf_counter()
        yield
        self.seconds[f"seconds_{name}"] = time.perf_counter() - start
