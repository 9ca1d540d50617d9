"""Step 6: what the groups of a step teach, added up in their order while others are awaited, and one update from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rapo.config import RunConfig
from rapo.models.policy import Policy
from rapo.optimize.advantage import group_advantage, rank_rewards
from rapo.optimize.lessons import RankedReply, TaughtReply, TrainingGroup, count
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.render import Example
from rapo.optimize.update import Gradient, Hybrid, UpdateResult, kl_to, update
from rapo.teacher import Corrected, Teacher
from rapo.types import Group

Divergences = list[list[list[float] | None]]  # by group, place and token

KL_GROUPS = 4  # the distance to the start is a sample: these many groups of a step


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a group teaches.

    Attributes:
        group: with its feedback and corrections.
        advantages: of its candidates; zeros where feedback is missing or ties.
        taught: the places of what the verbal term runs along: corrections, or candidates with ``update.along=own``.
        places: how many of these there are.
    """

    group: Group
    advantages: tuple[float, ...]
    taught: tuple[int, ...]
    places: int

    def divergences(self, found: Sequence[list[float]]) -> list[list[float] | None]:
        """Those of the taught replies at their places, None elsewhere."""
        known = dict(zip(self.taught, found, strict=False))
        return [known.get(place) for place in range(self.places)]


class Learning:
    """The update of one step.

    Args:
        config: the run's config.
        numbers: of the update.
        policy: learns.
        start: the policy as it was before the first step.
        teacher: what it wrote is learnt, and ``update.along=own`` asks it.

    Attributes:
        lessons: what was added so far.
    """

    def __init__(self, config: RunConfig, numbers: Hybrid, policy: Policy, start: Policy, teacher: Teacher) -> None:
        self.lessons: list[Lesson] = []
        self._config, self._numbers, self._teacher = config, numbers, teacher
        self._policy, self._start = policy, start
        self._reference = start if numbers.kl > 0 else None
        self._groups: list[TrainingGroup] = []
        self._gradient: Gradient | None = None

    def add(self, corrected: Sequence[Corrected], *, whole: bool) -> None:
        """Learn from some groups; a group without feedback teaches nothing.

        Args:
            corrected: the next ones in order.
            whole: these are all. Only then are the tokens of both terms known at once, which saves a pass.
        """
        # What the teacher said is as large as the vocabulary: it is let go when it has been learnt for the last time.
        taught = [self._taught(each) for each in corrected]
        lessons = [self._lesson(each.group, tuple(some)) for each, some in zip(corrected, taught, strict=True)]
        groups = [
            self._training(lesson, tuple(some.values()))
            for lesson, some in zip(lessons, taught, strict=True)
            if lesson.group.feedback is not None
        ]
        if self._gradient is None:
            # A step that was stopped may have left a part of its own.
            self._policy.model.zero_grad(set_to_none=True)
            self._gradient = Gradient(
                self._policy,
                self._numbers,
                tokens=count(map(self._numbers.moving, groups)) if whole else None,
                teacher=self._teacher.policy,
                reference=self._reference,
            )
        self._gradient.add(groups)
        again = self._config.train.iterations > 1
        self._groups += groups if again else [replace(group, taught=()) for group in groups]
        self.lessons += lessons

    def apply(self, optimizer: Optimizer, replay: Sequence[Example]) -> tuple[dict[str, float], Divergences]:
        """Take the step, and ``train.iterations`` less one more on the same groups.

        The clipping of the rank term is what holds those back: the replies were sampled from the weights before the
        first one (PPO, arXiv 1707.06347; mu of arXiv 2402.03300, algorithm 1).

        Returns:
            Metrics, means over the iterations, and the divergences (nats) before the first at each token of what was
            learnt along, by lesson and place; None at a place that was not learnt from.

        Raises:
            RunError: the gradient is not finite; the weights are as they were before that iteration.
        """
        result = self._gradient.apply(optimizer, replay) if self._gradient else UpdateResult()
        found = [result.metrics] + [self._again(optimizer, replay) for _ in range(self._config.train.iterations - 1)]
        metrics = {name: fmean(each[name] for each in found) for name in result.metrics}
        metrics["kl_to_start"] = kl_to(self._start, self._policy, self._groups[:KL_GROUPS])
        gaps = iter(result.divergences)
        return metrics, [
            lesson.divergences(next(gaps) if lesson.group.feedback is not None else ()) for lesson in self.lessons
        ]

    def _again(self, optimizer: Optimizer, replay: Sequence[Example]) -> dict[str, float]:
        return update(
            self._policy,
            optimizer,
            self._groups,
            self._numbers,
            teacher=self._teacher.policy,
            reference=self._reference,
            replay=replay,
        ).metrics

    def _taught(self, corrected: Corrected) -> dict[int, TaughtReply]:
        """What the verbal term runs along, by place."""
        if self._numbers.micro == 0:
            return {}
        own = self._config.update.along == "own"
        return self._teacher.own_tokens(corrected.group) if own else self._teacher.taught(corrected)

    def _lesson(self, group: Group, taught: tuple[int, ...]) -> Lesson:
        if group.feedback is None:
            advantages: tuple[float, ...] = (0.0,) * len(group.candidates)
        else:
            advantages = group_advantage(rank_rewards([feedback.rank for feedback in group.feedback]))
        own = self._config.update.along == "own"
        return Lesson(group, advantages, taught, len(group.candidates if own else group.corrections))

    def _training(self, lesson: Lesson, taught: tuple[TaughtReply, ...]) -> TrainingGroup:
        ranked = tuple(
            RankedReply(candidate.completion.token_ids, candidate.completion.logps, advantage)
            for candidate, advantage in zip(lesson.group.candidates, lesson.advantages, strict=True)
        )
        prompt = self._teacher.speaker.prompt(lesson.group.pivot.dialogue.messages)
        return TrainingGroup(prompt, ranked, taught)


def numbers(config: RunConfig, step: int) -> Hybrid:
    """The numbers of the update at a step; lambda falls linearly to 0 over ``update.micro_decay`` steps."""
    c = config.update
    return Hybrid(
        macro=c.macro,
        micro=c.micro * (max(0.0, 1 - (step - 1) / c.micro_decay) if c.micro_decay else 1.0),
        divergence=c.divergence,
        top_k=c.top_k,
        clip_low=c.clip_low,
        clip_high=c.clip_high,
        kl=c.kl,
        replay=config.teacher.replay_weight,
        temperature=config.branch.temperature,
        tokens_per_forward=c.tokens_per_forward,
        grad_clip=c.grad_clip,
    )
