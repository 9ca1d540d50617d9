"""The embedded bargaining world as a run uses it."""

from __future__ import annotations

from collections.abc import Mapping

from rapo.interact.play import Speaker
from rapo.types import Dialogue, Message, Reaction
from rapo.worlds.bargaining.corpus import correction_examples, generic_dialogues, practice_dialogues
from rapo.worlds.bargaining.judge import BargainingJudge
from rapo.worlds.bargaining.partner import BargainingWorld, react
from rapo.worlds.bargaining.policies import EXPLOITS, LADDER
from rapo.worlds.world import CorrectionExample, Population, scripted


class Bargaining:
    """Partners with a hidden limit whom a negotiator can move; implements ``World``."""

    def users(self, population: Population, *, evaluation: bool = False) -> BargainingWorld:
        """Partners of one population."""
        return BargainingWorld(population, evaluation=evaluation)

    def judge(self) -> BargainingJudge:
        """Reads how an echo sounds and what it offers."""
        return BargainingJudge()

    def dialogues(self, count: int, seed: int) -> list[tuple[Message, ...]]:
        """An inflexible negotiator."""
        return generic_dialogues(count, seed)

    def practice(self, count: int, seed: int) -> list[tuple[Message, ...]]:
        """Well-made moves at random."""
        return practice_dialogues(count, seed)

    def corrections(
        self, count: int, seed: int, *, evaluation: bool = False, failed_only: bool = False
    ) -> list[CorrectionExample]:
        """Inflexible replies, criticised and corrected."""
        return correction_examples(count, seed, evaluation=evaluation, failed_only=failed_only)

    def echo(self, dialogue: Dialogue, reply: str) -> Reaction:
        """How the partner takes a reply."""
        return react(dialogue, reply)

    def ladder(self) -> Mapping[str, Speaker]:
        """From a mind-reader to an inflexible negotiator."""
        return scripted(LADDER)

    def exploits(self) -> Mapping[str, Speaker]:
        """Replies that take no listening."""
        return scripted(EXPLOITS)
