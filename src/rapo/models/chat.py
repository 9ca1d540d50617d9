"""Asking language models: what is asked, what comes back, and who can be asked.

Three kinds answer: an endpoint (:mod:`rapo.models.endpoint`), a model in this process (:mod:`rapo.models.local`) and a
function (:class:`Scripted`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rapo.types import Message


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a language model.

    Attributes:
        messages: the conversation to continue; an optional system message first.
        purpose: what the answer is for, such as ``"user.appraise"``; two requests alike but for it are two calls.
        seed: keys the sampling, where the model takes a seed; two requests alike but for it are two calls.
        schema: JSON schema of the wanted answer; a model that cannot be held to it is only asked for it in words.
    """

    messages: tuple[Message, ...]
    purpose: str
    seed: int
    schema: Mapping[str, Any] | None = None

    def as_json(self) -> str:
        """All of it, the same text for the same request."""
        messages = [[message.role, message.content] for message in self.messages]
        return json.dumps([messages, self.purpose, self.seed, self.schema], sort_keys=True)


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What a language model answered.

    Attributes:
        text: as it came, fences and all.
        finished: it ended by itself and was not cut off by a length limit.
        prompt_tokens: read, as the model counts them; 0 where it does not say.
        completion_tokens: written, likewise.
    """

    text: str
    finished: bool = True
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChatModel(Protocol):
    """A language model that can be asked; from several threads at once if its ``concurrency`` says so.

    Raises EndpointError where going on makes no sense (key refused, unknown model, endpoint down for too long), and
    BudgetError before a call that could exceed the budget. One request without an answer is data, not an error.
    """

    @property
    def name(self) -> str:
        """What the model is called."""
        ...

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        """(place in ``requests``, answer) of every request, as they come in; None where all attempts failed."""
        ...


def ask(model: ChatModel, requests: Sequence[ChatRequest]) -> list[ChatAnswer | None]:
    """One answer per request, in order; None where all attempts failed."""
    found: list[ChatAnswer | None] = [None] * len(requests)
    for place, answer in model.answers(requests):
        found[place] = answer
    return found


@dataclass(frozen=True, slots=True)
class Scripted:
    """A function in the place of a language model: for tests, and for whoever brings a client of their own."""

    name: str
    reply: Callable[[ChatRequest], str | None]

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        """Every answer at once, in order."""
        for place, request in enumerate(requests):
            text = self.reply(request)
            yield place, None if text is None else ChatAnswer(text)
