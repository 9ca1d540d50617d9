"""Alarms: what went wrong in the last steps, said once when it begins and not at every step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

WINDOW = 5
# Metrics that are watched as a share of what they were on average in the first steps that measured them.
BEGINNINGS = {"entropy": "entropy_kept", "distinct_2": "variety_kept"}


@dataclass(frozen=True, slots=True)
class Rule:
    """What it is called in few words, a metric, when its mean over the window is alarming, and what to tell."""

    name: str
    metric: str
    bad: Callable[[float], bool]
    text: str


RULES = (
    Rule(
        "broken replies",
        "degenerate_share",
        lambda mean: mean > 0.2,
        "{mean:.0%} of the replies are unfinished, wordless or loops",
    ),
    Rule(
        "missing feedback",
        "missing_feedback",
        lambda mean: mean > 0.5,
        "feedback is missing for {mean:.0%} of the groups",
    ),
    Rule(
        "missing reactions",
        "missing_reactions",
        lambda mean: mean > 0.2,
        "the simulator gave no reaction to {mean:.0%} of the replies",
    ),
    Rule(
        "talks cut short",
        "cut_short",
        lambda mean: mean > 0.2,
        "{mean:.0%} of the talks outgrow the policy's context or lose their user",
    ),
    Rule("ties", "tied_groups", lambda mean: mean > 0.8, "{mean:.0%} of the groups tie: the ranks teach nothing"),
    Rule(
        "lift by chance",
        "lift_margin",
        lambda mean: mean <= 0,
        "corrections help no more than sampling again would (lift {mean:+.0%})",
    ),
    Rule(
        "length bias",
        "length_correlation",
        lambda mean: abs(mean) > 0.5,
        "the ranks follow the length of the replies (correlation {mean:+.2f})",
    ),
    Rule(
        "slot bias",
        "slot_bias",
        lambda mean: mean > 0.15,
        "{mean:.0%} of the ranking is the place at which the judge read a reply",
    ),
    Rule(
        "teacher lift",
        "teacher_lift",
        lambda mean: mean <= 0.5,
        "only {mean:.0%} of the corrections help their user more",
    ),
    Rule(
        "entropy collapse",
        "entropy_kept",
        lambda mean: mean < 0.4,
        "entropy has fallen to {mean:.0%} of what it was in the first steps",
    ),
    Rule(
        "variety collapse",
        "variety_kept",
        lambda mean: mean < 0.4,
        "variety (distinct-2) has fallen to {mean:.0%} of what it was in the first steps",
    ),
)


@dataclass(slots=True)
class Alarms:
    """Watches the means of the last steps."""

    recent: dict[str, deque[float]] = field(default_factory=dict)
    first: dict[str, list[float]] = field(default_factory=dict)
    raised: set[str] = field(default_factory=set)

    @property
    def standing(self) -> list[str]:
        """The names of what is alarming now."""
        return [rule.name for rule in RULES if rule.metric in self.raised]

    def check(self, metrics: Mapping[str, float]) -> list[str]:
        """What became alarming with this step's metrics; a metric that recovers may be told of again."""
        told = []
        if (skipped := metrics.get("risk_skipped", 0.0)) > 0 and "risk_skipped" not in self.raised:
            # Said once and at once: it is no trend but a choice of the config.
            what = f"{skipped:.0f} talks or groups show signs of risk and are kept out of training"
            told.append(f"{what} (train.on_risk, docs/safety.md); metrics.jsonl counts on")
            self.raised.add("risk_skipped")
        margin = metrics.get("teacher_lift", math.nan) - metrics.get("lift_by_chance", math.nan)
        kept = {name: self._kept(metric, metrics.get(metric, math.nan)) for metric, name in BEGINNINGS.items()}
        metrics = {**metrics, **kept, "lift_margin": margin}
        for rule in RULES:
            values = self.recent.setdefault(rule.metric, deque(maxlen=WINDOW))
            if math.isfinite(value := metrics.get(rule.metric, math.nan)):
                values.append(value)
            mean = math.fsum(values) / len(values) if len(values) == WINDOW else math.nan
            alarming = not math.isnan(mean) and rule.bad(mean)
            if alarming and rule.metric not in self.raised:
                told.append(f"{rule.text.format(mean=mean)} (last {WINDOW} steps that measured it)")
            (self.raised.add if alarming else self.raised.discard)(rule.metric)
        return told

    def _kept(self, metric: str, value: float) -> float:
        """A value by its mean over the first ``WINDOW`` steps that measured it; NaN until these are over."""
        first = self.first.setdefault(metric, [])
        if len(first) == WINDOW:
            return value * WINDOW / math.fsum(first) if math.fsum(first) > 0 else math.nan
        if math.isfinite(value):
            first.append(value)
        return math.nan


@dataclass(slots=True)
class BudgetAlarm:
    """Tells once of each budget that will not last to the end, at the pace of the steps seen so far.

    Attributes:
        steps: the last step's number.
        step: the last one before the first that is seen.
        spent: the share of each budget that was spent by then, by its key.
    """

    steps: int
    step: int
    spent: Mapping[str, float]
    raised: set[str] = field(default_factory=set)

    @property
    def standing(self) -> list[str]:
        """The names of what is alarming now."""
        return ["budget"] if self.raised else []

    def check(self, step: int, spent: Mapping[str, float]) -> list[str]:
        """What became alarming with the shares spent after ``step``."""
        told = []
        for name, share in spent.items():
            pace = (share - self.spent.get(name, 0.0)) / (step - self.step)
            lasts = step + (1 - share) / pace if pace > 0 else math.inf
            if step - self.step >= WINDOW and lasts < self.steps and name not in self.raised:
                self.raised.add(name)
                left = f"{share:.0%} of {name} is spent, which at this pace lasts to step {int(lasts)} of {self.steps}"
                told.append(f"{left}; rapo resume takes a larger one")
        return told
