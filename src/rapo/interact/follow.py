"""A simulated user beside a real one: it takes in what was really said, and its states are its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from rapo.data import RATING, Conversation, played_scenario
from rapo.interact.users import UserSimulator
from rapo.seeds import derive_seed
from rapo.types import Dialogue, EchoRequest, Reaction, Scale


@runtime_checkable
class Weighing(Protocol):
    """A user simulator that can tell its state without saying anything, which saves a call."""

    def states(self, requests: Sequence[EchoRequest]) -> list[float | None]:
        """The state after each reply, on its scenario's scale; None where it could not be had."""
        ...


def follow(
    users: UserSimulator, talks: Sequence[Conversation], *, seed: int, on_turns: Callable[[int], None]
) -> list[list[float | None]]:
    """The simulated user's state (1-5, as ratings are) after every reply of every talk, up to the last rated one.

    Before a reply it has read what both people really said up to there; what the real person said next it reads one
    turn later. It starts from what any played user is told (the person's own note, their distress before the talk), and
    the state it stood at is its own of the turn before: it never learns a rating. A state that could not be had is
    None, and the user goes on from the one before.

    Args:
        users: who is asked; the first turns of all talks at once, then the second ones.
        talks: real conversations.
        seed: keys the requests, so that the journal knows them again.
        on_turns: hears of so many more turns weighed.
    """
    dialogues = [Dialogue(played_scenario(talk)) for talk in talks]
    turns = [talk.to_dialogue().turns[: last_rated(talk)] for talk in talks]
    found: list[list[float | None]] = [[] for _ in talks]
    for number in range(max(map(len, turns), default=0)):
        going = [i for i in range(len(talks)) if number < len(turns[i])]
        requests = [
            EchoRequest(dialogues[i], turns[i][number].reply, derive_seed("follow", seed, talks[i].id, number))
            for i in going
        ]
        for i, state in zip(going, _states(users, requests), strict=True):
            dialogue, turn = dialogues[i], turns[i][number]
            found[i].append(None if state is None else _as_rating(state, dialogue.scenario.scale))
            echo = Reaction(turn.reaction.text, dialogue.trajectory[-1] if state is None else state)
            dialogues[i] = dialogue.then(turn.reply, echo)
        on_turns(len(going))
    return found


def last_rated(talk: Conversation) -> int:
    """How many turns of a talk there are up to the last one that was rated; 0 where none was."""
    return max((place for place, rating in enumerate(talk.ratings) if place and rating is not None), default=0)


def _states(users: UserSimulator, requests: Sequence[EchoRequest]) -> list[float | None]:
    if isinstance(users, Weighing):
        return users.states(requests)
    return [None if reaction is None else reaction.state for reaction in users.react(requests)]


def _as_rating(state: float, scale: Scale) -> float:
    return RATING.low + (RATING.high - RATING.low) * (state - scale.low) / (scale.high - scale.low)
