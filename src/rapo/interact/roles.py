"""The calls that make one reaction of a user played by language models: roles in a chain, each with its own view.

- ``two_calls``, after SAGE (Tencent, 2025): one weighs the reply (analysis, change, state, thought, done), the second
  speaks from that.
- ``one_call`` is cheaper, and its state follows its own words less closely.
- ``three_roles`` divides the inner world, as the abstract of EmoHarbor (arXiv 2601.01530) does; which three, and who
  reads what, is ours. One perceives and feels, one thinks and decides. The one that speaks knows of the hidden profile
  only who its person is, so it can tell nothing that the one before has not decided to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rapo.errors import ConfigError
from rapo.interact.acts import KINDS, Act, parse_act, write_act
from rapo.models.answers import Object, UnusableError, number, shape, truth, words
from rapo.types import Dialogue, EchoRequest, Message, Reaction

Domain = Literal["support", "negotiation"]
Mode = Literal["two_calls", "one_call", "three_roles"]
Inner = dict[str, Any]  # what the roles have come to so far: feeling, thought, state, done, text, ...

LONGEST = 2000  # characters of what a user says or thinks at a time

_TEXT, _NUMBER, _TRUTH = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
_WEIGHED = {"analysis": _TEXT, "change": _NUMBER, "state": _NUMBER, "thought": _TEXT, "done": _TRUTH}
_SAID: dict[Domain, dict[str, dict[str, Any]]] = {
    "support": {"text": _TEXT},
    "negotiation": {"act": {"type": "string", "enum": list(KINDS)}, "text": _TEXT},
}


@dataclass(frozen=True, slots=True)
class Role:
    """One call of a chain.

    Attributes:
        step: names its prompt (``user_DOMAIN_STEP``) and its purpose.
        schema: JSON schema of its answer.
        read: what an answer adds to the inner world; raises UnusableError.
        shown: for placeholders of its prompt, the keys of the inner world that it gets to see there.
    """

    step: str
    schema: Mapping[str, Any]
    read: Callable[[EchoRequest, Object], Inner]
    shown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def chain(domain: Domain, mode: Mode) -> tuple[Role, ...]:
    """The roles of a mode, in the order in which they are asked.

    Raises:
        ConfigError: the mode knows no prompts for the domain.
    """
    say = _say if domain == "support" else _act
    said = _SAID[domain]
    if mode == "one_call":
        return (Role("once", shape(**_WEIGHED, **said), lambda request, value: _weigh(request, value) | say(value)),)
    if mode == "two_calls":
        seen = {"appraisal": ("analysis", "state", "thought", "done")}
        return (
            Role("appraise", shape(**_WEIGHED), _weigh),
            Role("speak", shape(**said), lambda _, value: say(value), seen),
        )
    if domain != "support":
        raise ConfigError(f"users.mode={mode} with users.domain={domain}", expected="users.domain=support")
    return (
        Role("perceive", shape(heard=_TEXT, feeling=_TEXT, change=_NUMBER, state=_NUMBER), _perceive),
        Role(
            "think",
            shape(thought=_TEXT, intent=_TEXT, tell=_TEXT, done=_TRUTH),
            _think,
            {"percept": ("heard", "feeling", "state")},
        ),
        Role("say", shape(**said), lambda _, value: say(value), {"intent": ("feeling", "intent", "tell")}),
    )


def reaction(inner: Inner) -> Reaction:
    """What comes of the inner world: a feeling that was told apart precedes the thought."""
    thought = "\n".join(inner[key] for key in ("feeling", "thought") if inner.get(key))
    return Reaction(inner["text"], inner["state"], thought, inner["done"])


def remembered(dialogue: Dialogue) -> list[dict[str, str]]:
    """A support talk as its user remembers it: what was said, with what the user thought and kept to themselves."""
    opening = [support_line(message) for message in dialogue.scenario.opening if message.role != "system"]
    turns = [
        line
        for turn in dialogue.turns
        for line in (
            {"who": "they", "text": turn.reply},
            {"who": "you", "text": turn.reaction.text, "unsaid": turn.reaction.thought},
        )
    ]
    return opening + turns


def support_line(message: Message) -> dict[str, str]:
    """A message of a support talk as its user reads it."""
    return {"who": "you" if message.role == "user" else "they", "text": message.content}


def bearing(profile: Mapping[str, Any]) -> Any:
    """Who the user is and how they talk: the persona, without the need that a sampled one holds."""
    persona = profile.get("persona", "")
    return {key: each for key, each in persona.items() if key != "need"} if isinstance(persona, Mapping) else persona


def _weigh(request: EchoRequest, value: Object) -> Inner:
    state = _moved(request, value)
    thought, analysis = (words(value, key, LONGEST, optional=True) for key in ("thought", "analysis"))
    return {"analysis": analysis, "state": state, "thought": thought, "done": truth(value, "done")}


def _perceive(request: EchoRequest, value: Object) -> Inner:
    heard, feeling = (words(value, key, LONGEST) for key in ("heard", "feeling"))
    return {"heard": heard, "feeling": feeling, "state": _moved(request, value)}


def _think(_: EchoRequest, value: Object) -> Inner:
    thought, intent = (words(value, key, LONGEST) for key in ("thought", "intent"))
    tell = words(value, "tell", LONGEST, optional=True)
    return {"thought": thought, "intent": intent, "tell": tell, "done": truth(value, "done")}


def _say(value: Object) -> Inner:
    return {"text": words(value, "text", LONGEST)}


def _act(value: Object) -> Inner:
    kind = next((kind for kind in KINDS if kind == value.get("act", "speak")), None)
    if kind is None:
        raise UnusableError(f'"act" must be one of: {", ".join(KINDS)}.')
    text = words(value, "text", LONGEST, optional=kind == "leave")
    # A model that writes the tag into the text means the same act.
    act = parse_act(text) if kind == "speak" else Act(kind, parse_act(text).text)
    if not act.text and act.kind != "leave":
        raise UnusableError('"text" is empty.')
    return {"text": write_act(act)} | ({"done": True} if act.kind == "leave" else {})


def _moved(request: EchoRequest, value: Object) -> float:
    """The state after a reply, on the scenario's scale."""
    scale, before = request.dialogue.scenario.scale, request.dialogue.trajectory[-1]
    state = number(value, "state", scale.low, scale.high)
    if value.get("change") is not None and number(value, "change") * (state - before) < 0:
        raise UnusableError(f'"change" and "state" contradict each other: the number was {before:g} before.')
    return state
