"""Users played by language models: what they are shown, what they may answer, who plays whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rapo.errors import ConfigError
from rapo.interact.llm_user import STAYS, Domain, LLMUser, Mode
from rapo.interact.play import play
from rapo.models.chat import ChatRequest, Scripted
from rapo.types import Dialogue, EchoRequest, Message, Reaction, Scale, Scenario, Turn

MOOD = {"analysis": "they asked", "change": 1, "state": 5, "thought": "finally", "done": False}


def scenario(name: str = "file:1", **profile: Any) -> Scenario:
    opening = (Message("system", "BRIEF"), Message("user", "I lost my job."))
    return Scenario(name, "a job lost", opening, 4.0, Scale(0, 10, "ease"), profile or {"facts": ["rent is due"]})


class Player:
    """Answers by purpose and remembers what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.says: dict[str, Any] = {"appraise": MOOD, "speak": {"text": "Thanks."}, **answers}
        self.asked: list[ChatRequest] = []
        self.model = Scripted("player", self._reply)

    def _reply(self, request: ChatRequest) -> str | None:
        self.asked.append(request)
        found = self.says[request.purpose.removeprefix("user.")]
        return json.dumps(found) if isinstance(found, Mapping) else found


def echo(player: Player, reply: str = "What happened?", *, domain: Domain = "support", mode: Mode = "two_calls") -> Any:
    before = Dialogue(scenario(), (Turn("Hello <|im_end|>", Reaction("Hi.", 4.5)),))
    users = LLMUser([scenario()], [player.model], domain=domain, mode=mode)
    (reaction,) = users.react([EchoRequest(before, reply, 11)])
    return reaction


def prompt(request: ChatRequest) -> str:
    return "\n".join(message.content for message in request.messages)


def test_weighs_then_speaks() -> None:
    player = Player()
    assert echo(player) == Reaction("Thanks.", 5.0, "finally", False)
    weigh, speak = player.asked
    assert [each.purpose for each in player.asked] == ["user.appraise", "user.speak"]
    assert weigh.seed != speak.seed
    for request in player.asked:
        text = prompt(request)
        assert all(part in text for part in ("rent is due", "a job lost", "I lost my job.", "What happened?", "4.5"))
        assert "BRIEF" not in text and "<|" not in text
        assert request.schema is not None and not request.schema["additionalProperties"]
    assert '"they asked"' in prompt(speak) and "finally" in prompt(speak)


def test_one_call_for_everything() -> None:
    player = Player(once={**MOOD, "text": "Thanks.", "done": True})
    assert echo(player, mode="one_call") == Reaction("Thanks.", 5.0, "finally", True)
    assert [each.purpose for each in player.asked] == ["user.once"]


@pytest.mark.parametrize(
    "broken",
    [
        {"state": 11},
        {"state": -0.1},
        {"state": "high"},
        {"state": None},
        {"state": True},
        {"state": 1e999},
        {"change": -1},  # 4.5 to 5 is no fall
        {"change": "some"},
        {"done": "yes"},
        {"thought": 3},
        {"thought": "x" * 3000},
    ],
)
def test_unusable_appraisals_are_missing(broken: dict[str, Any]) -> None:
    player = Player(appraise={**MOOD, **broken})
    assert echo(player) is None
    assert [each.purpose for each in player.asked] == ["user.appraise"] * 2  # once more, and nothing is said


@pytest.mark.parametrize("said", [{"text": ""}, {"text": 3}, {}, "no", None])
def test_unusable_words_are_missing(said: Any) -> None:
    assert echo(Player(speak=said)) is None


def test_one_missing_reaction_leaves_the_others() -> None:
    def reply(request: ChatRequest) -> str:
        if request.purpose == "user.appraise":
            return "no" if "LOST" in prompt(request) else json.dumps(MOOD)
        return '{"text": "ok"}'

    users = LLMUser([scenario()], [Scripted("m", reply)])
    asked = [EchoRequest(Dialogue(scenario(f"s{i}")), "LOST" if i in (0, 2) else "hi", i) for i in range(4)]
    found = users.react(asked)
    assert [each is None for each in found] == [True, False, True, False]
    assert (users.tally.exact, users.tally.missing) == (4, 2)


@pytest.mark.parametrize(
    ("said", "text", "done"),
    [
        ({"act": "speak", "text": "Deal."}, "Deal.", False),
        ({"text": "Deal."}, "Deal.", False),
        ({"act": "non-verbal", "text": "nods"}, "[non-verbal] nods", False),
        ({"act": "action", "text": "[action] signs"}, "[action] signs", False),
        ({"act": "leave", "text": ""}, "[leave]", True),
        ({"act": "speak", "text": "[leave] Bye."}, "[leave] Bye.", True),
    ],
)
def test_acts_of_the_user(said: dict[str, str], text: str, done: bool) -> None:
    assert echo(Player(speak=said), domain="negotiation") == Reaction(text, 5.0, "finally", done)


@pytest.mark.parametrize("said", [{"act": "sing", "text": "la"}, {"act": "action", "text": ""}, {"act": ["leave"]}])
def test_no_such_act(said: dict[str, Any]) -> None:
    assert echo(Player(speak=said), domain="negotiation") is None


def test_acts_of_the_policy_are_named() -> None:
    player = Player(speak={"text": "ok"})
    echo(player, "[action] hands over the keys", domain="negotiation")
    assert '{"who": "they", "act": "action", "text": "hands over the keys"}' in prompt(player.asked[0])


def test_a_policy_that_leaves_ends_the_talk_unasked() -> None:
    player = Player()
    assert echo(player, "[leave] Bye.", domain="negotiation") == Reaction(STAYS, 4.5, "", True)
    assert player.asked == []
    assert echo(player, "[leave] Bye.") is not None and player.asked != []  # support talk knows no acts


def test_a_scenario_keeps_its_player() -> None:
    players = [Player(), Player(), Player()]
    users = LLMUser([scenario()], [player.model for player in players])

    def who(name: str) -> list[int]:
        before = [len(player.asked) for player in players]
        users.react([EchoRequest(Dialogue(scenario(name)), reply, 3) for reply in "abc"])
        return [i for i, player in enumerate(players) if len(player.asked) > before[i]]

    seen = [who(f"s{i}") for i in range(30)]
    assert all(len(each) == 1 for each in seen) and {each[0] for each in seen} == {0, 1, 2}
    assert seen == [who(f"s{i}") for i in range(30)]


def test_order_survives_several_players() -> None:
    def named(name: str) -> Callable[[ChatRequest], str]:
        return lambda request: json.dumps(MOOD if request.purpose == "user.appraise" else {"text": f"{name}"})

    users = LLMUser([scenario()], [Scripted(name, named(name)) for name in "ab"])
    asked = [EchoRequest(Dialogue(scenario(f"s{i}")), "hi", i) for i in range(20)]
    together = users.react(asked)
    assert together == [users.react([each])[0] for each in asked]
    assert {each.text for each in together if each} == {"a", "b"}


def test_scenarios_are_drawn_without_replacement() -> None:
    users = LLMUser([scenario(f"s{i}") for i in range(7)], [Player().model])
    drawn = users.scenarios(17, 5)
    bases = [each.id.split("~")[0] for each in drawn]
    assert sorted(bases[:7]) == sorted(bases[7:14]) == sorted(f"s{i}" for i in range(7))
    assert drawn == users.scenarios(17, 5) != users.scenarios(17, 6)
    assert users.scenarios(0, 5) == []


def test_no_two_users_of_a_batch_are_alike() -> None:
    users = LLMUser([scenario(f"s{i}") for i in range(20)], [Player().model])
    drawn = users.scenarios(1000, 0)
    assert len({each.id for each in drawn}) == len({str(each.profile["persona"]) for each in drawn}) == 1000


def test_own_personas_stay() -> None:
    own = scenario("own", persona="Ada, 40")
    drawn = LLMUser([own], [Player().model]).scenarios(3, 0)
    assert [each.id for each in drawn] == ["own", "own~2", "own~3"]
    assert all(each.profile == own.profile for each in drawn)
    plain = LLMUser([scenario()], [Player().model], personas=False).scenarios(2, 0)
    assert [each.id for each in plain] == ["file:1", "file:1~2"]


def test_a_talk_is_played() -> None:
    class Speaker:
        def reply(self, dialogues: Any, seeds: Any) -> list[str]:
            return ["What happened?"] * len(dialogues)

    users = LLMUser([scenario()], [Player(appraise={**MOOD, "change": None}).model])
    (dialogue,) = play(Speaker(), users, users.scenarios(1, 0), turns=3, seed=0)
    assert dialogue.trajectory == (4, 5, 5, 5)


def test_nobody_to_play() -> None:
    with pytest.raises(ConfigError, match=r"no users\.files"):
        LLMUser([], [Player().model])
    with pytest.raises(ConfigError, match=r"no users\.models"):
        LLMUser([scenario()], [])
