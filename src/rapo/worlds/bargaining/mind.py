"""What a partner of the bargaining world wants and is willing to pay, and what a reply changes in it.

Shares are of the bargaining zone, which reaches from the policy's limit (0) to the partner's (1): the surplus that a
deal leaves to the policy. The state is ten times the share of the partner's standing offer, or of the deal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rapo.types import Scale
from rapo.worlds.bargaining.language import DETAIL, MOVE_FOR
from rapo.worlds.bargaining.reader import Reading

SCALE = Scale(0.0, 10.0, "goal progress")
STEP = 5  # every price is a multiple of it
CONTENT = 0.95  # the share a partner is willing to leave at which it has no more to give
SPOILING = frozenset({"lost", "crowded", "parroted", "invented", "repeated", "extreme", "backtrack", "mismatch"})


@dataclass(frozen=True, slots=True)
class Mind:
    """The partner's state between two turns.

    Attributes:
        will: the share it is willing to leave to the policy, 0-1.
        patience: replies until its last word; 0 and below after it.
        need: place of the present interest in the profile's list.
        progress: how far that interest is met, 0-1.
        asked: the lowest share the policy has asked for; at first the share that would be absurd.
        deal: the price agreed on.
        gone: the talk has ended without a deal.
    """

    will: float
    patience: int
    asked: float
    need: int = 0
    progress: float = 0.0
    deal: int | None = None
    gone: bool = False


def share(profile: Mapping[str, Any], price: int) -> float:
    """The share of the bargaining zone that a price leaves to the policy: 0 at its limit, 1 at the partner's."""
    return float((price - profile["limit"]) / (profile["reserve"] - profile["limit"]))


def offer(profile: Mapping[str, Any], mind: Mind) -> int:
    """The price the partner offers: what it is willing to pay, less a margin before its last word."""
    zone = profile["reserve"] - profile["limit"]
    left = max(0.0, mind.will - (0.0 if final(mind) else profile["margin"]))
    steps = math.floor(left * abs(zone) / STEP + 1e-9)
    return int(profile["limit"] + math.copysign(STEP * steps, zone))


def final(mind: Mind) -> bool:
    """Whether the partner has said its last word."""
    return mind.patience <= 0 or mind.will >= CONTENT


def needed(profile: Mapping[str, Any], mind: Mind) -> str:
    """What would move the partner now."""
    return "final" if final(mind) else str(profile["needs"][mind.need])


def first_mind(profile: Mapping[str, Any]) -> Mind:
    return Mind(will=profile["will"], patience=profile["patience"], asked=profile["absurd"])


def quality(reading: Reading, need: str, profile: Mapping[str, Any]) -> tuple[float, str | None]:
    """How well a reply meets a need, 0, 0.5 or 1 before its defects count, and what it lacks."""
    move = MOVE_FOR[need]
    if move not in reading.moves:
        return 0.0, None
    if reading.price is None:
        return 0.5, "noprice"
    if move == "concede":
        return (1.0, None) if share(profile, reading.price) < 1 else (0.0, None)
    return (1.0, None) if DETAIL[move] in reading.named else (0.5, "vague")


def feel(mind: Mind, profile: Mapping[str, Any], reading: Reading, *, clear: bool) -> tuple[Mind, str | None, float]:
    """The mind after a reply, what is held against it (None: nothing), and the change of its will.

    ``clear`` tells that the partner's last words showed its need: asking for it is then no answer.
    """
    if reading.leaves:
        return replace(mind, gone=True), None, -mind.will
    standing = offer(profile, mind)
    defects = set(reading.defects) | _wrong_price(mind, profile, reading, standing)
    if not defects & SPOILING and (price := _agreed(mind, profile, reading, standing)) is not None:
        return replace(mind, deal=price), None, share(profile, price) - share(profile, standing)
    need = needed(profile, mind)
    reason, harm = _harm(defects, profile)
    met, lacking = (0.0, None) if defects & SPOILING or need == "final" else quality(reading, need, profile)
    gain = 0.55 * met * (0.5 if reason else 1.0) * (1 - mind.will)
    if met == 0.0:
        gain, missed = _unmet(mind, reading, need, clear=clear, well_said=reason is None)
        reason = reason or missed
    change = gain - harm
    asked = min(mind.asked, _asked(profile, defects, reading))
    progress = mind.progress + met
    after = Mind(
        will=min(1.0, max(0.0, mind.will + change)),
        patience=mind.patience - (3 if "lost" in defects else 2 if harm >= 0.08 else 1),
        asked=asked,
        need=min(mind.need + (progress >= 1.0), len(profile["needs"]) - 1),
        progress=0.0 if progress >= 1.0 else progress,
    )
    return replace(after, gone=after.patience <= -3), reason or lacking, change


def _agreed(mind: Mind, profile: Mapping[str, Any], reading: Reading, standing: int) -> int | None:
    """The price both agree on: the partner's own, or one that the policy names and the partner can live with."""
    if "accept" in reading.moves:
        return standing
    if reading.price is not None and share(profile, reading.price) <= mind.will + 1e-9:
        return reading.price
    return None


def _wrong_price(mind: Mind, profile: Mapping[str, Any], reading: Reading, standing: int) -> set[str]:
    if reading.price is None:
        return set()
    wanted = share(profile, reading.price)
    return {
        name
        for name, wrong in {
            "mismatch": "accept" in reading.moves and reading.price != standing,
            "extreme": wanted > profile["absurd"],
            "backtrack": mind.asked + 1e-9 < wanted <= profile["absurd"],
        }.items()
        if wrong
    }


def _unmet(mind: Mind, reading: Reading, need: str, *, clear: bool, well_said: bool) -> tuple[float, str | None]:
    """What a reply gains that does not meet the need, and what is held against it."""
    if need == "final":
        return -0.2, "stalled"
    if not clear and "ask" in reading.moves and well_said:
        return 0.06 * (1 - mind.will), None
    return (0.03 if well_said and reading.price is not None and not reading.moves else -0.04), "missed"


def _asked(profile: Mapping[str, Any], defects: set[str], reading: Reading) -> float:
    """The share a reply asks for; all of it where it does not ask in earnest."""
    if reading.price is None or defects & {"lost", "extreme", "mismatch", "parroted", "crowded"}:
        return math.inf
    return share(profile, reading.price)


def _harm(defects: set[str], profile: Mapping[str, Any]) -> tuple[str | None, float]:
    dislike = profile["dislike"]
    harms = {
        "lost": 0.35,
        "extreme": 0.15,
        "pressure": 0.05 + 0.1 * dislike,
        "invented": 0.1,
        "mismatch": 0.1,
        "backtrack": 0.1,
        "parroted": 0.1,
        "crowded": 0.1,
        "repeated": 0.05 + 0.05 * dislike,
        "stock": 0.05 * dislike,
    }
    worst = next((name for name in harms if name in defects), None)
    return worst, min(0.35, sum(harms[name] for name in defects))


def state_of(profile: Mapping[str, Any], mind: Mind) -> float:
    if mind.gone:
        return 0.0
    price = offer(profile, mind) if mind.deal is None else mind.deal
    return round(min(SCALE.high, max(SCALE.low, 10 * share(profile, price))), 3)


def level(reason: str | None, change: float) -> str:
    """The kind of words a change of will is answered with."""
    if reason == "lost":
        return "lost"
    steps = (("great", 0.12), ("some", 0.04), ("flat", -0.05), ("worse", -0.12))
    return next((name for name, limit in steps if change >= limit), "hurt")
