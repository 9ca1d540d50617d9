"""What a run needs of its language models: reachable, willing, held to schemas, long enough, fast enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from random import Random

from rapo.check.findings import Finding, tried
from rapo.config import Calls, ModelSpec, RunConfig
from rapo.errors import EndpointError
from rapo.hindsight.feedback import JudgeRequest
from rapo.models.answers import read_object
from rapo.models.chat import ChatAnswer, ChatModel, ChatRequest, ask
from rapo.models.connect import connect
from rapo.models.journal import Journal
from rapo.parts import Parts
from rapo.types import Dialogue, EchoRequest, Message, Reaction

SECONDS = 6.0  # one attempt in a check
# A failure is tried once more, and the second one is told.
IMPATIENT = Calls(breaker=1, patience=0.2)
CHARACTERS_PER_TOKEN = 4
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_WORDS = ("heron", "lantern", "walnut", "saffron", "compass", "meadow", "copper", "violet")


@dataclass(frozen=True, slots=True)
class Probe:
    """One model, asked impatiently.

    Attributes:
        name: its name in the config.
        model: the connected model.
        notices: what the connection gave notice of.
        context: tokens the longest prompt of the run may have.
    """

    name: str
    model: ChatModel
    notices: list[str]
    context: int


def impatient(spec: ModelSpec) -> ModelSpec:
    """The model as a check asks it: one attempt, a few seconds."""
    return spec.model_copy(update={"attempts": 1, "timeout": min(spec.timeout, SECONDS)})


def check_model(name: str, spec: ModelSpec, journal: Journal, context: int) -> list[Finding]:
    """Every finding on one model of the config."""
    notices: list[str] = []

    def look() -> Iterator[Finding]:
        model = connect(impatient(spec), journal, "user", IMPATIENT, label=name, notice=notices.append)
        probe = Probe(name, model, notices, context)
        yield _reached(probe)
        if spec.json_schema != "off" and spec.url:
            yield _schema(probe)
        yield _context(probe)

    return tried(name, look)


def _say(probe: Probe, text: str, purpose: str, schema: dict[str, object] | None = None) -> ChatAnswer | None:
    request = ChatRequest((Message("user", text),), purpose, 0, schema)
    return ask(probe.model, [request])[0]


def _reached(probe: Probe) -> Finding:
    started = time.perf_counter()
    try:
        answer = _say(probe, "Say hello.", "check.hello")
    except EndpointError as error:
        if error.fix and "rapo resume" in error.fix:
            raise EndpointError(error.what, got=error.got, fix=f"start it, or mend models.{probe.name}.url") from None
        raise
    if answer is None:
        why = probe.notices[-1] if probe.notices else "no answer"
        raise EndpointError(why, fix=f"check models.{probe.name}")
    return Finding(probe.name, "ok", f"answers as {probe.model.name} in {time.perf_counter() - started:.1f} s")


def _schema(probe: Probe) -> Finding:
    before = len(probe.notices)
    answer = _say(probe, "Where is the Eiffel tower? Answer in JSON.", "check.schema", _SCHEMA)
    what = f"{probe.name}: JSON"
    if len(probe.notices) > before:
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
    if _repeats(probe, probe.context):
        return Finding(what, "ok", f"reads prompts of {probe.context} tokens, as long as they will get")
    if _repeats(probe, 0):
        fix = "raise the server's context (Ollama: num_ctx, vLLM: --max-model-len, llama.cpp: -c)"
        return Finding(what, "fail", f"prompts of {probe.context} tokens are cut or refused", fix)
    return Finding(what, "warn", "cannot repeat a word, so its context cannot be measured", "try a stronger model")


def _repeats(probe: Probe, tokens: int) -> bool:
    word = Random(tokens).choice(_WORDS)
    filler = "The road goes on past fields and houses. "
    text = filler * (tokens * CHARACTERS_PER_TOKEN // len(filler))
    try:
        answer = _say(probe, f"Remember the word {word}. {text}Which word? Answer with that word.", "check.context")
    except EndpointError:
        return False
    return answer is not None and word in answer.text.lower()


def check_roles(config: RunConfig, parts: Parts, lost: Set[str]) -> Iterator[Finding]:
    """Whether users, judge and evaluation judge give an answer the run can use, in its own words."""
    users = {*config.users.models, *config.eval.models} if config.users.kind == "llm" else set()
    if users and not users & lost:
        yield from tried("a user's echo", lambda: _echo(parts))
    if config.judge.kind == "llm" and config.judge.model not in lost:
        yield from tried("a judge's verdict", lambda: _verdict(config, parts))


def _echo(parts: Parts) -> Iterator[Finding]:
    users = parts.users()
    scenario = users.scenarios(1, 0)[0]
    request = EchoRequest(Dialogue(scenario), "Tell me more about it, please. What matters most to you?", 0)
    yield _timed("a user's echo", lambda: users.react([request])[0] is not None)


def _verdict(config: RunConfig, parts: Parts) -> Iterator[Finding]:
    judge, size = parts.judge(), config.branch.candidates
    context = (Message("user", "I lost my job last week and I can not sleep."),)
    replies = ("What goes through your mind at night?", "Everything happens for a reason.")
    echoes = (Reaction("That I am no use to anyone.", 6.0), Reaction("That does not help me.", 2.0))
    request = JudgeRequest(context, (replies * size)[:size], (echoes * size)[:size])
    yield _timed("a judge's verdict", lambda: judge.judge([request])[0] is not None)


def _timed(what: str, usable: Callable[[], bool]) -> Finding:
    started = time.perf_counter()
    if usable():
        return Finding(what, "ok", f"usable, in {time.perf_counter() - started:.1f} s")
    return Finding(
        what, "fail", "no usable answer, also when its error was shown", "take a stronger model for this role"
    )
