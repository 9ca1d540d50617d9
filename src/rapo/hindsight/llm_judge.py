"""A generative reward model made of a language model: it reads a whole group, echoes included, in one call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Literal

from rapo import prompts
from rapo.hindsight.feedback import JudgeRequest, Verdict, tells_hidden
from rapo.models.answers import Object, UnusableError, number, shape, words
from rapo.models.chat import ChatModel, ChatRequest
from rapo.models.structured import Tally, ask_structured
from rapo.overlap import concurrency
from rapo.prompts.quoting import rows
from rapo.ranks import mid_ranks
from rapo.types import Message

LONGEST = 1200  # characters of a critique
LISTS = ("verdicts", "candidates", "replies", "items")

_ENTRY = shape(id={"type": "integer"}, critique={"type": "string"}, rank={"type": "number"})
SCHEMA = shape(verdicts={"type": "array", "items": _ENTRY})


class LLMJudge:
    """Ranks and criticises with a language model, which is never shown a hidden profile.

    Args:
        model: who judges.
        domain: which prompt.

    Attributes:
        tally: how all requests so far ended.
    """

    def __init__(self, model: ChatModel, *, domain: Literal["support", "negotiation"] = "support") -> None:
        self._model, self._domain, self._lock, self.tally = model, domain, Lock(), Tally()

    @property
    def concurrency(self) -> int:
        """The model's."""
        return concurrency(self._model)

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        """One verdict per request, in order; None where the model gave no usable answer.

        A group without replies, or with a state that is no number, is not asked about.
        """
        fit = [bool(each.replies) and all(math.isfinite(echo.state) for echo in each.reactions) for each in requests]
        asked = [request for request, fits in zip(requests, fit, strict=True) if fits]
        chats = [self._chat(request) for request in asked]
        verdicts, tally = ask_structured(self._model, chats, lambda i, value: read_verdict(asked[i], value))
        with self._lock:
            self.tally += tally
        found = iter(verdicts)
        return [next(found) if fits else None for fits in fit]

    def _chat(self, request: JudgeRequest) -> ChatRequest:
        prompt = f"judge_{self._domain}" + ("" if request.reactions else "_blind")
        messages = prompts.load(prompt).messages(
            talk=rows([_line(message) for message in request.context]),
            candidates=rows(_candidates(request)),
            count=str(len(request.replies)),
        )
        return ChatRequest(messages, "judge", request.seed, SCHEMA)


def read_verdict(request: JudgeRequest, value: Object) -> Verdict:
    """The verdict that an answer states.

    Accepted are a list of objects with ``id``, ``rank`` and ``critique`` (in order if none has an id), and two lists,
    ``ranks`` and ``critiques``. Only the order of the ranks counts, so gaps and ties are fine.

    Raises:
        UnusableError: an entry is missing, twice or unusable, the numbers are scores and not ranks, or a critique tells
            what the user kept to themselves.
    """
    size = len(request.replies)
    entries = _in_order(_entries(value, size), size)
    ranks = tuple(number(entry, "rank", 1, size) for entry in entries)
    critiques = tuple(" ".join(words(entry, "critique", LONGEST).split()) for entry in entries)
    # Scores ("8 of 10") read as ranks would turn the order round. Ranks start at 1, or are the mean of shared places.
    if min(ranks) >= 2 and len(set(ranks)) > 1 and ranks != mid_ranks(ranks):
        raise UnusableError('No "rank" is 1: give ranks, 1 for the best, and no scores.')
    if tells_hidden(request, critiques):
        raise UnusableError("A critique tells something that its author was not told: use what was said to them only.")
    return Verdict(ranks, critiques)


def _entries(value: Object, size: int) -> list[Mapping[str, Any]]:
    """One mapping per reply, in the order in which the answer names them."""
    lists = [value[name] for name in LISTS if isinstance(value.get(name), list)]
    if not lists and isinstance(value.get("ranks"), list) and isinstance(value.get("critiques"), list):
        ranks, critiques = value["ranks"], value["critiques"]
        if len(ranks) != len(critiques):
            raise UnusableError(f'"ranks" and "critiques" must both have {size} entries.')
        ids = value.get("ids", [None] * len(ranks))
        if not isinstance(ids, list) or len(ids) != len(ranks):
            raise UnusableError(f'"ids" must be a list of {size} ids.')
        lists = [[{"id": i, "rank": r, "critique": c} for i, r, c in zip(ids, ranks, critiques, strict=True)]]
    if len(lists) != 1:
        raise UnusableError('The object must have one list "verdicts".')
    entries: list[Mapping[str, Any]] = lists[0]
    if len(entries) != size or not all(isinstance(entry, dict) for entry in entries):
        raise UnusableError(f'"verdicts" must hold {size} objects, one for each id from 1 to {size}.')
    return entries


def _in_order(entries: Sequence[Mapping[str, Any]], size: int) -> list[Mapping[str, Any]]:
    if all(entry.get("id") is None for entry in entries):
        return list(entries)
    ids = [number(entry, "id") for entry in entries]
    if sorted(ids) != list(range(1, size + 1)):
        raise UnusableError(f'Every "id" from 1 to {size} must be named exactly once.')
    return [entry for _, entry in sorted(zip(ids, entries, strict=True), key=lambda pair: pair[0])]


def _line(message: Message) -> dict[str, str]:
    role = {"system": "brief", "assistant": "author", "user": "user"}[message.role]
    return {"role": role, "text": message.content}


def _candidates(request: JudgeRequest) -> list[dict[str, Any]]:
    shown = [{"id": i, "reply": reply} for i, reply in enumerate(request.replies, 1)]
    echoes = [{"answer": each.text, "state": float(f"{each.state:.6g}")} for each in request.reactions]
    return [each | echo for each, echo in zip(shown, echoes or [{}] * len(shown), strict=True)]
