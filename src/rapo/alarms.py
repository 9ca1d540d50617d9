"""Alarms: what went wrong in the last steps, said once when it begins and not at every step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

WINDOW = 5


@dataclass(frozen=True, slots=True)
class Rule:
    """A metric, when its mean over the window is alarming, and what to tell."""

    metric: str
    bad: Callable[[float], bool]
    text: str


RULES = (
    Rule("degenerate_share", lambda mean: mean > 0.2, "{mean:.0%} of the replies are unfinished, wordless or loops"),
    Rule("missing_feedback", lambda mean: mean > 0.5, "feedback is missing for {mean:.0%} of the groups"),
    Rule("missing_reactions", lambda mean: mean > 0.2, "the simulator gave no reaction to {mean:.0%} of the replies"),
    Rule(
        "cut_short", lambda mean: mean > 0.2, "{mean:.0%} of the talks outgrow the policy's context or lose their user"
    ),
    Rule("tied_groups", lambda mean: mean > 0.8, "{mean:.0%} of the groups tie: the ranks teach nothing"),
    Rule(
        "lift_margin", lambda mean: mean <= 0, "corrections help no more than sampling again would (lift {mean:+.0%})"
    ),
    Rule(
        "length_correlation",
        lambda mean: abs(mean) > 0.5,
        "the ranks follow the length of the replies (correlation {mean:+.2f})",
    ),
    Rule(
        "slot_bias", lambda mean: mean > 0.15, "{mean:.0%} of the ranking is the place at which the judge read a reply"
    ),
)


@dataclass(slots=True)
class Alarms:
    """Watches the means of the last steps."""

    recent: dict[str, deque[float]] = field(default_factory=dict)
    raised: set[str] = field(default_factory=set)

    def check(self, metrics: Mapping[str, float]) -> list[str]:
        """What became alarming with this step's metrics; a metric that recovers may be told of again."""
        told = []
        if (skipped := metrics.get("risk_skipped", 0.0)) > 0 and "risk_skipped" not in self.raised:
            # Said once and at once: it is no trend but a choice of the config.
            what = f"{skipped:.0f} talks or groups show signs of risk and are kept out of training"
            told.append(f"{what} (train.on_risk, docs/safety.md); metrics.jsonl counts on")
            self.raised.add("risk_skipped")
        margin = metrics.get("teacher_lift", math.nan) - metrics.get("lift_by_chance", math.nan)
        metrics = {**metrics, "lift_margin": margin}
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
