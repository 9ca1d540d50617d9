"""A user simulator made of language models: it takes in a reply as its person would, then answers in character.

After SAGE (Tencent, 2025): one call weighs the reply (analysis, change, state, thought, done), a second one speaks from
that. A single call for everything is cheaper, and its state follows its own words less closely.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from threading import Lock
from typing import Any, Literal, TypeVar

from rapo import prompts
from rapo.errors import ConfigError
from rapo.interact.acts import KINDS, Act, parse_act, write_act
from rapo.interact.personas import PERSONAS, has_persona, with_persona
from rapo.models.answers import Object, UnusableError, number, shape, truth, words
from rapo.models.chat import ChatModel, ChatRequest
from rapo.models.structured import Tally, ask_structured
from rapo.overlap import concurrency
from rapo.prompts.quoting import data, rows
from rapo.seeds import derive_seed
from rapo.types import EchoRequest, Message, Reaction, Scenario

Domain = Literal["support", "negotiation"]
Mode = Literal["two_calls", "one_call"]
T = TypeVar("T")

LONGEST = 2000  # characters of what a user says or thinks at a time
STAYS = write_act(Act("non-verbal", "stays behind, the talk is over"))

_WEIGHED: dict[str, dict[str, str]] = {
    "analysis": {"type": "string"},
    "change": {"type": "number"},
    "state": {"type": "number"},
    "thought": {"type": "string"},
    "done": {"type": "boolean"},
}
_SAID: dict[str, dict[str, dict[str, Any]]] = {
    "support": {"text": {"type": "string"}},
    "negotiation": {"act": {"type": "string", "enum": list(KINDS)}, "text": {"type": "string"}},
}


@dataclass(frozen=True, slots=True)
class Appraisal:
    """How a reply landed: ``state`` after it on the scenario's scale, the ``thought`` and ``analysis`` unsaid."""

    analysis: str
    state: float
    thought: str
    done: bool


class LLMUser:
    """Users played by language models, a scenario always by the same one.

    Args:
        scenarios: to be drawn from; their hidden profiles are told to the models.
        models: who plays; the scenario's id decides which one.
        domain: which prompts; in a negotiation messages are acts (:mod:`rapo.interact.acts`).
        mode: ``two_calls`` (weigh, then speak) or ``one_call``.
        personas: give a scenario whose profile has no persona a sampled one.

    Attributes:
        tally: how all requests so far ended.

    Raises:
        ConfigError: no scenarios or no models.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        models: Sequence[ChatModel],
        *,
        domain: Domain = "support",
        mode: Mode = "two_calls",
        personas: bool = True,
    ) -> None:
        if not scenarios or not models:
            lacking = "users.files" if not scenarios else "users.models"
            raise ConfigError(f"users.kind=llm has no {lacking}", expected="at least one")
        self._scenarios, self._models = tuple(scenarios), tuple(models)
        self._domain, self._mode, self._personas = domain, mode, personas
        self._lock, self.tally = Lock(), Tally()

    @property
    def concurrency(self) -> int:
        """That of all models together; 0 if one of them may be asked from one thread only."""
        each = [concurrency(model) for model in {id(model): model for model in self._models}.values()]
        return sum(each) if all(each) else 0

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        """``count`` scenarios; none twice before each was drawn once, no two of them alike."""
        random = Random(derive_seed("llm users", seed))
        drawn: list[Scenario] = []
        for turn in range(-(-count // len(self._scenarios))):
            some = random.sample(self._scenarios, min(len(self._scenarios), count - len(drawn)))
            drawn += [self._again(scenario, turn) for scenario in some]
        if not self._personas:
            return drawn
        numbers = random.sample(range(PERSONAS), min(count, PERSONAS))
        return [with_persona(scenario, numbers[i % PERSONAS]) for i, scenario in enumerate(drawn)]

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """One reaction per request, in order; None where its model gave no usable answer."""
        left = [self._domain == "negotiation" and parse_act(request.reply).kind == "leave" for request in requests]
        asked = [i for i, gone in enumerate(left) if not gone]
        answer = self._in_two_calls if self._mode == "two_calls" else self._in_one_call
        found = dict(zip(asked, answer([requests[i] for i in asked]), strict=True))
        return [
            _left(request) if gone else found[i] for i, (request, gone) in enumerate(zip(requests, left, strict=True))
        ]

    def states(self, requests: Sequence[EchoRequest]) -> list[float | None]:
        """The state after each reply, as ``react`` gives it; in support nobody speaks, which saves the second call."""
        if self._mode == "two_calls" and self._domain == "support":
            return [None if mood is None else mood.state for mood in self._weighed(requests)]
        return [None if reaction is None else reaction.state for reaction in self.react(requests)]

    def _again(self, scenario: Scenario, turn: int) -> Scenario:
        """The scenario as it is drawn for the ``turn``-th time, from 0; a sampled persona makes its own id."""
        renamed = turn and not (self._personas and not has_persona(scenario))
        return replace(scenario, id=f"{scenario.id}~{turn + 1}") if renamed else scenario

    def _in_one_call(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        schema = shape(**_WEIGHED, **_SAID[self._domain])
        chats = [self._chat("once", request, schema) for request in requests]
        return self._ask(requests, chats, lambda i, value: self._spoken(_appraisal(requests[i], value), value))

    def _in_two_calls(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        pairs = [(i, mood) for i, mood in enumerate(self._weighed(requests)) if mood is not None]
        schema = shape(**_SAID[self._domain])
        said = self._ask(
            [requests[i] for i, _ in pairs],
            [self._chat("speak", requests[i], schema, appraisal=_told(mood)) for i, mood in pairs],
            lambda k, value: self._spoken(pairs[k][1], value),
        )
        found = {i: reaction for (i, _), reaction in zip(pairs, said, strict=True)}
        return [found.get(i) for i in range(len(requests))]

    def _weighed(self, requests: Sequence[EchoRequest]) -> list[Appraisal | None]:
        """The first of two calls."""
        chats = [self._chat("appraise", request, shape(**_WEIGHED)) for request in requests]
        return self._ask(requests, chats, lambda i, value: _appraisal(requests[i], value))

    def _ask(
        self, requests: Sequence[EchoRequest], chats: Sequence[ChatRequest], parse: Callable[[int, Object], T]
    ) -> list[T | None]:
        """Ask each scenario's own player."""
        by_player: defaultdict[int, list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            by_player[derive_seed("player", request.dialogue.scenario.id) % len(self._models)].append(i)
        found: list[T | None] = [None] * len(chats)
        for player, places in sorted(by_player.items()):
            answers, tally = ask_structured(
                self._models[player],
                [chats[i] for i in places],
                lambda k, value, places=places: parse(places[k], value),  # type: ignore[misc]
            )
            with self._lock:
                self.tally += tally
            for i, answer in zip(places, answers, strict=True):
                found[i] = answer
        return found

    def _chat(self, step: str, request: EchoRequest, schema: Mapping[str, Any], **more: str) -> ChatRequest:
        scenario, before = request.dialogue.scenario, request.dialogue.trajectory[-1]
        scale = scenario.scale
        values = {
            "profile": data(dict(scenario.profile)),
            "situation": data(scenario.situation),
            "name": data(scale.name),
            "low": f"{scale.low:g}",
            "high": f"{scale.high:g}",
            "step": f"{(scale.high - scale.low) / 10:g}",
            "state": f"{before:g}",
            "said": rows([self._line(message) for message in request.dialogue.messages if message.role != "system"]),
            "reply": data(self._line(Message("assistant", request.reply))),
            **more,
        }
        prompt = prompts.load(f"user_{self._domain}_{step}")
        messages = prompt.messages(**{name: values[name] for name in prompt.placeholders})
        return ChatRequest(messages, f"user.{step}", derive_seed(request.seed, step), schema)

    def _line(self, message: Message) -> dict[str, str]:
        who = "you" if message.role == "user" else "they"
        if self._domain == "support":
            return {"who": who, "text": message.content}
        act = parse_act(message.content)
        return {"who": who, "act": act.kind, "text": act.text}

    def _spoken(self, mood: Appraisal, value: Object) -> Reaction:
        if self._domain == "support":
            return Reaction(words(value, "text", LONGEST), mood.state, mood.thought, mood.done)
        kind = next((kind for kind in KINDS if kind == value.get("act", "speak")), None)
        if kind is None:
            raise UnusableError(f'"act" must be one of: {", ".join(KINDS)}.')
        text = words(value, "text", LONGEST, optional=kind == "leave")
        # A model that writes the tag into the text means the same act.
        act = parse_act(text) if kind == "speak" else Act(kind, parse_act(text).text)
        if not act.text and act.kind != "leave":
            raise UnusableError('"text" is empty.')
        return Reaction(write_act(act), mood.state, mood.thought, mood.done or act.kind == "leave")


def _appraisal(request: EchoRequest, value: Object) -> Appraisal:
    scale, before = request.dialogue.scenario.scale, request.dialogue.trajectory[-1]
    state = number(value, "state", scale.low, scale.high)
    if value.get("change") is not None and number(value, "change") * (state - before) < 0:
        raise UnusableError(f'"change" and "state" contradict each other: the number was {before:g} before.')
    thought, analysis = (words(value, key, LONGEST, optional=True) for key in ("thought", "analysis"))
    return Appraisal(analysis, state, thought, truth(value, "done"))


def _told(mood: Appraisal) -> str:
    return data({"analysis": mood.analysis, "state": mood.state, "thought": mood.thought, "done": mood.done})


def _left(request: EchoRequest) -> Reaction:
    """The policy has ended the talk: nobody is asked, and nothing changes."""
    return Reaction(STAYS, request.dialogue.trajectory[-1], done=True)
