"""Rating finished dialogues with a language model: a judge of the result, not of a reply.

It reads what training's judge may not (the hidden profile) and not what that one reads (the simulator's states), its
prompts are its own, and it shares no code with the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rapo import prompts
from rapo.models.answers import Object, number, shape, words
from rapo.models.chat import ChatModel, ChatRequest
from rapo.models.structured import ask_structured
from rapo.prompts.quoting import data, rows
from rapo.seeds import derive_seed
from rapo.types import Dialogue, Message

BEST = 10.0
DIMENSIONS = {
    "support": ("understanding", "fit", "honesty", "safety", "progress"),
    "negotiation": ("goal", "relationship", "believability", "knowledge", "secret", "rules"),
}


@dataclass(frozen=True, slots=True)
class Rating:
    """A rating of the policy's side of a dialogue.

    Attributes:
        score: the talk as a whole, 0-10; 5 is neither good nor bad.
        dimensions: the same for each of the domain's ``DIMENSIONS``.
        reason: why, in a sentence or two; it may tell of the hidden profile and is for people only.
    """

    score: float
    dimensions: dict[str, float]
    reason: str


def rate(
    model: ChatModel, dialogues: Sequence[Dialogue], domain: Literal["support", "negotiation"], seed: int
) -> list[Rating | None]:
    """One rating per dialogue, in order; None, never zero, for one without replies or without a usable answer.

    Raises:
        EndpointError, BudgetError: the model cannot go on.
    """
    played = [dialogue for dialogue in dialogues if dialogue.turns]
    requests = [_request(each, domain, derive_seed(seed, "rate", each.scenario.id)) for each in played]
    ratings, _ = ask_structured(model, requests, lambda _, value: _rating(value, DIMENSIONS[domain]))
    found = iter(ratings)
    return [next(found) if dialogue.turns else None for dialogue in dialogues]


def _request(dialogue: Dialogue, domain: str, seed: int) -> ChatRequest:
    profile = {"situation": dialogue.scenario.situation, **dialogue.scenario.profile}
    talk = [_line(message) for message in dialogue.messages]
    messages = prompts.load(f"rate_{domain}").messages(profile=data(profile), talk=rows(talk))
    scores = {name: {"type": "number"} for name in (*DIMENSIONS[domain], "score")}
    return ChatRequest(messages, "rate", seed, shape(reason={"type": "string"}, **scores))


def _line(message: Message) -> dict[str, str]:
    who = {"system": "brief", "assistant": "author", "user": "user"}[message.role]
    return {"who": who, "text": message.content}


def _rating(value: Object, dimensions: Sequence[str]) -> Rating:
    scores = {name: number(value, name, 0, BEST) for name in dimensions}
    return Rating(number(value, "score", 0, BEST), scores, words(value, "reason", optional=True))
