"""The OpenAI chat protocol on the wire: a request as bytes, and what came back sorted by what can be done about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rapo.config.sections import ModelSpec
from rapo.models.chat import ChatAnswer, ChatRequest

# Far above any chat answer; a server that sends more is broken or hostile.
LARGEST_ANSWER = 8 * 2**20
_BUSY = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({400, 403, 413, 422})
_MOST_TOKENS = 2**40
# What may follow the name that was asked for: a date, or the revision or tag a server appends by itself.
_DATED = re.compile(r"[-@:](latest|main|\d{4}-\d{2}-\d{2}|\d{4,8})|@[\w.-]+")


class Verdict(Enum):
    """What a reply means for the call: done, try again, not so fast, not this request, or not this endpoint."""

    ANSWERED = "answered"
    RETRY = "retry"
    WAIT = "wait"
    REFUSED = "refused"
    HOPELESS = "hopeless"


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of one attempt.

    Attributes:
        verdict: what it means for the call.
        outcome: the ledger's word for it.
        detail: what came, for a message; as long as it came, and may hold what the server echoed.
        status: the HTTP status; None where there was none.
        answer: the answer, if it is one.
        tokens: (prompt, answer) tokens to be paid for; None where nobody knows.
        after: the ``Retry-After`` header.
    """

    verdict: Verdict
    outcome: str
    detail: str = ""
    status: int | None = None
    answer: ChatAnswer | None = None
    tokens: tuple[int, int] | None = None
    after: str | None = None


def body(spec: ModelSpec, request: ChatRequest, *, schema: bool) -> bytes:
    """The request as JSON; ``schema`` asks for an answer held to the request's schema."""
    asked: dict[str, Any] = {
        "model": spec.name,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "temperature": spec.temperature,
        "max_tokens": spec.max_tokens,
        # Servers take 32 or 63 bits; the lower 31 are valid everywhere.
        "seed": request.seed & 0x7FFFFFFF,
    }
    if schema and request.schema is not None:
        name = re.sub(r"\W+", "_", request.purpose)[:60] or "answer"
        asked["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": name, "schema": dict(request.schema), "strict": True},
        }
    return json.dumps(asked, ensure_ascii=False).encode("utf-8", "replace")


def read(status: int, headers: Mapping[str, str], content: bytes, spec: ModelSpec, size: int) -> Reply:
    """Sort a complete HTTP answer to a request of ``size`` bytes."""
    if status != 200:
        return _unanswered(status, headers, content)
    kind = headers.get("content-type", "")
    if "json" not in kind.lower():
        return _broken(f"content type {kind or 'missing'}")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return _broken("empty body" if not content.strip() else "a body that is not JSON")
    return _completion(data, spec, size)


def lost(outcome: str, detail: str) -> Reply:
    """An attempt that brought no complete answer; what the server did with it, nobody knows."""
    return Reply(Verdict.RETRY, outcome, detail)


def same_model(asked: str, answered: str) -> bool:
    """Whether a server that names itself ``answered`` is the model ``asked`` for: alike but for path, date or tag."""
    a, b = (re.sub(r"\.gguf$|[:-]latest$", "", name.lower().rstrip("/").split("/")[-1]) for name in (asked, answered))
    long, short = (a, b) if len(a) >= len(b) else (b, a)
    return long == short or (long.startswith(short) and _DATED.fullmatch(long[len(short) :]) is not None)


def _unanswered(status: int, headers: Mapping[str, str], content: bytes) -> Reply:
    detail = f"{status} {_message(content)}".strip()
    if 300 <= status < 400:
        where = f"{status} a redirect to {headers.get('location', 'nowhere')}"
        return Reply(Verdict.HOPELESS, "redirect", where, status, tokens=(0, 0))
    if status in _REFUSED:
        return Reply(Verdict.REFUSED, "refused", detail, status, tokens=(0, 0))
    if 400 <= status < 500 and status not in _BUSY:
        return Reply(Verdict.HOPELESS, "refused", detail, status, tokens=(0, 0))
    after = headers.get("retry-after")
    too_fast = status == 429 or (status == 503 and after is not None)
    verdict, outcome = Verdict.WAIT if too_fast else Verdict.RETRY, "busy" if status in _BUSY else "error"
    return Reply(verdict, outcome, detail, status, tokens=(0, 0), after=after)


def _broken(detail: str, tokens: tuple[int, int] | None = None) -> Reply:
    return Reply(Verdict.RETRY, "malformed", f"200 with {detail}", 200, tokens=tokens)


def _completion(data: Any, spec: ModelSpec, size: int) -> Reply:
    if not isinstance(data, dict):
        return _broken("JSON that is not a chat completion")
    prompt, answer = _usage(data.get("usage"))
    named = data.get("model")
    if isinstance(named, str) and named and not same_model(spec.name, named):
        tokens = None if prompt is None or answer is None else (prompt, answer)
        return Reply(Verdict.HOPELESS, "wrong model", named, 200, tokens=tokens)
    try:
        choice = data["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (LookupError, TypeError, AttributeError):
        return _broken("JSON that is not a chat completion")
    # A model that thought until its limit, or refused, has content null: an answer without a word.
    text = "" if text is None else text
    if not isinstance(text, str):
        return _broken("an answer that is not text")
    text = text.encode("utf-8", "replace").decode()
    found = ChatAnswer(text, reason != "length", prompt or 0, answer or 0)
    # A token is at least one byte: where the server does not count, bytes are an upper bound.
    paid = (size if prompt is None else prompt, len(text.encode()) if answer is None else answer)
    return Reply(Verdict.ANSWERED, "answered", "", 200, found, paid)


def _usage(usage: Any) -> tuple[int | None, int | None]:
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    prompt, answer = (
        count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < _MOST_TOKENS else None
        for count in counts
    )
    return prompt, answer


def _message(content: bytes) -> str:
    """The error's own words, or the body."""
    try:
        data = json.loads(content)
        error = data.get("error", data.get("detail", data))
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        return content.decode("utf-8", "replace")
