"""A user simulator made of language models: it takes in a reply as its person would, then answers in character."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from threading import Lock
from typing import TypeVar

from rapo import prompts
from rapo.errors import ConfigError
from rapo.interact.acts import Act, parse_act, write_act
from rapo.interact.personas import PERSONAS, has_persona, with_persona
from rapo.interact.roles import Domain, Inner, Mode, Role, bearing, chain, reaction, remembered, support_line
from rapo.models.answers import Object
from rapo.models.chat import ChatModel, ChatRequest
from rapo.models.structured import Tally, ask_structured
from rapo.overlap import concurrency
from rapo.prompts.quoting import data, rows
from rapo.seeds import derive_seed
from rapo.types import EchoRequest, Message, Reaction, Scenario

T = TypeVar("T")

STAYS = write_act(Act("non-verbal", "stays behind, the talk is over"))


class LLMUser:
    """Users played by language models, a scenario always by the same one.

    Args:
        scenarios: to be drawn from; their hidden profiles are told to the models.
        models: who plays; the scenario's id decides which one.
        domain: which prompts; in a negotiation messages are acts (:mod:`rapo.interact.acts`).
        mode: ``two_calls`` (weigh, then speak), ``one_call``, or ``three_roles`` (perceive, think, say; support only):
            see :mod:`rapo.interact.roles`.
        personas: give a scenario whose profile has no persona a sampled one.

    Attributes:
        tally: how all requests so far ended.

    Raises:
        ConfigError: no scenarios or no models, or a mode without prompts for the domain.
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
        self._domain, self._personas, self._roles = domain, personas, chain(domain, mode)
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
        found = dict(zip(asked, self._answer([requests[i] for i in asked]), strict=True))
        return [
            _left(request) if gone else found[i] for i, (request, gone) in enumerate(zip(requests, left, strict=True))
        ]

    def states(self, requests: Sequence[EchoRequest]) -> list[float | None]:
        """The state after each reply, as ``react`` gives it; in support the first role alone is asked."""
        if self._domain == "support":
            inner = self._play(self._roles[0], requests, {i: {} for i in range(len(requests))})
            return [float(inner[i]["state"]) if i in inner else None for i in range(len(requests))]
        return [None if reaction is None else reaction.state for reaction in self.react(requests)]

    def _again(self, scenario: Scenario, turn: int) -> Scenario:
        """The scenario as it is drawn for the ``turn``-th time, from 0; a sampled persona makes its own id."""
        renamed = turn and not (self._personas and not has_persona(scenario))
        return replace(scenario, id=f"{scenario.id}~{turn + 1}") if renamed else scenario

    def _answer(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """Role by role; a request whose role gave nothing usable goes no further."""
        inner: dict[int, Inner] = {i: {} for i in range(len(requests))}
        for role in self._roles:
            inner = self._play(role, requests, inner)
        return [reaction(inner[i]) if i in inner else None for i in range(len(requests))]

    def _play(self, role: Role, requests: Sequence[EchoRequest], inner: dict[int, Inner]) -> dict[int, Inner]:
        alive = list(inner)
        found = self.ask(
            [requests[i].dialogue.scenario for i in alive],
            [self._chat(role, requests[i], inner[i]) for i in alive],
            lambda k, value: role.read(requests[alive[k]], value),
        )
        return {i: inner[i] | more for i, more in zip(alive, found, strict=True) if more is not None}

    def ask(
        self, scenarios: Sequence[Scenario], chats: Sequence[ChatRequest], parse: Callable[[int, Object], T]
    ) -> list[T | None]:
        """One usable answer per chat, in order, each by whoever plays the user of its scenario; None where missing.

        Args:
            scenarios: one per chat.
            chats: what is asked.
            parse: ``(place in chats, object) -> result``; raises UnusableError.
        """
        by_player: defaultdict[int, list[int]] = defaultdict(list)
        for i, scenario in enumerate(scenarios):
            by_player[derive_seed("player", scenario.id) % len(self._models)].append(i)
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

    def _chat(self, role: Role, request: EchoRequest, inner: Inner) -> ChatRequest:
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
            "remembered": rows(remembered(request.dialogue)),
            "reply": data(self._line(Message("assistant", request.reply))),
            "persona": data(bearing(scenario.profile)),
            **{name: data({key: inner[key] for key in keys}) for name, keys in role.shown.items()},
        }
        prompt = prompts.load(f"user_{self._domain}_{role.step}")
        messages = prompt.messages(**{name: values[name] for name in prompt.placeholders})
        return ChatRequest(messages, f"user.{role.step}", derive_seed(request.seed, role.step), role.schema)

    def _line(self, message: Message) -> dict[str, str]:
        line = support_line(message)
        if self._domain == "support":
            return line
        act = parse_act(message.content)
        return {"who": line["who"], "act": act.kind, "text": act.text}


def _left(request: EchoRequest) -> Reaction:
    """The policy has ended the talk: nobody is asked, and nothing changes."""
    return Reaction(STAYS, request.dialogue.trajectory[-1], done=True)
