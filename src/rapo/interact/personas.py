"""Sampled personalities for users that have none: who a user is decides how the same reply lands.

A persona is a number: its digits choose a level of each of five traits (after the Big Five), a way of talking, what
makes the user resist, and what the user wants from the other. All of it is hidden from the policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rapo.types import Scenario

# Three levels of each trait; the middle one goes without saying.
TRAITS = (
    ("keeps to the known", "", "curious about any idea"),
    ("takes things as they come", "", "wants things planned and orderly"),
    ("quiet and slow to open up", "", "outgoing, thinks aloud"),
    ("sceptical, says no easily", "", "gives way to keep the peace"),
    ("even-tempered, hard to rattle", "", "worries, takes things to heart"),
)
STYLES = (
    "in short, clipped sentences",
    "at length, with many details",
    "with dry humour",
    "politely and formally",
    "casually, with slang",
    "in questions more than in statements",
    "hesitantly, correcting themselves",
    "bluntly, to the point",
    "in images and comparisons",
    "matter-of-factly, without naming feelings",
    "warmly, thanking often",
    "in half sentences, leaving the rest unsaid",
)
RESISTANCES = (
    "shuts down when hurried",
    "pushes back against being told what to do",
    "changes the subject when it gets close",
    "plays down how much it matters",
    "tests whether the other really listens",
    "distrusts praise and ready-made phrases",
    "gets irritated when asked the same thing twice",
    "agrees politely without meaning it",
    "falls silent when interrupted by advice",
    "argues against every suggestion at first",
)
NEEDS = (
    "to be heard out before anything is proposed",
    "to have their reasons taken seriously",
    "one concrete step they can take",
    "to decide at their own pace",
    "to be treated as an equal",
    "a straight answer, even an unpleasant one",
    "to know that they are not the only one",
    "to keep their dignity",
    "someone who remembers what they said",
    "a sign of good will from the other side",
)
PERSONAS = len(TRAITS[0]) ** len(TRAITS) * len(STYLES) * len(RESISTANCES) * len(NEEDS)  # 291,600


def persona(number: int) -> dict[str, str]:
    """What persona ``number`` (modulo ``PERSONAS``) is like: ``traits``, ``talks``, ``resistance`` and ``need``."""
    sizes = [*map(len, TRAITS), len(STYLES), len(RESISTANCES), len(NEEDS)]
    digits = [number // math.prod(sizes[:i]) % size for i, size in enumerate(sizes)]
    traits = [trait[level] for trait, level in zip(TRAITS, digits, strict=False) if trait[level]]
    style, resistance, need = STYLES[digits[-3]], RESISTANCES[digits[-2]], NEEDS[digits[-1]]
    return {"traits": "; ".join(traits) or "average", "talks": style, "resistance": resistance, "need": need}


def has_persona(scenario: Scenario) -> bool:
    """Whether the hidden profile already says who the user is."""
    return bool(scenario.profile.get("persona"))


def with_persona(scenario: Scenario, seed: int) -> Scenario:
    """The scenario with persona number ``seed`` in its hidden profile and in its id (``file:12`` is ``file:12~p3``).

    A scenario with a persona of its own is returned as it is; one with a need or goal of its own keeps that.
    """
    if has_persona(scenario):
        return scenario
    number = seed % PERSONAS
    chosen: Mapping[str, Any] = persona(number)
    if scenario.profile.get("need") or scenario.profile.get("goal"):
        chosen = {key: text for key, text in chosen.items() if key != "need"}
    return replace(scenario, id=f"{scenario.id}~p{number}", profile={**scenario.profile, "persona": chosen})
