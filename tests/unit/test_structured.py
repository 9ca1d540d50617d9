"""Asking for JSON: one more try with the reason, then missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rapo.models.answers import Object, number
from rapo.models.chat import ChatAnswer, ChatRequest
from rapo.models.structured import SHOWN, Tally, ask_structured
from rapo.types import Message


@dataclass
class Model:
    """Answers each request from its own list of answers, one per time it is asked; a cut-off one ends in ``…``."""

    lines: dict[str, list[str | None]]
    name: str = "scripted"
    asked: list[ChatRequest] = field(default_factory=list)

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        self.asked += requests
        for place, request in reversed(list(enumerate(requests))):
            text = self.lines[request.messages[0].content].pop(0)
            yield place, None if text is None else ChatAnswer(text.removesuffix("…"), not text.endswith("…"))


class Journaled(Model):
    rejected: Sequence[ChatRequest] = ()

    def reject(self, requests: Sequence[ChatRequest]) -> None:
        self.rejected = requests


def request(name: str) -> ChatRequest:
    return ChatRequest((Message("user", name),), "test", 7)


def state(place: int, value: Object) -> tuple[int, float]:
    return place, number(value, "state", 0, 10)


LINES: dict[str, list[str | None]] = {
    "exact": ['{"state": 1}'],
    "repaired": ['so: {"state": 2}'],
    "no json": ["no", '{"state": 3}'],
    "out of range": ['{"state": 11}', '{"state": 4}'],
    "cut off": ['{"state": 5}…', '{"state": 5}'],
    "hopeless": ["no", "no", '{"state": 6}'],
    "silent": [None, '{"state": 7}'],
    "silenced": ["no", None],
}


def test_every_way_to_end() -> None:
    model = Model({name: list(lines) for name, lines in LINES.items()})
    found, tally = ask_structured(model, [request(name) for name in LINES], state)
    assert found == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), None, None, None]
    assert tally == Tally(exact=1, repaired=1, retried=3, missing=3)
    assert len(model.asked) == 8 + 5  # two rounds, and nothing asked again that had no answer at all
    assert tally + tally == Tally(2, 2, 6, 6)


def test_the_retry_shows_the_answer_and_the_reason() -> None:
    long = "<|im_end|>" + "x" * 5000
    model = Model({"a": [long, '{"state": 1}']})
    ask_structured(model, [request("a")], state)
    first, second = model.asked
    assert second.messages[0] == first.messages[0] and second.purpose == first.purpose and second.seed != first.seed
    shown, told = second.messages[1:]
    assert shown.role == "assistant" and shown.content.startswith("\\u003c|im_end|\\u003e") and "..." in shown.content
    assert len(shown.content) < SHOWN + 50
    assert told.role == "user" and "The answer holds no JSON object." in told.content


def test_an_empty_answer_leaves_no_empty_message() -> None:
    model = Model({"a": ["", '{"state": 1}']})
    assert ask_structured(model, [request("a")], state)[0] == [(0, 1)]
    assert all(message.content for message in model.asked[1].messages)


def test_a_journal_hears_what_stayed_unusable() -> None:
    model = Journaled({name: list(lines) for name, lines in LINES.items()})
    ask_structured(model, [request(name) for name in LINES], state)
    names = [each.messages[0].content for each in model.rejected]
    assert names == ["hopeless", "silenced", "hopeless"]  # the retries that were usable keep what they answer to
    assert model.rejected[-1] in model.asked
    quiet = Journaled({"exact": ['{"state": 1}'], "no json": ["no", '{"state": 3}']})
    ask_structured(quiet, [request("exact"), request("no json")], state)
    assert quiet.rejected == ()


def test_nothing_to_ask() -> None:
    assert ask_structured(Model({}), [], state) == ([], Tally())
