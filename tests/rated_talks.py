"""Made-up people who rate the help they get: a rating is the person's level and how they liked the reply."""

from __future__ import annotations

import random
from dataclasses import dataclass

from rapo.data import Conversation
from rapo.types import Message

GOOD, BAD = ("tell me more about it", "what worries you most"), ("you should simply relax", "others have it worse")


@dataclass(frozen=True)
class World:
    """Conversations and the truth: the rating of each reply; all replies differ."""

    talks: tuple[Conversation, ...]
    rating_of: dict[str, float]


def rated_talks(count: int, turns: int, *, seed: int = 0) -> World:
    dice, rating_of, talks = random.Random(seed), dict[str, float](), []
    for number in range(count):
        level = dice.choice([2.0, 3.0, 4.0])
        messages, ratings = [Message("user", f"opening {number}")], list[float | None]([None])
        for turn in range(turns):
            good = dice.random() < 0.5
            reply = f"{dice.choice(GOOD if good else BAD)} case{number} turn{turn}"
            rating_of[reply] = level + (1 if good else -1)
            messages += [Message("assistant", reply), Message("user", f"echo {number} {turn}")]
            ratings.append(rating_of[reply])
        talks.append(Conversation(f"t{number}", f"situation {number}", tuple(messages), tuple(ratings), private=True))
    return World(tuple(talks), rating_of)
