"""Prompts: filled in one pass, exactly by name, hashed by content."""

from __future__ import annotations

import hashlib

import pytest

from rapo import prompts
from rapo.errors import DataError
from rapo.prompts import Prompt


def test_user_text_never_injects_a_placeholder():
    prompt = Prompt("p", "{first} and {second}")
    assert prompt.fill(first="{second}", second="{first} \\1 {0} {") == "{second} and {first} \\1 {0} {"


def test_braces_around_anything_else_are_plain_text():
    prompt = Prompt("p", 'say {"rank": 1}, {}, {A} and {name}')
    assert prompt.fill(name="x") == 'say {"rank": 1}, {}, {A} and x'


@pytest.mark.parametrize("values", [{}, {"critique": "a", "reply": "b"}, {"reply": "b"}])
def test_a_missing_or_unknown_name_is_an_error(values):
    with pytest.raises(DataError, match=r"prompt p is filled wrongly; got .*; expected \['critique'\]"):
        Prompt("p", "{critique}").fill(**values)


def test_the_hash_is_the_content():
    expected = hashlib.sha256(b"abc").hexdigest()  # ba7816bf 8f01cfea..., from FIPS 180-2
    assert Prompt("p", "abc").hash == expected[:12] == "ba7816bf8f01"
    assert Prompt("q", "abc").hash == Prompt("p", "abc").hash != Prompt("p", "abd").hash


@pytest.mark.parametrize(("name", "placeholders"), [("supporter", set()), ("revise", {"critique"}), ("retry", {"why"})])
def test_the_prompts_we_ship(name, placeholders):
    prompt = prompts.load(name)
    assert prompt.placeholders == placeholders
    assert prompt.text == prompt.text.strip() != ""


def test_messages_are_cut_before_they_are_filled():
    prompt = Prompt("p", "above {x}\n---\nbelow {y}")
    above, below = prompt.messages(x="{y}\n---\nb", y="{x}")
    assert (above.role, above.content) == ("system", "above {y}\n---\nb")
    assert (below.role, below.content) == ("user", "below {x}")
    with pytest.raises(DataError, match="p is filled wrongly"):
        prompt.messages(x="a")


def test_an_unknown_prompt():
    with pytest.raises(DataError, match=r"no such prompt; got \.\./errors; expected one of: .*revise, .*supporter"):
        prompts.load("../errors")
