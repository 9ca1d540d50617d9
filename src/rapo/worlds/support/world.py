"""The embedded support world as a run uses it."""

from __future__ import annotations

from collections.abc import Mapping

from rapo.interact.play import Speaker
from rapo.types import Dialogue, Message, Reaction
from rapo.worlds.support.corpus import correction_examples, generic_dialogues, practice_dialogues
from rapo.worlds.support.judge import SupportJudge
from rapo.worlds.support.policies import EXPLOITS, LADDER
from rapo.worlds.support.seeker import SupportWorld, react
from rapo.worlds.world import CorrectionExample, Population, scripted


class Support:
    """Seekers who want to be helped by what a supporter says; implements ``World``."""

    def users(self, population: Population, *, evaluation: bool = False) -> SupportWorld:
        """Seekers of one population."""
        return SupportWorld(population, evaluation=evaluation)

    def judge(self) -> SupportJudge:
        """Reads how an echo sounds."""
        return SupportJudge()

    def dialogues(self, count: int, seed: int) -> list[tuple[Message, ...]]:
        """Generic empathy."""
        return generic_dialogues(count, seed)

    def practice(self, count: int, seed: int) -> list[tuple[Message, ...]]:
        """Well-made moves at random."""
        return practice_dialogues(count, seed)

    def corrections(
        self, count: int, seed: int, *, evaluation: bool = False, failed_only: bool = False
    ) -> list[CorrectionExample]:
        """Generic empathy, criticised and corrected."""
        return correction_examples(count, seed, evaluation=evaluation, failed_only=failed_only)

    def echo(self, dialogue: Dialogue, reply: str) -> Reaction:
        """How the seeker takes a reply."""
        return react(dialogue, reply)

    def ladder(self) -> Mapping[str, Speaker]:
        """From a mind-reader to generic empathy."""
        return scripted(LADDER)

    def exploits(self) -> Mapping[str, Speaker]:
        """Replies that take no listening."""
        return scripted(EXPLOITS)
