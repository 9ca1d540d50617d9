"""A simulated user beside real people: what it is shown, what it is not, and that a planted one is recognised."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from rapo.data import Conversation, played_scenario
from rapo.interact.follow import follow, last_rated
from rapo.interact.llm_user import LLMUser
from rapo.models.chat import ChatRequest, Scripted
from rapo.types import Dialogue, EchoRequest, Message, Reaction
from rated_talks import World, rated_talks

TALK = Conversation(
    "t",
    "my own note",
    tuple(
        Message("user" if place % 2 else "assistant", text)
        for place, text in enumerate(
            ["hello", "I am sad", "reply 0", "echo 0", "reply 1", "echo 1", "reply 2", "echo 2"]
        )
    ),
    ratings=(5.0, 2.0, 4.0, None),
    start=4.0,
    private=True,
)


class Recorder:
    """Answers with the states given, and keeps what it was asked."""

    def __init__(self, *states: float | None) -> None:
        self.states_, self.seen = list(states), list[EchoRequest]()

    def scenarios(self, count, seed):
        raise NotImplementedError

    def react(self, requests):
        self.seen += requests
        states = [self.states_.pop(0) for _ in requests]
        return [None if state is None else Reaction("what it would say", state) for state in states]


def silent(count: int) -> None:
    """Nobody watches."""


def test_it_reads_what_was_really_said_and_goes_on_from_its_own_state():
    user = Recorder(3.0, 7.0)
    # Up to the last rated turn; 3 and 7 of 0-10 are 1 + 4 * 0.3 and 1 + 4 * 0.7.
    assert follow(user, [TALK], seed=0, on_turns=silent) == [[pytest.approx(2.2), pytest.approx(3.8)]]
    first, second = user.seen
    assert [message.content for message in first.dialogue.messages] == ["hello", "I am sad"]
    assert first.reply == "reply 0" and second.reply == "reply 1"
    assert [message.content for message in second.dialogue.messages][2:] == ["reply 0", "echo 0"]
    # Distress of 4 before the talk is an ease of 10 - 8; then the state that it gave itself.
    assert (first.dialogue.trajectory, second.dialogue.trajectory) == ((2.0,), (2.0, 3.0))
    assert first.dialogue.scenario.profile == {"facts": ["my own note"]}


def test_no_rating_reaches_it():
    seen = []
    for ratings in (TALK.ratings, (1.0, 5.0, 1.0, None)):
        user = Recorder(3.0, 7.0)
        follow(user, [replace(TALK, ratings=ratings)], seed=0, on_turns=silent)
        seen.append(user.seen)
    assert seen[0] == seen[1]


def test_a_missing_state_is_missing_and_moves_nothing():
    user = Recorder(None, 7.0)
    assert follow(user, [TALK], seed=0, on_turns=silent) == [[None, pytest.approx(3.8)]]
    assert user.seen[1].dialogue.trajectory == (2.0, 2.0)


def test_talks_of_different_length_stay_apart():
    long, short = rated_talks(2, 4).talks
    short = replace(short, messages=short.messages[:3], ratings=short.ratings[:2])
    heard = []
    user = Recorder(1.0, 2.0, 3.0, 4.0, 5.0)
    found = follow(user, [short, long], seed=0, on_turns=heard.append)
    assert found == [pytest.approx([1.4]), pytest.approx([1.8, 2.2, 2.6, 3.0])]
    assert heard == [2, 1, 1, 1]
    assert (last_rated(short), last_rated(long), last_rated(TALK)) == (1, 4, 2)


def reply_in(request: ChatRequest) -> str:
    shown = request.messages[-1].content.partition("Their next message:\n\n")[2].partition("\n")[0]
    return str(json.loads(shown)["text"])


def played(world: World, *, knows: float) -> tuple[LLMUser, list[ChatRequest]]:
    """A language model that sees the true rating through noise (1), or noise alone (0); and all that it was asked."""
    asked: list[ChatRequest] = []

    def answer(request: ChatRequest) -> str:
        asked.append(request)
        reply = reply_in(request)
        noise = int(hashlib.sha256(reply.encode()).hexdigest(), 16) % 1000 / 250 - 2
        state = min(10.0, max(0.0, 5 + knows * 2.5 * (world.rating_of[reply] - 3) + noise))
        return json.dumps({"analysis": "", "state": state, "thought": "", "done": False, "text": "so be it"})

    return LLMUser([talk.to_scenario() for talk in world.talks], [Scripted("player", answer)]), asked


@pytest.mark.parametrize("knows", [1.0, 0.0])
def test_a_planted_simulator_is_told_from_noise(knows):
    pytest.importorskip("sklearn", reason="calibration needs the extra rapo-rl[replay]")
    from rapo.evals.calibration import calibrate

    world = rated_talks(40, 6)
    user, asked = played(world, knows=knows)
    states = follow(user, world.talks, seed=0, on_turns=silent)
    # One call a turn: nobody has to speak.
    assert len(asked) == 240 and {request.purpose for request in asked} == {"user.appraise"}
    figures = calibrate(
        [rating for talk in world.talks for rating in talk.ratings[1:]],
        [talk.key for talk in world.talks for _ in talk.ratings[1:]],
        {"llm": [state for mine in states for state in mine]},
        seed=0,
        samples=200,
    ).figures["llm"]
    for name, chance in (("spearman", 0.0), ("within", 0.0), ("auc", 0.5), ("within_auc", 0.5)):
        if knows:
            assert figures[name].low > chance + 0.3, name
        else:
            assert figures[name].low < chance < figures[name].high, name


def test_states_are_those_of_a_reaction():
    world = rated_talks(3, 2)
    user, asked = played(world, knows=1.0)
    requests = [EchoRequest(Dialogue(played_scenario(talk)), talk.messages[1].content, 7) for talk in world.talks]
    states = user.states(requests)
    alone = list(asked)
    assert [reaction and reaction.state for reaction in user.react(requests)] == states
    assert asked[3:6] == alone
