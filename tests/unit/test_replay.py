"""The replay user: what it retrieves, what it scores, and what it does not fall for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rapo.data import Conversation
from rapo.errors import ConfigError, DataError
from rapo.interact.replay import ReplayUser
from rapo.types import Dialogue, EchoRequest, Message, Reaction, Scale, Scenario

pytest.importorskip("sklearn", reason="the replay user needs the extra rapo-rl[replay]")
REAL = Path(os.environ.get("RAPO_DATA", Path(__file__).parents[3] / "shared" / "data")) / "esconv"


def talk(ident: str, *said: str, ratings: tuple[float | None, ...], situation: str = "") -> Conversation:
    messages = tuple(Message("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(said))
    return Conversation(ident, situation or f"situation {ident}", messages, ratings)


LOGS = (
    talk("job", "I lost my job", "What happened at work?", "they closed it", ratings=(None, 5.0)),
    talk("cat", "my cat died", "Cats die, get over it.", "how rude", ratings=(None, 1.0)),
    talk(
        "exam",
        "my exam is soon",
        "Make a study plan together with friends and keep to it day by day.",
        "good idea",
        ratings=(None, 4.0),
    ),
    talk("end", "thanks a lot", "Thank you, bye", "bye", ratings=(None, 5.0)),
)


def ask(reply: str, said: str = "I lost my job", ident: str = "new", **scenario: object) -> EchoRequest:
    start = Scenario(ident, "", (Message("user", said),), 3.0, Scale(1.0, 5.0, "rating"))
    return EchoRequest(Dialogue(start), reply, seed=0)


def echo(user: ReplayUser, request: EchoRequest) -> Reaction:
    reaction = user.react([request])[0]
    assert reaction is not None
    return reaction


def test_state_is_the_shrunken_rating_of_the_neighbours() -> None:
    user = ReplayUser(LOGS, neighbours=1, prior=1.0)
    # The goodbye lends no rating: the mean is (5 + 1 + 4) / 3 = 10/3. Same reply, same context: similarity 1.
    # (1 x 5 + 1 x 10/3) / (1 + 1) = 25/6.
    assert user.mean == pytest.approx(10 / 3)
    reaction = echo(user, ask("What happened at work?"))
    assert (reaction.text, reaction.done) == ("they closed it", False)
    assert reaction.state == pytest.approx(25 / 6)
    # Half the similarity when only the reply is alike: (0.5 x 5 + 10/3) / 1.5 = 35/9.
    even = ReplayUser(LOGS, neighbours=1, reply_weight=1, context_weight=1)
    assert echo(even, ask("What happened at work?", said="unheard")).state == pytest.approx(35 / 9)


def test_state_is_on_the_scenario_s_scale() -> None:
    start = Scenario("new", "", (Message("user", "I lost my job"),), 0.0, Scale(0.0, 10.0))
    reaction = echo(ReplayUser(LOGS, neighbours=1), EchoRequest(Dialogue(start), "What happened at work?", 0))
    assert reaction.state == pytest.approx(10 * (25 / 6 - 1) / 4)


@pytest.mark.parametrize("how", ["id", "profile", "situation"])
def test_never_retrieves_from_the_dialogue_it_plays(how: str) -> None:
    user = ReplayUser(LOGS)
    start = {
        "id": Scenario("job", "", LOGS[0].messages[:1], 3.0),
        "profile": Scenario("job@1", "", LOGS[0].messages[:1], 3.0, profile={"conversation": "job"}),
        "situation": Scenario("x", "Situation: JOB", LOGS[0].messages[:1], 3.0),
    }[how]
    assert echo(user, EchoRequest(Dialogue(start), "What happened at work?", 0)).text != "they closed it"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "xqz wvut plok",
        "aaaaaaaaaaaaaaaaaaaa",
        "work work work work",
        "Thank you",
        "What happened at work? Bye",
        "I lost my job",
        "make study plan together with friends and keep to it day by what happened at work cats",
    ],
)
def test_exploits_get_the_lowest_state_and_the_worst_echo(reply: str) -> None:
    assert echo(ReplayUser(LOGS), ask(reply)) == Reaction("how rude", 1.0)


def test_word_salad_of_known_words_is_seen_in_a_corpus_that_is_large_enough() -> None:
    line = "tell me what happened at work and why you feel this way"
    logs = [talk(f"t{n}", "I am sad", f"{line} {n}00", f"because {n}11", ratings=(None, 5.0)) for n in range(60)]
    user = ReplayUser(logs)
    assert echo(user, ask(line)).state > 4.5
    assert echo(user, ask("way why work you at tell feel and happened me this what")).state == 1.0


@pytest.mark.parametrize(
    "reply", [LOGS[2].messages[1].content, "make a study plan together with friends and keep to it"]
)
def test_copying_an_own_earlier_reply_is_seen(reply: str) -> None:
    before = ask("x").dialogue.then(LOGS[2].messages[1].content, Reaction("good idea", 4.0))
    assert echo(ReplayUser(LOGS), EchoRequest(before, reply, 0)).state == 1.0
    assert echo(ReplayUser(LOGS), ask(reply)).state > 1.0


def test_equal_requests_get_equal_reactions_alone_or_together() -> None:
    user, requests = ReplayUser(LOGS), [ask("What plan?"), ask("Tell me of work."), ask("")]
    assert user.react(requests) == [echo(user, request) for request in requests]
    assert user.react([]) == []


def test_ties_go_to_the_exchange_logged_first() -> None:
    twins = [talk(name, "same", "Same reply here.", f"echo {name}", ratings=(None, 3.0)) for name in "ab"]
    assert echo(ReplayUser(twins), ask("Same reply here.", said="same")).text == "echo a"


def test_scenarios_are_unique_seeded_and_bounded() -> None:
    long = talk("long", *"abcdefghi", ratings=(None, 2.0, None, None, None))
    user = ReplayUser((long, *LOGS), max_opening=5)
    starts = user.scenarios(6, seed=1)
    # One start in each of the 3 short talks and in "end", 3 in the long one: openings of 1, 3 and 5 messages.
    assert len({scenario.id for scenario in starts}) == 6
    assert starts == user.scenarios(6, seed=1) and starts[:5] != user.scenarios(5, seed=2)
    assert {scenario.profile["conversation"] for scenario in starts[:5]} == {"job", "cat", "exam", "end", "long"}
    by_id = {scenario.id: scenario for scenario in user.scenarios(7, seed=1)}
    assert by_id["long@1"].start == user.mean and by_id["long@3"].start == by_id["long@5"].start == 2.0
    assert by_id["long@5"].opening == long.messages[:5]
    with pytest.raises(ConfigError, match="at most 7"):
        user.scenarios(8, seed=1)


def test_scenarios_start_at_random_stages() -> None:
    long = talk("long", *"abcdefghi", ratings=(None, 2.0, None, None, None))
    user = ReplayUser((*LOGS, long))
    first = {scenario.id for seed in range(20) for scenario in user.scenarios(5, seed) if "long" in scenario.id}
    assert first == {"long@1", "long@3", "long@5", "long@7"}


def test_an_answer_that_takes_up_the_users_words_is_no_copy() -> None:
    assert echo(ReplayUser(LOGS), ask("lost my job? make study plan")).state > 1.0


def test_needs_two_rated_conversations_and_sound_options() -> None:
    with pytest.raises(DataError, match="too few rated"):
        ReplayUser([LOGS[0], LOGS[0], LOGS[3]])
    for options in ({"neighbours": 0}, {"reply_weight": 0.0}, {"prior": 0.0}, {"max_opening": 1}):
        with pytest.raises(ConfigError, match="out of range"):
            ReplayUser(LOGS, **options)  # type: ignore[arg-type]


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(ConfigError, match=r"rapo-rl\[replay\]"):
        ReplayUser(LOGS)


def test_import_loads_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, rapo.interact.replay, rapo.data; print(sorted({'torch', 'sklearn', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the ESConv files are not at {REAL} (set RAPO_DATA)")
def test_real_logs_are_answered_fast() -> None:
    user = ReplayUser.from_files([REAL / "FailedESConv.part.json", REAL / "multiesc_valid.jsonl"])
    requests = [
        EchoRequest(Dialogue(scenario), "That sounds hard. What has been the worst part of it for you?", 0)
        for scenario in user.scenarios(64, seed=0)
    ]
    user.react(requests[:1])
    began = time.perf_counter()
    reactions = user.react(requests)
    assert time.perf_counter() - began < 1.0  # 0.1 s on an idle core
    assert len(user) > 3_000 and all(reaction and 1.0 <= reaction.state <= 5.0 for reaction in reactions)
