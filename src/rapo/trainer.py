"""One training step, in the order of the algorithm: play, select, branch, judge, correct, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TypeVar

from rapo.config import RunConfig
from rapo.errors import DataError
from rapo.hindsight.feedback import RewardModel, give_feedback
from rapo.hindsight.selection import ORDERS, select_pivotal
from rapo.interact.play import Echoes, branch, cut_short, talk
from rapo.interact.users import UserSimulator
from rapo.learning import Divergences, Learning, numbers
from rapo.missing import CountingUsers, demand
from rapo.models.memory import Memory
from rapo.models.policy import Policy
from rapo.models.speaker import PolicySpeaker
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.render import Example
from rapo.overlap import IDLE, Clock, Overlap, concurrency
from rapo.safety.screening import risky, safe
from rapo.seeds import derive_seed
from rapo.step_metrics import step_metrics
from rapo.teacher import Teacher
from rapo.types import Dialogue, Group, PivotalTurn

T = TypeVar("T")

BATCH = 64  # replies that the sampler writes together, so that parts of fewer would take longer in all
MEMORY = 1 << 30  # bytes for what is encoded of the talks of a step
PHASES = ("play", "branch", "judge", "correct", "update", IDLE)


@dataclass(frozen=True, slots=True)
class Step:
    """Everything one step produced.

    Attributes:
        number: counted from 1.
        dialogues: what was played.
        groups: the branched turns with candidates, echoes, feedback and corrections.
        advantages: of every candidate, group by group; zeros where feedback is missing or ties.
        token_divergences: student from teacher, nats, at each token of every correction (of every candidate with
            ``update.along=own``), group by group; None where it was not learnt from.
        metrics: see the glossary in ``docs/algorithm.md``.
    """

    number: int
    dialogues: list[Dialogue]
    groups: list[Group]
    advantages: list[tuple[float, ...]]
    token_divergences: Divergences
    metrics: dict[str, float]

    @property
    def divergences(self) -> list[list[float]]:
        """The mean of each reply's ``token_divergences``, nats per token; NaN where it was not learnt from."""
        return [[math.nan if each is None else fmean(each) for each in some] for some in self.token_divergences]


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
        self.config, self.policy, self.start = config, policy, start
        self.users, self.judge, self.replay = users, judge, replay
        self.optimizer = Optimizer(policy, lr=config.update.lr)
        kinds: dict[str, Callable[[], Policy]] = {"ema": policy.clone, "frozen": lambda: start, "live": lambda: policy}
        self.teacher = kinds[config.teacher.kind]()

    def step(self, number: int, on_phase: Callable[[str], None] = lambda phase: None) -> Step:
        """The algorithm box of the paper, once; ``number`` counts from 1 and keys all randomness.

        Parts of a step take turns: while endpoints answer some, others are sampled and learnt from. ``on_phase`` hears
        the name of each phase as it begins, and again where phases take turns.
        """
        c, seed, clock = self.config, derive_seed(self.config.run.seed, "step", number), Clock(on_phase)
        users = {phase: CountingUsers(self.users) for phase in ("play", "branch", "correct")}
        with Overlap(clock) as overlap:
            echoes = {phase: overlap.desk(phase, some.react, some.concurrency) for phase, some in users.items()}
            judge = overlap.desk("judge", partial(self._judge, seed), concurrency(self.judge))
            with clock.phase("play"):
                dialogues, memory, skipped = self._play(overlap, echoes["play"], seed)
            learnt = dialogues if c.train.on_risk else safe(dialogues, c.suites.locale)
            skipped += len(dialogues) - len(learnt)
            pivots = self._select(learnt, seed)
            judged: list[Future[Group]] = []
            with clock.phase("branch"):
                speaker = self._speaker(c.branch.temperature, memory)
                for some in self._parts(pivots, BATCH // c.branch.candidates):
                    echoed = branch(speaker, echoes["branch"], some, candidates=c.branch.candidates, seed=seed)
                    judged += judge.follow(echoed)
            hybrid = numbers(c, number)
            written = c.correct.per_group if hybrid.micro > 0 and c.update.along == "corrections" else 0
            teacher = Teacher(c, self.teacher, self._speaker(1.0), seed, written)
            learning = Learning(c, hybrid, self.policy, self.start, teacher)
            with clock.phase("correct"):
                parts = self._parts(judged, c.run.cohort // c.correct.per_group)
                for corrected in overlap.weave(teacher.correct(some, echoes["correct"]) for some in parts):
                    with clock.phase("update"):
                        learning.add(corrected, whole=len(parts) == 1)
        groups = [lesson.group for lesson in learning.lessons]
        skipped += len(judged) - len(groups)
        self._demand(groups, users)
        with clock.phase("update"):
            learned, divergences = learning.apply(self.optimizer, self.replay(number))
            if c.teacher.kind == "ema":
                self.teacher.follow(self.policy, c.teacher.decay)
        calls, missing = (sum(some.calls for some in users.values()), sum(some.missing for some in users.values()))
        metrics = {
            **step_metrics(dialogues, groups),
            **learned,
            "cut_short": cut_short(dialogues, c.play.turns) / len(dialogues),
            "risk_skipped": float(skipped),
            "simulator_calls": float(calls),
            "missing_reactions": missing / calls if calls else 0.0,
            "judge_calls": float(sum(len(one.result().candidates) > 1 for one in judged) * c.judge.permutations),
            **{f"seconds_{phase}": clock.seconds.get(phase, 0.0) for phase in PHASES},
        }
        advantages = [lesson.advantages for lesson in learning.lessons]
        return Step(number, dialogues, groups, advantages, divergences, metrics)

    def _play(self, overlap: Overlap, echoes: Echoes, seed: int) -> tuple[list[Dialogue], Memory, int]:
        """The dialogues, what is encoded of them, and how many were not begun because their openings show a risk."""
        c = self.config
        drawn = self.users.scenarios(c.play.dialogues, seed)
        scenarios = [each for each in drawn if c.train.on_risk or not risky(each.opening, c.suites.locale)]
        if not scenarios:
            raise DataError(
                f"all {len(drawn)} scenarios of a step show signs of risk",
                fix="bring others, or set train.on_risk=true",
            )
        speaker = self._speaker(c.play.temperature)
        room = [speaker.fits(each.opening) for each in scenarios]
        # Where there is room for none the sampler says so.
        fitting = [each for each, fits in zip(scenarios, room, strict=True) if fits] or scenarios
        cohorts = self._parts(fitting, c.run.cohort)
        # A share for each: which talks there is no room for, and are encoded anew, is no matter of who comes first.
        memories = [Memory(MEMORY // len(cohorts)) for _ in cohorts]
        talks = [
            talk(self._speaker(c.play.temperature, memory), echoes, some, turns=c.play.turns, seed=seed)
            for some, memory in zip(cohorts, memories, strict=True)
        ]
        dialogues = [dialogue for some in overlap.weave(talks) for dialogue in some]
        # Talks whose opening leaves no room for a reply are cut short before they begin.
        dialogues += [Dialogue(each) for each, fits in zip(scenarios, room, strict=True) if not fits]
        return dialogues, Memory.of(memories), len(drawn) - len(scenarios)

    def _select(self, dialogues: Sequence[Dialogue], seed: int) -> list[PivotalTurn]:
        c, drawn = self.config.select, derive_seed(seed, "select")
        order, share, most = ORDERS[c.by], c.share, c.per_dialogue
        return select_pivotal(dialogues, order, share=share, per_dialogue=most, floor=c.floor, seed=drawn)

    def _judge(self, seed: int, groups: Sequence[Group]) -> list[Group]:
        c = self.config.judge
        return give_feedback(groups, self.judge, permutations=c.permutations, seed=seed, sees_echoes=c.sees_echoes)

    def _parts(self, items: Sequence[T], size: int) -> list[Sequence[T]]:
        """What is sampled together: consecutive parts of ``size``, or all where no user answers in the background.

        It must not be whoever happens to be ready: who shares a batch can change a rounding.
        """
        if not items or not concurrency(self.users):
            return [items]
        return [items[start : start + max(1, size)] for start in range(0, len(items), max(1, size))]

    def _demand(self, groups: Sequence[Group], users: Mapping[str, CountingUsers]) -> None:
        """Raise EndpointError where too much is missing to learn from the rest."""
        limit, asked = self.config.calls.max_missing, users.values()
        missing, calls = sum(some.missing for some in asked), sum(some.calls for some in asked)
        demand("reactions of a step", missing=missing, asked=calls, limit=limit)
        judged = [group for group in groups if len(group.candidates) > 1]
        missing = sum(group.feedback is None for group in judged)
        demand("verdicts of a step", missing=missing, asked=len(judged), limit=limit)

    def _speaker(self, temperature: float, memory: Memory | None = None) -> PolicySpeaker:
        c = self.config.policy
        return PolicySpeaker(self.policy, c.system_prompt, c.max_tokens, temperature, memory)
