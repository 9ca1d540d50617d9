"""A stand-in for a language model, to try things offline: ``models.NAME.path=rapo.models.stand_in:answer``.

It answers any request in the wanted form and means nothing by it: numbers are those of the prompt's own example, states
drift at random, words are stock phrases. Figures made with it say that the machinery runs, and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from random import Random
from typing import Any

from rapo.models.chat import ChatRequest

PHRASES = (
    "I am not sure what to say to that.",
    "It has been a long week.",
    "Maybe. I keep thinking about it.",
    "That is one way to see it.",
    "I would like to talk about it some more.",
)


def answer(request: ChatRequest) -> str:
    """An answer to the request, always the same one for the same request."""
    random = Random(request.seed)
    if request.schema is None:
        return random.choice(PHRASES)
    prompt = "\n".join(message.content for message in request.messages)
    return json.dumps(_value(request.schema, "", prompt, random))


def _value(schema: Mapping[str, Any], key: str, prompt: str, random: Random) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _value(each, name, prompt, random) for name, each in schema["properties"].items()}
        case "array":
            return [_value(schema["items"], key, prompt, random) for _ in range(schema.get("minItems", 1))]
        case "boolean":
            return False
        case "number" | "integer":
            return _number(schema, key, prompt, random)
        case _:
            return "speak" if key == "act" else random.choice(PHRASES)


def _number(schema: Mapping[str, Any], key: str, prompt: str, random: Random) -> float:
    low, high = schema.get("minimum"), schema.get("maximum")
    if key == "change":
        return 0
    if key == "state" and (before := re.search(r" was then (-?[\d.]+)\. ", prompt)):
        low, high = re.search(r"from (-?[\d.]+) \(worst\) to (-?[\d.]+) \(", prompt).groups()  # type: ignore[union-attr]
        step = (float(high) - float(low)) / 10
        return min(float(high), max(float(low), float(before[1]) + random.choice((-step, 0.0, step))))
    if example := re.search(rf'"{re.escape(key)}": (-?\d+)', prompt):
        return int(example[1])
    return low if low is not None else high if high is not None else 5
