"""Asking language models for JSON: what cannot be used is asked for once more, with the reason, and then missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from rapo import prompts
from rapo.models.answers import Object, UnusableError, read_object
from rapo.models.chat import ChatAnswer, ChatModel, ChatRequest, ask
from rapo.prompts.quoting import defused
from rapo.seeds import derive_seed
from rapo.types import Message

T = TypeVar("T")

SHOWN = 600  # characters of an unusable answer that its author is shown again


@dataclass(frozen=True, slots=True)
class Tally:
    """How the requests of one or more calls ended; the four add up to the number of requests.

    Attributes:
        exact: answered at once, by the letter.
        repaired: answered at once, once the JSON was found or mended.
        retried: answered when the error was shown.
        missing: not answered usably.
    """

    exact: int = 0
    repaired: int = 0
    retried: int = 0
    missing: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.exact + other.exact,
            self.repaired + other.repaired,
            self.retried + other.retried,
            self.missing + other.missing,
        )


@runtime_checkable
class Rejecting(Protocol):
    """A chat model that wants to know which of its answers left a request without a usable one."""

    def reject(self, requests: Sequence[ChatRequest]) -> None:
        """Mark the answers of these requests."""
        ...


def ask_structured(
    model: ChatModel, requests: Sequence[ChatRequest], parse: Callable[[int, Object], T]
) -> tuple[list[T | None], Tally]:
    """One usable answer per request, in order, None where there is none; and how many ended how.

    An answer that is cut off, holds no object, or of which ``parse`` raises UnusableError is asked for once more, with
    the answer (shortened) and the reason shown. A request that got no answer at all is not asked again: the model has
    made its attempts.

    Args:
        parse: ``(place in requests, object) -> result``.

    Raises:
        EndpointError, BudgetError: the model cannot go on.
    """
    first = [_taken(parse, place, answer) for place, answer in enumerate(ask(model, requests))]
    again = [place for place, taken in enumerate(first) if taken.again]
    second = ask(model, [_retry(requests[place], first[place]) for place in again])
    retried = {place: _taken(parse, place, answer) for place, answer in zip(again, second, strict=True)}
    lost = [place for place, taken in retried.items() if taken.how == "rejected"]
    if isinstance(model, Rejecting) and lost:
        # A first answer whose retry was usable stays: asked for again, it would change what has been learnt from.
        unusable = [_retry(requests[place], first[place]) for place in lost if retried[place].again]
        model.reject([requests[place] for place in lost] + unusable)
    hows = [taken.how for taken in first]
    saved = sum(taken.how != "rejected" for taken in retried.values())
    tally = Tally(hows.count("exact"), hows.count("repaired"), saved, hows.count("rejected") - saved)
    return [retried.get(place, taken).result for place, taken in enumerate(first)], tally


@dataclass(frozen=True, slots=True)
class _Taken:
    """What became of one answer: ``again`` where it may be asked for once more."""

    result: Any
    how: str
    note: str = ""
    text: str = ""
    again: bool = False


def _taken(parse: Callable[[int, Object], Any], place: int, answer: ChatAnswer | None) -> _Taken:
    if answer is None:
        return _Taken(None, "rejected")
    if not answer.finished:
        why = "The answer was cut off because it was too long: be much shorter."
        return _Taken(None, "rejected", why, answer.text, again=True)
    parsed = read_object(answer.text)
    if parsed.value is None:
        return _Taken(None, "rejected", parsed.note, answer.text, again=True)
    try:
        return _Taken(parse(place, parsed.value), parsed.how, parsed.note)
    except UnusableError as why:
        return _Taken(None, "rejected", str(why), answer.text, again=True)


def _retry(request: ChatRequest, taken: _Taken) -> ChatRequest:
    """The request with the unusable answer and what is wrong with it."""
    text = taken.text.strip()
    shown = text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"
    told = prompts.load("retry").fill(why=defused(taken.note))
    added = (Message("assistant", defused(shown) or "(nothing)"), Message("user", told))
    return replace(request, messages=(*request.messages, *added), seed=derive_seed(request.seed, "retry"))
