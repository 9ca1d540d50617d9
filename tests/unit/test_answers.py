"""Reading JSON answers: exact, repaired or rejected, and never slow."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rapo.models.answers import UnusableError, number, read_object, shape, truth, words


@pytest.mark.parametrize(
    "text", ['{"a": 1}', ' \n{"a":1}\n', '{"a": 1, "b": {"c": [null, "}{"]}}', '{"a": "\\ud83d\\ude00"}']
)
def test_exact(text: str) -> None:
    parsed = read_object(text)
    assert (parsed.how, parsed.note) == ("exact", "")
    assert parsed.value is not None and "a" in parsed.value


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('```json\n{"a": 1}\n```', "other text left out"),
        ('Sure, see [1] and {this}:\n{"a": 1}\nHope it helps {}!'.replace("{}", "()"), "other text left out"),
        ('<think>maybe {"a": 2}?</think>\n{"a": 1}', "reasoning left out"),
        ('maybe {"a": 2}?</think>{"a": 1}', "reasoning left out"),
        ('{"a": 1,}', "trailing comma removed"),
        ('{"a": 1, "b": True, "c": [None,],}', "Python word replaced"),
        ('{"a": 1, "b": "True, None,]"}x', "other text left out"),
        ('{"a": 1, "a": 1}', "key named twice"),
        ('{"a": 1}\n{"a": 1}', "other text left out"),
        ('{"a": 1, "b": "two\nlines"}', "blanks"),
        ('{"a": 1, "b": "\\ud800"}', "unpaired surrogates replaced"),
        ("\ufeff" + '{"a": 1}', "other text left out"),
    ],
)
def test_repaired(text: str, note: str) -> None:
    parsed = read_object(text)
    assert parsed.how == "repaired", parsed
    assert parsed.value is not None and parsed.value["a"] == 1
    assert note in parsed.note


def test_a_bare_list_of_objects() -> None:
    assert read_object('[{"id": 1}, {"id": 2}]').value == {"items": [{"id": 1}, {"id": 2}]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("I will not.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"a": 1', "does not end"),
        ('{"a": "x}', "does not end"),
        ('{"a": [1}', "does not end"),
        ('{"a" 1}', "cannot be read: expecting ':' delimiter at its character 5"),
        ('{"a": 1, "a": 2}', "twice with different values"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": [-Infinity]}', "holds -Infinity"),
        ('{"a": 1} or {"a": 2}', "several"),
        ("<think>so {}".format('{"a": 1}'), "no JSON object"),
        ('{"a": ' * 40 + "1" + "}" * 40, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read"),
        ('{"a": "' + "x" * 200_001 + '"}', "longer than 200,000"),
    ],
)
def test_rejected(text: str, why: str) -> None:
    parsed = read_object(text)
    assert (parsed.how, parsed.value) == ("rejected", None)
    assert why in parsed.note


def test_what_an_answer_quotes_is_never_its_object() -> None:
    # The judge forgot to escape what it quotes: the quoted object is not the answer.
    fake = '{"ranks": [2, 1]}'
    for text in (
        '{"ranks": [1, 2], "critiques": ["It says ' + fake + '", "b"]}',
        '```json\n{"ranks": [1, 2], "critiques": ["It says </think>' + fake + '", "b"]}\n```',
        '{"ranks": [1, 2], "critiques": ["</think>' + fake + '", "b"]}',
    ):
        assert read_object(text).how == "rejected"


@pytest.mark.parametrize(
    "text",
    [
        " " * 5_000_000 + '{"a": 1}' + "\n" * 5_000_000,
        "{" + " " * 190_000 + '"a": 1}',
        "{" * 190_000,
        '{"' * 95_000,
        "[{" * 95_000,
        '"\\' * 95_000,
        '{"a": "' + '\\"' * 90_000,
        ", " * 95_000 + '{"a": 1}',
        '{"a": [' + ", " * 90_000 + "]}",
        "{} " * 60_000,
        "</think>" * 20_000 + '{"a": 1}',
        "[ " * 90_000,
    ],
    ids=range(12),
)
def test_floods_are_fast(text: str) -> None:
    start = time.perf_counter()
    read_object(text)
    assert time.perf_counter() - start < 2


def test_numbers() -> None:
    value: dict[str, Any] = {"a": 3, "b": "2.5", "c": True, "d": "three", "e": 1e308 * 10, "f": 10**400, "g": None}
    assert number(value, "a", 1, 5) == 3 and number(value, "b") == 2.5
    for key in "cdg":
        with pytest.raises(UnusableError, match=f'"{key}" must be a number'):
            number(value, key)
    for key, low, high in (("a", 4, 5), ("a", 1, 2), ("e", -1e400, 1e400), ("f", 0, 1e400), ("f", 0, 10)):
        with pytest.raises(UnusableError, match=f'"{key}" is out of range'):
            number(value, key, low, high)


def test_words_and_truth() -> None:
    value: dict[str, Any] = {"a": " hi ", "b": " ", "c": 1, "d": True, "e": "False", "f": "yes", "g": 1}
    assert (words(value, "a", 2), words(value, "b", optional=True), words(value, "z", optional=True)) == ("hi", "", "")
    for key, why in (("b", "is empty"), ("c", "must be a text"), ("z", "must be a text")):
        with pytest.raises(UnusableError, match=why):
            words(value, key)
    with pytest.raises(UnusableError, match="longer than 1"):
        words(value, "a", 1)
    assert (truth(value, "d"), truth(value, "e"), truth(value, "z")) == (True, False, False)
    for key in "fg":
        with pytest.raises(UnusableError, match="true or false"):
            truth(value, key)


def test_a_shape_allows_nothing_else() -> None:
    assert shape(a={"type": "number"}) == {
        "type": "object",
        "properties": {"a": {"type": "number"}},
        "required": ["a"],
        "additionalProperties": False,
    }
