"""Code of the user's own: whatever is wrong with it or with what it gives back is one line that names it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rapo import plugins
from rapo.errors import BudgetError, ConfigError
from rapo.hindsight.feedback import Verdict, give_feedback
from rapo.overlap import concurrency
from rapo.types import (
    Candidate,
    Completion,
    Dialogue,
    EchoRequest,
    Group,
    Message,
    PivotalTurn,
    Reaction,
    Scale,
    Scenario,
)

HELLO = (Message("user", "Hi."),)
NUMBERS = itertools.count()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """``own(source)``: a module of one's own; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        name = f"own_code_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


class Given:
    """Gives what it was made with."""

    def __init__(self, scenarios: Any = (), reactions: Any = (), verdicts: Any = ()) -> None:
        self.given = scenarios, reactions, verdicts

    def scenarios(self, count: int, seed: int) -> Any:
        return self.given[0]

    def react(self, requests: Any) -> Any:
        return self.given[1]

    def judge(self, requests: Any) -> Any:
        return self.given[2]


ME = f"{__name__}:Given"


def scenario(name: str = "a", start: Any = 5.0, **other: Any) -> Scenario:
    return Scenario(name, "", **({"opening": HELLO, "start": start} | other))


def message(act: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Wide(Given):
    """Says from how many threads it may be asked."""

    def __init__(self, concurrency: Any) -> None:
        super().__init__()
        self.concurrency = concurrency


@pytest.mark.parametrize(("make", "key"), [(plugins.users, "users.kind"), (plugins.judge, "judge.kind")])
def test_how_many_threads_may_ask_it_is_its_own_word(make: Callable[..., Any], key: str) -> None:
    wide = f"{__name__}:Wide"
    assert (concurrency(make(ME, {})), concurrency(make(wide, {"concurrency": 3}))) == (0, 3)
    for wrong in ("many", -1, 2.0):
        told = f"{key}={wide}: its concurrency is no number of threads; got {wrong}; expected 0 or more"
        assert message(lambda wrong=wrong: make(wide, {"concurrency": wrong})).startswith(told)  # type: ignore[misc]


class Busy(Given):
    """Counts who asks at the same time."""

    concurrency = 2
    lock, under_way, most = threading.Lock(), 0, 0

    def react(self, requests: Any) -> Any:
        with Busy.lock:
            Busy.under_way += 1
            Busy.most = max(Busy.most, Busy.under_way)
        time.sleep(0.02)
        with Busy.lock:
            Busy.under_way -= 1
        return [None for _ in requests]


def test_phases_that_ask_together_are_no_more_threads_than_it_allows():
    users = plugins.users(f"{__name__}:Busy", {})
    with ThreadPoolExecutor(6) as phases:  # three desks of two threads each, as in a step
        assert list(phases.map(users.react, [[]] * 12)) == [[]] * 12
    assert Busy.most == 2


def test_an_attribute_error_at_import_is_told(own):
    dotted = f"{own('import math; math.tua')}:User"
    told = f"users.kind={dotted} cannot be imported; got AttributeError: module 'math' has no attribute 'tua'"
    assert message(lambda: plugins.users(dotted, {})).startswith(told)


def test_a_class_that_cannot_be_made_names_its_line(own):
    name = own("class User:\n    def __init__(self):\n        raise KeyError('model')\n")
    told = f"users.kind={name}:User fails; got KeyError: 'model'; look at {name}.py line 3"
    assert message(lambda: plugins.users(f"{name}:User", {})) == told


FAILS = """
import json

class Fails:
    def scenarios(self, count, seed):
        return None

    def react(self, requests):
        return self._help()

    def _help(self):
        return json.loads("{")

    def judge(self, requests):
        yield 1 / 0
"""


def test_failures_in_methods_name_their_line(own):
    name = own(FAILS)
    users, judge = plugins.users(f"{name}:Fails", {}), plugins.judge(f"{name}:Fails", {})
    told = f"users.kind={name}:Fails fails; got TypeError: 'NoneType' object is not iterable"
    assert message(lambda: users.scenarios(1, 0)) == told
    # The line of theirs, not the library's below it.
    told = f"users.kind={name}:Fails fails; got JSONDecodeError: Expecting property name"
    found = message(lambda: users.react([]))
    assert found.startswith(told) and found.endswith(f"look at {name}.py line 12")
    told = f"judge.kind={name}:Fails fails; got ZeroDivisionError: division by zero; look at {name}.py line 15"
    assert message(lambda: judge.judge([])) == told


def test_an_error_of_ours_passes(own):
    name = own(
        "from rapo.errors import BudgetError\nclass User:\n    scenarios = react = None\n"
        "    def scenarios(self, count, seed): raise BudgetError('all spent')\n    def react(self, requests): ...\n"
    )
    with pytest.raises(BudgetError, match=r"^all spent$"):
        plugins.users(f"{name}:User", {}).scenarios(1, 0)


SCENARIOS = {
    "none": ([], "gives too few or many scenarios; got 0; expected 2"),
    "too many": ([scenario(name) for name in "abc"], "gives too few or many scenarios; got 3; expected 2"),
    "not a scenario": ([scenario(), "b"], "gives no scenario; got b; expected a rapo.types.Scenario"),
    "one id": ([scenario(), scenario()], "gives scenarios with one id twice; expected an id of its own for each"),
    "no opening": ([scenario(opening=()), scenario("b")], ": the opening of scenario a does not end with the user"),
    "an opening of the policy": (
        [scenario(), scenario("b", opening=(*HELLO, Message("assistant", "Hm.")))],
        ": the opening of scenario b does not end with the user",
    ),
    "a start that is no number": (
        [scenario(start=float("nan")), scenario("b")],
        ": the start of a scenario is off its scale; got nan; expected a number from 0 to 10, the scenario's scale",
    ),
    "a start off the scale": ([scenario(), scenario("b", start=60)], "off its scale; got 60; expected a number from 0"),
    "a start of text": ([scenario(), scenario("b", start="5")], "off its scale; got 5; expected a number from 0"),
    "a scale without end": (
        [scenario(), scenario("b", scale=Scale(0, float("inf")))],
        ": the scale of scenario b is none; got Scale(low=0, high=inf, name='ease'); expected two numbers",
    ),
}


@pytest.mark.parametrize("case", SCENARIOS)
def test_wrong_scenarios(case):
    given, told = SCENARIOS[case]
    users = plugins.users(ME, {"scenarios": given})
    found = message(lambda: users.scenarios(2, 0))
    assert found.startswith(f"users.kind={ME}") and told in found


REACTIONS = {
    "too few": ([Reaction("Hm.", 5.0)], "gives too few or many reactions; got 1; expected 2, None where there is none"),
    "too many": ([None] * 3, "gives too few or many reactions; got 3; expected 2"),
    "not a reaction": ([None, "Hm."], "gives no reaction; got Hm.; expected a rapo.types.Reaction"),
    "no text": ([Reaction(None, 5.0), None], "gives no reaction; got Reaction(text=None"),  # type: ignore[arg-type]
    "not a number": ([None, Reaction("Hm.", float("nan"))], ": the state of a reaction is off its scale; got nan"),
    "off the scale": (
        [Reaction("Hm.", 600), None],
        "off its scale; got 600; expected a number from 0 to 10, the scenario's scale",
    ),
    "below the scale": ([Reaction("Hm.", -0.1), None], "off its scale; got -0.1; expected a number from 0 to 10"),
}


@pytest.mark.parametrize("case", REACTIONS)
def test_wrong_reactions(case):
    given, told = REACTIONS[case]
    users = plugins.users(ME, {"reactions": given})
    found = message(lambda: users.react([EchoRequest(Dialogue(scenario()), "Oh.", i) for i in range(2)]))
    assert found.startswith(f"users.kind={ME}") and told in found


def test_right_ones_pass():
    # 10.0000000001 is what rounding makes of 10.
    reactions = (Reaction("Hm.", 10.0000000001), None, Reaction("Ha.", 0))
    users = plugins.users(ME, {"scenarios": (scenario(), scenario("b", start=10)), "reactions": reactions})
    assert [each.id for each in users.scenarios(2, 0)] == ["a", "b"]
    assert tuple(users.react([EchoRequest(Dialogue(scenario()), "Oh.", 0)] * 3)) == reactions


VERDICT = Verdict((1.0, 2.0), ("Good.", "Say more."))
VERDICTS = {
    "too few": ([VERDICT], "got 1 answers to 2 requests; expected a Verdict for each, of numbers and texts, None"),
    "too many": ([VERDICT] * 3, "got 3 answers to 2 requests; expected"),
    "not a verdict": ([VERDICT, (1, 2)], "got 2 answers to 2 requests, some a tuple; expected a Verdict for each"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_wrong_verdicts(case):
    given, told = VERDICTS[case]
    candidates = tuple(Candidate(Completion(text, (1,), (0.0,), True), Reaction("Hm.", 1.0)) for text in "ab")
    groups = [Group(PivotalTurn(Dialogue(scenario(name)), 1.0), candidates) for name in "ab"]
    judge = plugins.judge(ME, {"verdicts": given})
    found = message(lambda: give_feedback(groups, judge, permutations=1, seed=0))
    assert found.startswith(f"the judge (judge.kind) does not give a verdict per request; {told}")
