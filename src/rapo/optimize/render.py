"""Dialogues as token ids, with a mark on every token the policy is to learn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapo.models.policy import Policy
from rapo.types import Message


@dataclass(frozen=True, slots=True)
class Example:
    """A token sequence of length L; ``learn[i]`` marks that predicting ``ids[i]`` is trained."""

    ids: tuple[int, ...]
    learn: tuple[bool, ...]


def reply_example(policy: Policy, context: Sequence[Message], reply: str) -> Example:
    """A context and one reply; only the reply and its end-of-turn token are learnt."""
    prompt, tokens = policy.render(context), policy.encode_reply(reply)
    return Example((*prompt, *tokens), (False,) * len(prompt) + (True,) * len(tokens))


def dialogue_examples(policy: Policy, messages: Sequence[Message], *, first: int = 1) -> list[Example]:
    """The replies of a dialogue from message number ``first`` on, each learnt in the context it will be written in.

    What nobody has asked for, a greeting that opens the dialogue, is context and not a reply.

    One sequence where the chat template only ever appends. Templates that render a past turn differently from the one
    being written (they drop its reasoning, say) give one sequence per reply.
    """
    ids = policy.render(messages, generation_prompt=False)
    learn = [False] * len(ids)
    replies = [i for i, message in enumerate(messages) if i >= first and message.role == "assistant"]
    for i in replies:
        start = len(prompt := policy.render(messages[:i]))
        tokens = policy.encode_reply(messages[i].content)
        if ids[: start + len(tokens)] != prompt + tokens:
            return [reply_example(policy, messages[:j], messages[j].content) for j in replies]
        learn[start : start + len(tokens)] = [True] * len(tokens)
    return [Example(tuple(ids), tuple(learn))]


def only_words(policy: Policy, example: Example, phrases: Sequence[str]) -> Example:
    """The example with only those learnt tokens marked that complete one of the phrases (whole words, in any case)."""
    pattern = re.compile("|".join(rf"\b{re.escape(phrase)}\b" for phrase in phrases), re.IGNORECASE)
    learn = [False] * len(example.ids)
    text, found = "", 0
    for i, token in enumerate(example.ids):
        if example.learn[i]:
            text += policy.decode([token])
            before, found = found, len(pattern.findall(text))
            learn[i] = found > before
    return Example(example.ids, tuple(learn))
