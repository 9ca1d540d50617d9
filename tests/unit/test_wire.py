from __future__ import annotations

import json

import pytest

from rapo.config.sections import ModelSpec
from rapo.models.chat import ChatAnswer, ChatRequest
from rapo.models.wire import Verdict, body, read, same_model
from rapo.types import Message

SPEC = ModelSpec(url="http://127.0.0.1:1/v1", name="m", max_tokens=7, temperature=0.5)
JSON = {"content-type": "application/json; charset=utf-8"}


def completion(**changes):
    whole = {
        "model": "m",
        "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    return json.dumps(whole | changes).encode()


def test_the_request_as_the_endpoint_reads_it():
    request = ChatRequest((Message("system", "be"), Message("user", "hi ☃ \ud800")), "user.speak", 2**40 + 5, {"a": 1})
    assert json.loads(body(SPEC, request, schema=True)) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "hi ☃ ?"}],
        "temperature": 0.5,
        "max_tokens": 7,
        "seed": 5,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "user_speak", "schema": {"a": 1}, "strict": True},
        },
    }
    assert "response_format" not in json.loads(body(SPEC, request, schema=False))


@pytest.mark.parametrize(
    ("changes", "answer", "tokens"),
    [
        ({}, ChatAnswer("hello", True, 3, 2), (3, 2)),
        # Without counts, bytes are the bound: 50 of the request, 5 of the answer.
        ({"usage": None}, ChatAnswer("hello", True, 0, 0), (50, 5)),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": True}}, ChatAnswer("hello", True, 0, 0), (50, 5)),
        ({"model": None}, ChatAnswer("hello", True, 3, 2), (3, 2)),
        (
            {"choices": [{"message": {"content": "he"}, "finish_reason": "length"}]},
            ChatAnswer("he", False, 3, 2),
            (3, 2),
        ),
        ({"choices": [{"message": {"content": None}}]}, ChatAnswer("", True, 3, 2), (3, 2)),
        ({"choices": [{"message": {"content": "\ud800"}}]}, ChatAnswer("?", True, 3, 2), (3, 2)),
    ],
)
def test_an_answer(changes, answer, tokens):
    reply = read(200, JSON, completion(**changes), SPEC, 50)
    assert (reply.verdict, reply.answer, reply.tokens) == (Verdict.ANSWERED, answer, tokens)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b" \n", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe"),
        completion(choices=[]),
        completion(choices=None),
        completion(choices=[{"message": {"content": 5}}]),
        completion(choices=[{"message": "hello"}]),
    ],
)
def test_what_is_no_chat_completion_is_tried_again_and_counts_at_its_worst(content):
    reply = read(200, JSON, content, SPEC, 50)
    assert (reply.verdict, reply.tokens, reply.answer) == (Verdict.RETRY, None, None)


def test_what_does_not_call_itself_json_is_no_answer():
    reply = read(200, {"content-type": "text/html"}, completion(), SPEC, 50)
    assert (reply.verdict, reply.tokens, reply.detail) == (Verdict.RETRY, None, "200 with content type text/html")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(s, Verdict.RETRY) for s in (408, 409, 425, 500, 502, 503, 504, 529)]
    + [(429, Verdict.WAIT)]
    + [(s, Verdict.REFUSED) for s in (400, 403, 413, 422)]
    + [(s, Verdict.HOPELESS) for s in (301, 307, 401, 402, 404, 405)],
)
def test_a_status_says_what_can_be_done_and_costs_nothing(status, verdict):
    reply = read(status, {"location": "http://elsewhere"}, b'{"error": {"message": "why"}}', SPEC, 50)
    assert (reply.verdict, reply.status, reply.tokens) == (verdict, status, (0, 0))
    assert "elsewhere" in reply.detail if status < 400 else reply.detail == f"{status} why"


def test_an_endpoint_that_is_overloaded_and_says_until_when_wants_to_be_waited_for():
    reply = read(503, {"retry-after": "7"}, b"", SPEC, 50)
    assert (reply.verdict, reply.after) == (Verdict.WAIT, "7")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt-4", "gpt-4-0613"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("llama3.1", "llama3.1:latest"),
        ("/models/tiny", "/models/tiny@main"),
        ("qwen3-8b-q4", "/srv/qwen3-8b-q4.gguf"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
    ],
)
def test_an_alias_or_a_date_is_the_same_model(asked, answered):
    assert same_model(asked, answered)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4", "gpt-4.1"),
        ("llama3:8b", "llama3:70b"),
        ("qwen3-8b", "qwen3-8b-base"),
        ("judge", "user"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13"),
    ],
)
def test_another_model_is_another_model(asked, answered):
    assert not same_model(asked, answered)
    assert read(200, JSON, completion(model="x"), SPEC, 50).verdict is Verdict.HOPELESS
