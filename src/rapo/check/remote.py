"""What a run needs of each language model: reachable, willing, held to schemas, long enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from rapo.check import weights
from rapo.check.findings import Finding, tried
from rapo.check.hurry import Hurried, HurriedParts, LateError, said_simply
from rapo.config import Calls
from rapo.errors import EndpointError, ModelError
from rapo.models.answers import read_object
from rapo.models.chat import ChatAnswer, ChatRequest, ask
from rapo.types import Message

SECONDS = 6.0  # within which a model says hello
# A failure is tried once more, and the second one is told.
TWICE = Calls(breaker=1, patience=0.2)
HELLO = 16  # tokens of it that are waited for from a model in this process
SENTENCE, LEAST_TOKENS = "The road goes on past fields and houses. ", 9  # no tokenizer takes fewer for it
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_WORDS = ("heron", "lantern", "walnut", "saffron", "compass", "meadow", "copper", "violet")


@dataclass(frozen=True, slots=True)
class Probe:
    """One model to be looked at.

    Attributes:
        name: its name in the config.
        model: asked in a hurry.
        context: tokens the longest prompt of the run may have.
    """

    name: str
    model: Hurried
    context: int


def check_model(parts: HurriedParts, name: str, context: int) -> list[Finding]:
    """Every finding on one model of the config; just one where it cannot be asked."""
    spec = parts.config.models[name]
    probe = Probe(name, parts.model(name, "user"), context)

    def look() -> Iterator[Finding]:
        if spec.function:
            yield _reached(parts, name)
            return
        if spec.path and (why := weights.obstacle(spec.path)):
            yield Finding(name, "warn", why.found, why.fix)
            return
        yield _reached(parts, name)
        if spec.path:
            yield _room(parts, probe)
            return
        if spec.json_schema != "off":
            yield _schema(probe)
        yield _context(probe)

    return tried(name, look)


def _say(model: Hurried, text: str, purpose: str, schema: dict[str, object] | None = None) -> ChatAnswer | None:
    return ask(model, [_request(text, purpose, schema)])[0]


def _request(text: str, purpose: str, schema: dict[str, object] | None = None) -> ChatRequest:
    return ChatRequest((Message("user", text),), purpose, 0, schema)


def _reached(parts: HurriedParts, name: str) -> Finding:
    spec, notices = parts.config.models[name], list[str]()
    left = max(0.1, (parts.end - time.monotonic()) / 2)
    # As the run will have it: that is what may not fit.
    model = parts.connected(name, spec, "user", notices, TWICE)
    hasty = {"attempts": 1, "timeout": min(spec.timeout, SECONDS, left)} | ({"max_tokens": HELLO} if spec.path else {})
    model = parts.connected(name, spec.model_copy(update=hasty), "user", notices, TWICE)
    started = time.perf_counter()
    try:
        answer = ask(model, [_request("Say hello.", "check.hello")])[0]
    except EndpointError as error:
        raise said_simply(name, error) from None
    if answer is None:
        why = notices[-1] if notices else "no answer"
        raise EndpointError(why, fix=f"check models.{name}")
    took = time.perf_counter() - started
    parts.pace[name] = max(1, answer.completion_tokens) / took
    return Finding(name, "ok", f"answers as {model.name} in {took:.1f} s")


def _schema(probe: Probe) -> Finding:
    what, before = f"{probe.name}: JSON", len(probe.model.notices)
    try:
        answer = _say(probe.model, "Where is the Eiffel tower? Answer in JSON.", "check.schema", _SCHEMA)
    except LateError as late:
        return unknown(what, late)
    if len(probe.model.notices) > before:
        fix = f"set models.{probe.name}.json_schema=off, or serve it with structured output"
        return Finding(what, "warn", "no JSON schema: answers are only asked for in words", fix)
    value = read_object(answer.text).value if answer else None
    if value is None or set(value) != {"city"}:
        fix = "expect more answers that cannot be used, or take another server or model"
        return Finding(what, "warn", "the schema is accepted and not kept", fix)
    return Finding(what, "ok", "kept to a JSON schema")


def _context(probe: Probe) -> Finding:
    """Whether a word at the beginning of the longest prompt is still read: some servers cut prompts silently."""
    what = f"{probe.name}: context"
    try:
        if _repeats(probe, probe.context):
            return Finding(what, "ok", f"reads prompts of {probe.context} tokens, as long as they will get")
        if _repeats(probe, 0):
            fix = "raise the server's context (Ollama: num_ctx, vLLM: --max-model-len, llama.cpp: -c)"
            return Finding(what, "fail", f"prompts of {probe.context} tokens are cut or refused", fix)
    except LateError as late:
        return unknown(what, late)
    return Finding(what, "warn", "cannot repeat a word, so its context cannot be measured", "try a stronger model")


def _room(parts: HurriedParts, probe: Probe) -> Finding:
    """Whether the longest prompt fits a model in this process, which says how much it reads."""
    what, spec = f"{probe.name}: context", parts.config.models[probe.name]
    longest = weights.context(str(spec.path))
    if longest is None or probe.context + spec.max_tokens <= longest:
        return Finding(what, "ok", f"reads prompts of {probe.context} tokens, as long as they will get")
    raise ModelError(
        f"prompts of about {probe.context} tokens beside answers of {spec.max_tokens} do not fit",
        expected=f"at most {longest} together",
        fix=f"lower models.{probe.name}.max_tokens, play.turns or eval.turns, or take another model",
    )


def unknown(what: str, late: LateError) -> Finding:
    """What a check had no time to find out."""
    fix = "give it more room or a smaller model, if the run shall be faster"
    return Finding(what, "warn", f"{late.what}: not known whether it would be usable", fix)


def _repeats(probe: Probe, tokens: int) -> bool:
    word = Random(tokens).choice(_WORDS)
    text = SENTENCE * -(-tokens // LEAST_TOKENS)
    try:
        answer = _say(
            probe.model, f"Remember the word {word}. {text}Which word? Answer with that word.", "check.context"
        )
    except LateError:
        raise
    except EndpointError:
        return False
    return answer is not None and word in answer.text.lower()
