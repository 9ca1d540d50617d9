"""Playing dialogues: a speaker and a user simulator take turns; a turn can be branched into several candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol, runtime_checkable

from rapo.interact.users import UserSimulator
from rapo.overlap import Desk, Overlap, Work, concurrency, then, together
from rapo.seeds import derive_seed
from rapo.types import Candidate, Completion, Dialogue, EchoRequest, Group, PivotalTurn, Reaction, Scenario

Echoes = Desk[EchoRequest, Reaction | None]


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


@runtime_checkable
class Scorer(Protocol):
    """Whoever can say how likely it finds a reply that somebody else wrote."""

    def score(self, dialogues: Sequence[Dialogue], replies: Sequence[str]) -> list[tuple[float, int] | None]:
        """Log-probability (nats) of each reply to its dialogue and its number of tokens; None where it is too long."""
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
    """Play every scenario for ``turns`` turns, or until its user ends the talk; all of them turn by turn."""
    with Overlap() as overlap:
        echoes: Echoes = overlap.desk("play", users.react, concurrency(users))
        return overlap.finish(talk(speaker, echoes, scenarios, turns=turns, seed=seed, on_turn=on_turn))


def talk(
    speaker: Speaker,
    echoes: Echoes,
    scenarios: Sequence[Scenario],
    *,
    turns: int,
    seed: int,
    on_turn: Callable[[int], None] = lambda turn: None,
) -> Work[list[Dialogue]]:
    """The dialogues of some scenarios, whose replies are written together, turn by turn.

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
        reactions: list[Reaction | None] = yield together(echoes.ask(asked))
        still = []
        for (i, _, _), request, reaction in zip(written, asked, reactions, strict=True):
            if reaction is not None:
                dialogues[i] = dialogues[i].then(request.reply, reaction)
                if not reaction.done:
                    still.append(i)
        live = still
        on_turn(turn)
        if not live:
            break
    return dialogues


def cut_short(dialogues: Iterable[Dialogue], turns: int) -> int:
    """How many of the dialogues neither their user nor the number of ``turns`` ended."""
    return sum(not dialogue.done and len(dialogue.turns) < turns for dialogue in dialogues)


def branch(
    sampler: Sampler, echoes: Echoes, pivots: Sequence[PivotalTurn], *, candidates: int, seed: int
) -> list[Future[Group]]:
    """Sample ``candidates`` replies at each pivotal turn and ask for the echo of each; the groups as echoes come in.

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
    reactions = iter(echoes.ask(requests))
    return [
        then(together([next(reactions) for _ in some]), partial(_group, pivot, some))
        for pivot, some in zip(pivots, completions, strict=True)
    ]


def _group(pivot: PivotalTurn, completions: Sequence[Completion], reactions: Sequence[Reaction | None]) -> Group:
    pairs = zip(completions, reactions, strict=True)
    return Group(pivot, tuple(Candidate(completion, echo) for completion, echo in pairs if echo is not None))
