"""Playing dialogues: a speaker and a user simulator take turns; a turn can be branched into several candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rapo.interact.users import UserSimulator
from rapo.seeds import derive_seed
from rapo.types import Candidate, Completion, Dialogue, EchoRequest, Group, PivotalTurn, Scenario


class Speaker(Protocol):
    """Whoever writes the replies: a trained policy or a scripted one."""

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> Sequence[str | None]:
        """One reply per dialogue, in order, None where it has grown too long; a seed keys the randomness of each."""
        ...


class Sampler(Protocol):
    """Whoever samples several replies to one dialogue, with the token ids and log-probabilities training needs."""

    def sample(self, dialogues: Sequence[Dialogue], seeds: Sequence[Sequence[int]]) -> list[list[Completion]]:
        """One completion per seed for each dialogue, in order."""
        ...


def play(
    speaker: Speaker,
    users: UserSimulator,
    scenarios: Sequence[Scenario],
    *,
    turns: int,
    seed: int,
    on_turn: Callable[[int], None] = lambda turn: None,
) -> list[Dialogue]:
    """Play every scenario for ``turns`` turns, or until its user ends the talk.

    A reply that cannot be written any more, or whose reaction is missing, ends its dialogue there: the turns before it
    stay usable.
    """
    dialogues = [Dialogue(scenario) for scenario in scenarios]
    live = list(range(len(dialogues)))
    for turn in range(turns):
        seeds = [derive_seed(seed, dialogues[i].scenario.id, turn) for i in live]
        replies = speaker.reply([dialogues[i] for i in live], seeds)
        written = [(i, text, s) for i, text, s in zip(live, replies, seeds, strict=True) if text is not None]
        asked = [EchoRequest(dialogues[i], text, s) for i, text, s in written]
        still = []
        for (i, _, _), request, reaction in zip(written, asked, users.react(asked), strict=True):
            if reaction is not None:
                dialogues[i] = dialogues[i].then(request.reply, reaction)
                if not reaction.done:
                    still.append(i)
        live = still
        on_turn(turn)
        if not live:
            break
    return dialogues


def branch(
    sampler: Sampler, users: UserSimulator, pivots: Sequence[PivotalTurn], *, candidates: int, seed: int
) -> list[Group]:
    """Sample ``candidates`` replies at each pivotal turn and ask the simulator for the echo of each.

    A reply whose echo is missing is left out of its group.
    """
    stands = [pivot.dialogue for pivot in pivots]
    keys = [(seed, stand.scenario.id, len(stand.turns)) for stand in stands]
    seeds = [[derive_seed(*key, i) for i in range(candidates)] for key in keys]
    completions = sampler.sample(stands, seeds)
    requests = [
        EchoRequest(stand, completion.text, s)
        for stand, some, theirs in zip(stands, completions, seeds, strict=True)
        for completion, s in zip(some, theirs, strict=True)
    ]
    reactions = iter(users.react(requests))
    return [
        Group(pivot, tuple(Candidate(c, echo) for c in some if (echo := next(reactions)) is not None))
        for pivot, some in zip(pivots, completions, strict=True)
    ]
