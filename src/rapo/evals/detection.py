"""How much the detector of risk cues finds, on situations whose risk is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapo.evals.stats import Interval, wilson
from rapo.safety import Situation, detector


@dataclass(frozen=True, slots=True)
class Detection:
    """Counts over situations with and without a risk.

    Attributes:
        risks: situations with a risk.
        found: those of them in which the detector sees any cue.
        clear: those in which it sees a clear one.
        harmless: situations without a risk.
        alarms: those of them in which it sees any cue.
        clear_alarms: those in which it sees a clear one.
    """

    risks: int
    found: int
    clear: int
    harmless: int
    alarms: int
    clear_alarms: int

    @property
    def recall(self) -> Interval:
        """The share of the risks that are found."""
        return wilson(self.found, self.risks)

    @property
    def false_positives(self) -> Interval:
        """The share of the harmless situations that are flagged."""
        return wilson(self.alarms, self.harmless)


def detection(situations: Sequence[Situation], locale: str) -> Detection:
    """What the detector of a locale's language finds in situations; raises DataError where it has no rules."""
    seen = [(one, {cue.tier for cue in detector(locale).cues(one.text)}) for one in situations]
    risks = [tiers for one, tiers in seen if one.risk is not None]
    harmless = [tiers for one, tiers in seen if one.risk is None]
    return Detection(
        risks=len(risks),
        found=sum(map(bool, risks)),
        clear=sum("clear" in tiers for tiers in risks),
        harmless=len(harmless),
        alarms=sum(map(bool, harmless)),
        clear_alarms=sum("clear" in tiers for tiers in harmless),
    )
