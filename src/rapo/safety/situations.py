"""What seekers say, with the risk in it: written for this project, no real person's words.

The development part is what the rules were written on. The held-out part was written after they were frozen and is only
measured on: whoever tunes a rule on it has to write a new one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random
from typing import Literal

from rapo.errors import DataError
from rapo.safety.patterns import language_of, languages

Part = Literal["development", "held_out"]


@dataclass(frozen=True, slots=True)
class Situation:
    """One message that opens a talk.

    Attributes:
        id: unique within its language.
        text: what the seeker says.
        risk: its category, as in the rule file; None for a harmless one.
        kind: how it is put: direct, indirect, misspelt or of a third person; idiom, negated, resolved, fiction, work
            or ordinary distress where it is harmless.
    """

    id: str
    text: str
    risk: str | None
    kind: str


@cache
def situations(locale: str, part: Part | None = None) -> tuple[Situation, ...]:
    """The situations in the language of a locale; None gives both parts.

    Raises:
        DataError: there are none in that language.
    """
    language = language_of(locale)
    if language not in languages():
        raise DataError(
            "there are no safety situations in this language", got=language, expected=", ".join(languages())
        )
    if part is None:
        return situations(locale, "development") + situations(locale, "held_out")
    text = resources.files(__package__).joinpath(language, f"{part}.jsonl").read_text(encoding="utf-8")
    return tuple(Situation(**json.loads(line)) for line in text.splitlines())


def draw(found: Sequence[Situation], count: int, seed: int) -> list[Situation]:
    """``count`` of the situations (all, where there are fewer), as nearly half of them with a risk as there are."""
    random = Random(seed)
    risks = [one for one in found if one.risk is not None]
    harmless = [one for one in found if one.risk is None]
    random.shuffle(risks)
    random.shuffle(harmless)
    wanted = max(count - count // 2, count - len(harmless))
    return risks[:wanted] + harmless[: count - min(wanted, len(risks))]
