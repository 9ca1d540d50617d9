"""Who writes replies, dialogues in and replies out: a policy, or a language model that is asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapo.models.chat import ChatModel, ChatRequest, ask
from rapo.models.memory import Memory
from rapo.models.policy import Policy
from rapo.models.sampler import SampleRequest, sample
from rapo.models.scoring import log_likelihoods
from rapo.types import Completion, Dialogue, Message


@dataclass(frozen=True, slots=True)
class PolicySpeaker:
    """Renders what was said (never a hidden profile) and samples replies to it.

    Attributes:
        policy: the model.
        system_prompt: put before every dialogue; None sends none.
        max_tokens: longest reply.
        temperature: of the sampling; 0 decodes greedily.
        memory: what is encoded of the talks, so that a turn goes on from the one before and a branch from any; None
            encodes every prompt from its beginning. It holds for the weights as they are.
    """

    policy: Policy
    system_prompt: str | None
    max_tokens: int
    temperature: float
    memory: Memory | None = None

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        """One reply per dialogue; None where what was said is too long for the policy's context.

        Raises:
            ModelError: these are openings, and every one is too long for it.
        """
        fits = [self.fits(dialogue.messages) for dialogue in dialogues]
        if not any(fits) and not any(dialogue.turns for dialogue in dialogues):
            fits = [True] * len(fits)  # the sampler says what is wrong
        fitting = [(dialogue, [seed]) for dialogue, seed, fit in zip(dialogues, seeds, fits, strict=True) if fit]
        replies = iter(self.sample([dialogue for dialogue, _ in fitting], [some for _, some in fitting]))
        return [next(replies)[0].text if fit else None for fit in fits]

    def fits(self, messages: Sequence[Message]) -> bool:
        """Whether a reply of the longest length can follow the messages within the policy's context."""
        return len(self.prompt(messages)) + self.max_tokens <= self.policy.max_context

    def sample(self, dialogues: Sequence[Dialogue], seeds: Sequence[Sequence[int]]) -> list[list[Completion]]:
        """One completion per seed for each dialogue."""
        requests = [
            SampleRequest(self.prompt(dialogue.messages), tuple(some), talk=dialogue.scenario.id)
            for dialogue, some in zip(dialogues, seeds, strict=True)
        ]
        sampled = sample(
            self.policy, requests, max_tokens=self.max_tokens, temperature=self.temperature, memory=self.memory
        )
        return [[each.completion for each in some] for some in sampled]

    def score(self, dialogues: Sequence[Dialogue], replies: Sequence[str]) -> list[tuple[float, int] | None]:
        """How likely each reply is after its dialogue, at temperature 1: log-probability (nats) and number of tokens.

        Its end-of-turn token counts. None where dialogue and reply together do not fit the policy's context.
        """
        rows = [
            (self.prompt(dialogue.messages), self.policy.encode_reply(reply))
            for dialogue, reply in zip(dialogues, replies, strict=True)
        ]
        fits = [len(prompt) + len(ids) <= self.policy.max_context for prompt, ids in rows]
        found = iter(log_likelihoods(self.policy, [row for row, fit in zip(rows, fits, strict=True) if fit]))
        return [(next(found), len(ids)) if fit else None for (_, ids), fit in zip(rows, fits, strict=True)]

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """What a reply to the messages is written after, as token ids."""
        return tuple(self.policy.render(context(self.system_prompt, messages)))


@dataclass(frozen=True, slots=True)
class ChatSpeaker:
    """A language model that is only measured, such as one behind an endpoint.

    Attributes:
        model: who is asked.
        system_prompt: as for :class:`PolicySpeaker`.
    """

    model: ChatModel
    system_prompt: str | None

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        """One reply per dialogue; None where none could be had.

        Raises:
            EndpointError, BudgetError: the model cannot go on.
        """
        requests = [
            ChatRequest(context(self.system_prompt, dialogue.messages), "reply", seed)
            for dialogue, seed in zip(dialogues, seeds, strict=True)
        ]
        return [None if answer is None else answer.text.strip() for answer in ask(self.model, requests)]


def context(system_prompt: str | None, messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages as their author reads them, the system prompt first; a brief of its own is made part of that.

    Many chat templates take one system message only.
    """
    if not system_prompt:
        return tuple(messages)
    briefed = bool(messages) and messages[0].role == "system"
    prompt = f"{system_prompt}\n\n{messages[0].content}" if briefed else system_prompt
    return (Message("system", prompt), *messages[briefed:])
