"""Generative hindsight feedback: the reward model sees a whole group, echoes included, and ranks and criticises it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from rapo.errors import ConfigError
from rapo.hindsight.leak import hidden_texts, leaks
from rapo.ranks import kendall_w, mid_ranks
from rapo.seeds import derive_seed
from rapo.types import Feedback, Group, Message, Reaction


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """One group as the judge sees it, candidates in the order in which they are shown.

    A reaction is what was said and the state after it; what the user thought and did not say stays with the user.

    Attributes:
        context: everything said before the replies.
        replies: the candidates.
        reactions: what each caused; none where the judge is to see replies alone (``judge.sees_echoes=false``).
        seed: keys any randomness of the judge; another one for every order of a group.
        secrets: texts of the hidden profile, NEVER to enter a prompt: a critique that quotes one is unusable.
    """

    context: tuple[Message, ...]
    replies: tuple[str, ...]
    reactions: tuple[Reaction, ...] = ()
    seed: int = 0
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's answer: one rank (1 = best, ties share a number) and one critique per reply, in the order shown."""

    ranks: tuple[float, ...]
    critiques: tuple[str, ...]


class RewardModel(Protocol):
    """A generative reward model (GRM).

    With an attribute ``concurrency`` of 1 or more it is asked group by group, from so many threads at once, as soon as
    the echoes of a group are in. Without it, all groups of a step come in one call.
    """

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        """One verdict per request, in order; None where the feedback is unusable."""
        ...


def give_feedback(
    groups: Sequence[Group], judge: RewardModel, *, permutations: int, seed: int, sees_echoes: bool = True
) -> list[Group]:
    """The groups with the judge's feedback.

    Every group is shown in ``permutations`` seeded orders; a candidate's rank is its mean mid-rank over the orders, its
    critique that of the first. A group is missing its feedback (None) when fewer than two candidates have a reaction or
    when any of its verdicts is unusable: part of an answer would favour the order it came from. A verdict with a
    critique that tells what the user kept to themselves is unusable, whoever judged.
    """
    keys = [_keys(group, permutations, seed) for group in groups]
    orders = [[_order(group, key) for key in some] for group, some in zip(groups, keys, strict=True)]
    shown = [
        [_shown(group, order, key, sees_echoes) for order, key in zip(*both, strict=True)]
        for group, *both in zip(groups, orders, keys, strict=True)
    ]
    asked = [request for some in shown for request in some]
    given = judge.judge(asked)
    kinds = {type(verdict).__name__ for verdict in given if not isinstance(verdict, Verdict | None)}
    kinds |= {
        "Verdict of other things" for verdict in given if isinstance(verdict, Verdict) and not _well_made(verdict)
    }
    if len(given) != len(asked) or kinds:
        raise ConfigError(
            "the judge (judge.kind) does not give a verdict per request",
            got=f"{len(given)} answers to {len(asked)} requests" + (f", some a {min(kinds)}" if kinds else ""),
            expected="a Verdict for each, of numbers and texts, None where there is none",
        )
    verdicts = iter(given)
    return [
        _with_feedback(group, some, [_kept(request, next(verdicts)) for request in requests])
        for group, some, requests in zip(groups, orders, shown, strict=True)
    ]


def _well_made(verdict: Verdict) -> bool:
    """Whether a verdict, which may be of the user's own code, holds numbers and texts."""
    sequences = isinstance(verdict.ranks, Sequence) and isinstance(verdict.critiques, Sequence)
    return (
        sequences
        and all(isinstance(rank, int | float) for rank in verdict.ranks)
        and all(isinstance(text, str) for text in verdict.critiques)
    )


def usable(verdict: Verdict | None, size: int) -> bool:
    """Whether a verdict ranks and criticises all ``size`` replies."""
    return (
        verdict is not None
        and len(verdict.ranks) == len(verdict.critiques) == size
        and all(math.isfinite(rank) for rank in verdict.ranks)
        and all(text.strip() for text in verdict.critiques)
    )


def tells_author(request: JudgeRequest, place: int, critique: str) -> bool:
    """Whether a critique of the reply at ``place`` repeats something of the hidden profile that nobody has said there.

    What the user told another candidate was not said there: a teacher that knows it would teach the policy to guess.
    """
    said = [message.content for message in request.context] + [request.replies[place]]
    echo = [reaction.text for reaction in request.reactions[place : place + 1]]
    return leaks(critique, request.secrets, said + echo)


def tells_hidden(request: JudgeRequest, critiques: Sequence[str]) -> bool:
    """Whether a critique, one per reply, repeats something of the hidden profile that nobody has said to its author."""
    return any(
        tells_author(request, place, critique) for place, critique in enumerate(critiques[: len(request.replies)])
    )


def _kept(request: JudgeRequest, verdict: Verdict | None) -> Verdict | None:
    """The verdict, if it keeps the user's secrets."""
    return None if verdict and tells_hidden(request, verdict.critiques) else verdict


def _keys(group: Group, permutations: int, seed: int) -> list[int]:
    if len(group.candidates) < 2:
        return []
    dialogue = group.pivot.dialogue
    return [derive_seed(seed, "order", dialogue.scenario.id, len(dialogue.turns), p) for p in range(permutations)]


def _order(group: Group, key: int) -> tuple[int, ...]:
    size = len(group.candidates)
    return tuple(Random(key).sample(range(size), size))


def _shown(group: Group, order: Sequence[int], key: int, sees_echoes: bool) -> JudgeRequest:
    dialogue = group.pivot.dialogue
    echoes = tuple(replace(group.candidates[i].reaction, thought="") for i in order)
    return JudgeRequest(
        dialogue.messages,
        tuple(group.candidates[i].completion.text for i in order),
        echoes if sees_echoes else (),
        derive_seed(key, "judge"),
        hidden_texts(dialogue.scenario.profile),
    )


def _with_feedback(group: Group, orders: Sequence[tuple[int, ...]], verdicts: Sequence[Verdict | None]) -> Group:
    size, group = len(group.candidates), replace(group, orders=tuple(orders))
    answers = [verdict for verdict in verdicts if verdict is not None and usable(verdict, size)]
    if not orders or len(answers) < len(orders):
        return replace(group, feedback=None)
    rankings, critiques = [[0.0] * size for _ in orders], [""] * size
    for ranks, order, answer in zip(rankings, orders, answers, strict=True):
        for place, rank in zip(order, mid_ranks(answer.ranks), strict=True):
            ranks[place] = rank
    for place, text in zip(orders[0], answers[0].critiques, strict=True):
        critiques[place] = text
    means = [sum(places) / len(rankings) for places in zip(*rankings, strict=True)]
    feedback = tuple(Feedback(rank, text) for rank, text in zip(mid_ranks(means), critiques, strict=True))
    return replace(group, feedback=feedback, agreement=kendall_w(rankings))
