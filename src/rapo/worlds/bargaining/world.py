"""Partners with a hidden limit whom a negotiator can move."""

from __future__ import annotations

from rapo.worlds.bargaining.corpus import correction_examples, generic_dialogues, practice_dialogues
from rapo.worlds.bargaining.judge import BargainingJudge
from rapo.worlds.bargaining.partner import BargainingWorld, react
from rapo.worlds.bargaining.policies import EXPLOITS, LADDER
from rapo.worlds.world import World, scripted

WORLD = World(
    users=BargainingWorld,
    judge=BargainingJudge,
    dialogues=generic_dialogues,
    practice=practice_dialogues,
    corrections=correction_examples,
    echo=react,
    ladder=scripted(LADDER),
    exploits=scripted(EXPLOITS),
)
