"""An episode of the sotopia package in our words, without the package: the texts are those that it writes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from rapo.evals.sotopia_view import BEGIN, SILENT, View, read_act, to_action


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ('Bea Lake said: "Hello, Ada."', "Hello, Ada."),
        ('Bea Lake said: "He said: "no", so\nI left."', 'He said: "no", so\nI left.'),
        ("Bea Lake [non-verbal communication] nods", "[non-verbal] nods"),
        ("Bea Lake [action] hands over the keys", "[action] hands over the keys"),
        ("Bea Lake left the conversation", "[leave]"),
        ('Bea Lake said: "[leave] me alone"', "[speak] [leave] me alone"),  # words that look like a tag stay words
        ('Bea Lake said: "cut short by the renderer', "cut short by the renderer"),
        ("the lights go out", "the lights go out"),
    ],
)
def test_what_the_package_tells(told: str, message: str) -> None:
    assert read_act(told) == message


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("Hello.", ("speak", "Hello.")),
        ("[non-verbal] nods", ("non-verbal communication", "nods")),
        ("[ACTION] pays", ("action", "pays")),
        ("[leave] Bye.", ("leave", "Bye.")),
        ("[leave]", ("leave", "")),
        (" ", ("none", "")),
        ("[action] ", ("none", "")),
    ],
)
def test_what_the_package_is_told(reply: str, action: tuple[str, str]) -> None:
    assert to_action(reply) == action


def roles(view: View) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in view.dialogue().messages]


def test_the_side_that_begins() -> None:
    view = View("Ada Lake")
    view.begin("Here is the context. Ada Lake's goal: BUY {name}\n")
    (brief, begin) = roles(view)
    assert brief[0] == "system" and "You are Ada Lake. Here is the context. Ada Lake's goal: BUY {name}\n" in brief[1]
    assert begin == ("user", BEGIN)
    view.answer("Hi.")
    view.hear('Ada Lake said: "Hi."')  # the package tells a side its own turns
    view.hear("Bea [action] waves")
    assert roles(view)[2:] == [("assistant", "Hi."), ("user", "[action] waves")]
    view.answer("")
    view.hear("")  # nobody did anything, twice
    view.hear("")
    assert roles(view)[4:] == [("assistant", ""), ("user", SILENT)]


def test_the_side_that_answers_and_a_new_episode() -> None:
    view = View("Ada")
    view.begin("one")
    view.hear('Ada Smith said: "Hi."')  # whose name begins like ours
    view.hear("Ada Smith [action] waits")
    assert roles(view)[1] == ("user", "Hi.\n[action] waits")
    first = view.dialogue().scenario.id
    view.answer("Go.")
    view.begin("two")
    again = view.dialogue()
    assert len(again.messages) == 2 and again.messages[1].content == BEGIN and again.scenario.id != first
    view.begin("one")
    assert view.dialogue().scenario.id == first  # seeds are keyed by what the side was told


@pytest.mark.skipif(importlib.util.find_spec("sotopia") is not None, reason="the sotopia package is installed")
def test_without_the_package_the_way_out_is_named() -> None:
    code = "import rapo.evals.sotopia_agent"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "the sotopia package cannot be imported; got No module named 'sotopia'" in ran.stderr
    assert "pip install 'rapo-rl[sotopia]'" in ran.stderr
