"""Playing and branching with a toy speaker and a toy user."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from branched import branched
from rapo.interact.play import play
from rapo.types import Completion, Dialogue, EchoRequest, Message, PivotalTurn, Reaction, Scenario


class Echoer:
    """Replies with the dialogue's name, the number of the turn and the seed."""

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str]:
        return [f"{d.scenario.id}{len(d.turns)}:{seed}" for d, seed in zip(dialogues, seeds, strict=True)]

    def sample(self, dialogues: Sequence[Dialogue], seeds: Sequence[Sequence[int]]) -> list[list[Completion]]:
        return [
            [Completion(f"{d.scenario.id}/{i}:{seed}", (i,), (0.0,), True) for i, seed in enumerate(some)]
            for d, some in zip(dialogues, seeds, strict=True)
        ]


class Toy:
    """Answers with the seed; gives nothing where the reply starts with one of ``silent``, ends at one of ``last``."""

    def __init__(self, silent: Sequence[str] = (), last: Sequence[str] = ()) -> None:
        self.silent, self.last, self.asked = tuple(silent), tuple(last), list[str]()

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        raise AssertionError

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        self.asked += [request.reply.split(":")[0] for request in requests]
        return [
            None if r.reply.startswith(self.silent) else Reaction(str(r.seed), 1.0, done=r.reply.startswith(self.last))
            for r in requests
        ]


def scenario(name: str) -> Scenario:
    return Scenario(name, "", (Message("user", "hi"),), 5.0)


def heads(dialogue: Dialogue) -> list[str]:
    return [turn.reply.split(":")[0] for turn in dialogue.turns]


@pytest.mark.parametrize(
    ("silent", "last", "a", "b"),
    [
        ((), (), ["a0", "a1", "a2"], ["b0", "b1", "b2"]),
        (("a1",), (), ["a0"], ["b0", "b1", "b2"]),  # missing: the turn is not there, the ones before stay
        (("a0",), (), [], ["b0", "b1", "b2"]),
        ((), ("a1",), ["a0", "a1"], ["b0", "b1", "b2"]),  # done: the turn is there, and the last
        (("b2",), ("a0",), ["a0"], ["b0", "b1"]),
    ],
)
def test_ends(silent: tuple[str, ...], last: tuple[str, ...], a: list[str], b: list[str]) -> None:
    users = Toy(silent, last)
    one, two = play(Echoer(), users, [scenario("a"), scenario("b")], turns=3, seed=1)
    assert (heads(one), heads(two)) == (a, b)
    assert one.done == (last != ())
    # Whoever has ended is not asked again.
    assert users.asked.count("a2") == (a == ["a0", "a1", "a2"])


def test_everyone_gone_ends_the_play() -> None:
    turns: list[int] = []
    play(Echoer(), Toy(last=("a0", "b0")), [scenario("a"), scenario("b")], turns=5, seed=1, on_turn=turns.append)
    assert turns == [0]
    assert play(Echoer(), Toy(), [], turns=2, seed=1) == []


def test_a_scenario_more_changes_no_other_dialogue() -> None:
    alone = play(Echoer(), Toy(), [scenario("a")], turns=3, seed=1)
    among = play(Echoer(), Toy(), [scenario("z"), scenario("a"), scenario("b")], turns=3, seed=1)
    assert among[1] == alone[0]
    assert play(Echoer(), Toy(), [scenario("a")], turns=3, seed=2) != alone
    # Every turn of every scenario has a seed of its own, shared by reply and echo.
    said = [turn for dialogue in among for turn in dialogue.turns]
    assert len({turn.reply.split(":")[1] for turn in said}) == 9
    assert all(turn.reply.endswith(":" + turn.reaction.text) for turn in said)


def pivot(name: str, turns: int = 0) -> PivotalTurn:
    dialogue = Dialogue(scenario(name))
    for _ in range(turns):
        dialogue = dialogue.then("r", Reaction("e", 1.0))
    return PivotalTurn(dialogue, 1.0)


def test_a_candidate_without_echo_is_left_out() -> None:
    pivots = [pivot("a"), pivot("b")]
    one, two = branched(Echoer(), Toy(silent=("a/1", "b/0", "b/1", "b/2")), pivots, candidates=3, seed=1)
    assert [c.completion.text.split(":")[0] for c in one.candidates] == ["a/0", "a/2"]
    assert two.candidates == ()
    assert (one.pivot, two.pivot) == tuple(pivots)
    # Each keeps its own echo.
    assert all(c.completion.text.endswith(":" + c.reaction.text) for c in one.candidates)
    assert one.feedback is None


def test_branching_seeds_are_keyed() -> None:
    alone = branched(Echoer(), Toy(), [pivot("a")], candidates=3, seed=1)
    among = branched(Echoer(), Toy(), [pivot("z"), pivot("a"), pivot("a", 2)], candidates=3, seed=1)
    assert among[1] == alone[0]
    assert len({c.reaction.text for group in among for c in group.candidates}) == 9
    # A candidate more changes none of the others.
    assert branched(Echoer(), Toy(), [pivot("a")], candidates=4, seed=1)[0].candidates[:3] == alone[0].candidates
    # A branch does not repeat what was played: the seeds of turn t and of its candidates differ.
    played = play(Echoer(), Toy(), [scenario("a")], turns=1, seed=1)
    assert played[0].turns[0].reaction.text not in {c.reaction.text for c in alone[0].candidates}


class Tiring(Echoer):
    """Has nothing more to say in dialogue b after its first turn."""

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        texts = super().reply(dialogues, seeds)
        return [None if d.scenario.id == "b" and d.turns else text for d, text in zip(dialogues, texts, strict=True)]


def test_a_dialogue_that_has_grown_too_long_ends_and_keeps_its_turns() -> None:
    scenarios = [Scenario(name, "", (Message("user", "Hi."),), 0.0) for name in "abc"]
    users = Toy()
    played = play(Tiring(), users, scenarios, turns=3, seed=0)
    assert [len(dialogue.turns) for dialogue in played] == [3, 1, 3]
    assert users.asked == ["a0", "b0", "c0", "a1", "c1", "a2", "c2"]
