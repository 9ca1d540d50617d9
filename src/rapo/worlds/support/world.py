"""Seekers who want to be helped by what a supporter says."""

from __future__ import annotations

from rapo.worlds.support.corpus import correction_examples, generic_dialogues, practice_dialogues
from rapo.worlds.support.judge import SupportJudge
from rapo.worlds.support.policies import EXPLOITS, LADDER
from rapo.worlds.support.seeker import SupportWorld, react
from rapo.worlds.world import World, scripted

WORLD = World(
    users=SupportWorld,
    judge=SupportJudge,
    dialogues=generic_dialogues,
    practice=practice_dialogues,
    corrections=correction_examples,
    echo=react,
    ladder=scripted(LADDER),
    exploits=scripted(EXPLOITS),
)
