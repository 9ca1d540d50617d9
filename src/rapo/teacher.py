"""Step 5: the feedback-aware teacher writes corrections of failed replies, or comments on them token by token."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from random import Random

from rapo.config import RunConfig
from rapo.errors import ModelError
from rapo.hindsight.revision import teacher_messages
from rapo.interact.play import Echoes
from rapo.models.memory import common
from rapo.models.policy import Policy
from rapo.models.sampler import SampleRequest, TeacherDistribution, sample
from rapo.models.speaker import PolicySpeaker
from rapo.optimize.advantage import rank_rewards
from rapo.optimize.lessons import TaughtReply
from rapo.overlap import Work, together
from rapo.safety.screening import risky_group
from rapo.seeds import derive_seed
from rapo.step_metrics import improves
from rapo.types import Correction, EchoRequest, Group, Reaction


@dataclass(frozen=True, slots=True)
class Corrected:
    """A group with its corrections, and the distributions that each was decoded from."""

    group: Group
    recorded: tuple[TeacherDistribution, ...] = ()


@dataclass(frozen=True, slots=True)
class Teacher:
    """What the teacher does in one step.

    Attributes:
        config: the run's config.
        policy: the teacher's weights.
        speaker: how the student's prompts are rendered.
        seed: of the step.
        per_group: most corrections of a group.
    """

    config: RunConfig
    policy: Policy
    speaker: PolicySpeaker
    seed: int
    per_group: int

    def correct(self, judged: Sequence[Future[Group]], echoes: Echoes) -> Work[list[Corrected]]:
        """Once all of these groups are judged: corrections of failed replies, and the echo of a share of them.

        Groups that show a sign of risk are left out (``train.on_risk``), before anything is written for them or, where
        it is in the echo of a correction, after.
        """
        groups: list[Group] = yield together(judged)
        corrected = self._write([group for group in groups if self._may_teach(group)])
        asked = [
            (g, k, EchoRequest(group.pivot.dialogue, each.completion.text, self._key("verify", group, each.candidate)))
            for g, group in enumerate(each.group for each in corrected)
            for k, each in enumerate(group.corrections)
            if self._verifies(group, each)
        ]
        reactions: list[Reaction | None] = yield together(echoes.ask([request for _, _, request in asked]))
        verified = [list(each.group.corrections) for each in corrected]
        for (g, k, _), echo in zip(asked, reactions, strict=True):
            verified[g][k] = replace(verified[g][k], reaction=echo)
        found = [
            replace(each, group=replace(each.group, corrections=tuple(some)))
            for each, some in zip(corrected, verified, strict=True)
        ]
        return [each for each in found if self._may_teach(each.group)]

    def taught(self, corrected: Corrected) -> dict[int, TaughtReply]:
        """The corrections worth learning from, by place: finished, and better than the reply where that was asked."""
        group = corrected.group
        return {
            place: TaughtReply(correction.completion.token_ids, distribution)
            for place, (correction, distribution) in enumerate(zip(group.corrections, corrected.recorded, strict=True))
            if correction.completion.finished and (improves(group, correction) or not self._verifies(group, correction))
        }

    def own_tokens(self, group: Group) -> dict[int, TaughtReply]:
        """The failed candidates themselves by their place, for the teacher to comment on token by token.

        Raises:
            ModelError: the chat template does not let the teacher's prompt begin with the student's.
        """
        prompt = self.speaker.prompt(group.pivot.dialogue.messages)
        taught = {}
        for i in self._failed(group, len(group.candidates)):
            told = self._prompt(group, i)
            if told[: len(prompt)] != prompt:
                raise ModelError(
                    "the chat template renders a past reply differently from the one being written",
                    fix="use update.along=corrections with this model",
                )
            taught[i] = TaughtReply(group.candidates[i].completion.token_ids, feedback=told[len(prompt) :])
        return taught

    def _may_teach(self, group: Group) -> bool:
        return self.config.train.on_risk or not risky_group(group, self.config.suites.locale)

    def _write(self, groups: Sequence[Group]) -> list[Corrected]:
        c = self.config
        failed = [self._failed(group, self.per_group) for group in groups]
        sampled = sample(
            self.policy,
            [self._request(group, i) for group, places in zip(groups, failed, strict=True) for i in places],
            max_tokens=c.policy.max_tokens,
            temperature=c.correct.temperature,
            record_top_k=c.update.top_k,
        )
        written = iter(found[0] for found in sampled)
        corrected = []
        for group, places in zip(groups, failed, strict=True):
            mine = [next(written) for _ in places]
            drafts = tuple(Correction(i, each.completion) for i, each in zip(places, mine, strict=True))
            recorded = tuple(each.teacher for each in mine if each.teacher is not None)
            corrected.append(Corrected(replace(group, corrections=drafts), recorded))
        return corrected

    def _request(self, group: Group, i: int) -> SampleRequest:
        """A correction to be written; all of a group share the encoding of what was said before."""
        told, history = self._prompt(group, i), self.speaker.prompt(group.pivot.dialogue.messages)
        return SampleRequest(told, (self._key("correct", group, i),), shared=common(told, history))

    def _failed(self, group: Group, most: int) -> list[int]:
        """The candidates to be corrected, at most ``most`` of them, drawn at random.

        A candidate failed when its rank reward is below ``correct.below`` and its echo left the user no better off than
        before: beside a better one, a reply that helped needs no correction.
        """
        if group.feedback is None:
            return []
        before = group.pivot.dialogue.trajectory[-1]
        rewards = rank_rewards([feedback.rank for feedback in group.feedback])
        places = [
            i
            for i, (reward, candidate) in enumerate(zip(rewards, group.candidates, strict=True))
            if reward < self.config.correct.below and candidate.reaction.state <= before
        ]
        drawn = sorted(Random(self._key("failed", group, 0)).sample(places, min(most, len(places))))
        return [i for i in drawn if self._fits(group, i)]

    def _verifies(self, group: Group, correction: Correction) -> bool:
        """Whether the echo of a correction is asked for; one that was and did not come back is not learnt from."""
        drawn = Random(self._key("verify?", group, correction.candidate)).random()
        return drawn < self.config.correct.verify

    def _fits(self, group: Group, i: int) -> bool:
        """Whether a correction can be written after the context, the failed reply and its critique."""
        return len(self._prompt(group, i)) + self.config.policy.max_tokens <= self.policy.max_context

    def _prompt(self, group: Group, i: int) -> tuple[int, ...]:
        critique = group.feedback[i].critique if group.feedback else ""
        reply = group.candidates[i].completion.text
        return self.speaker.prompt(teacher_messages(group.pivot.dialogue.messages, reply, critique))

    def _key(self, purpose: str, group: Group, i: int) -> int:
        dialogue = group.pivot.dialogue
        return derive_seed(self.seed, purpose, dialogue.scenario.id, len(dialogue.turns), i)
