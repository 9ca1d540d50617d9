"""What supporters do in their replies: the eight strategies of ESConv (Liu et al. 2021, arXiv 2106.01144)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rapo import prompts
from rapo.models.answers import Object, UnusableError, shape
from rapo.models.chat import ChatModel, ChatRequest
from rapo.models.structured import ask_structured
from rapo.prompts.quoting import rows
from rapo.seeds import derive_seed

STRATEGIES = (
    "Question",
    "Restatement or Paraphrasing",
    "Reflection of feelings",
    "Self-disclosure",
    "Affirmation and Reassurance",
    "Providing Suggestions",
    "Information",
    "Others",
)
UNLISTED = "unlisted"  # any other label, such as MultiESC's "Providing Suggestions or Information"
# How the files of the family spell them.
_SPELT = {name.lower(): name for name in STRATEGIES} | {
    "questions": "Question",
    "other": "Others",
    "greeting": "Others",
}

Exchange = tuple[str, str]  # what the person said last, and the reply


def known(label: str) -> str:
    """The strategy that a file's label stands for, or ``UNLISTED``."""
    return _SPELT.get(label.strip().lower(), UNLISTED)


def shares(labels: Iterable[str]) -> dict[str, float]:
    """The share (0-1) of each strategy among labels, and of the unlisted; empty where there is no label."""
    counts = Counter(labels)
    names = (*STRATEGIES, UNLISTED) if counts[UNLISTED] else STRATEGIES
    return {name: counts[name] / counts.total() for name in names} if counts.total() else {}


def distance(a: dict[str, float], b: dict[str, float]) -> float:
    """Total variation between two distributions: 0 alike, 1 nothing in common."""
    return sum(abs(a.get(name, 0) - b.get(name, 0)) for name in {*a, *b}) / 2


def label(model: ChatModel, talks: Sequence[Sequence[Exchange]], seed: int) -> list[list[str] | None]:
    """The strategy of every reply of each talk, as a language model sees it; None for a talk without a usable answer.

    One request per talk that has a reply.

    Raises:
        EndpointError, BudgetError: the model cannot go on.
    """
    asked = [i for i, talk in enumerate(talks) if talk]
    requests = [_request(talks[i], derive_seed(seed, "label", i)) for i in asked]
    found, _ = ask_structured(model, requests, lambda place, value: _labels(value, len(talks[asked[place]])))
    labels: list[list[str] | None] = [[] for _ in talks]
    for i, each in zip(asked, found, strict=True):
        labels[i] = each
    return labels


def _request(talk: Sequence[Exchange], seed: int) -> ChatRequest:
    shown = rows([{"said": said, "reply": reply} for said, reply in talk])
    messages = prompts.load("label_strategies").messages(replies=shown, count=str(len(talk)))
    one = {"type": "string", "enum": list(STRATEGIES)}
    wanted = {"type": "array", "items": one, "minItems": len(talk), "maxItems": len(talk)}
    return ChatRequest(messages, "label", seed, shape(labels=wanted))


def _labels(value: Object, count: int) -> list[str]:
    found = value.get("labels")
    if not isinstance(found, list) or len(found) != count:
        raise UnusableError(f'"labels" must be a list of {count} labels.')
    labels = [known(each) if isinstance(each, str) else UNLISTED for each in found]
    if UNLISTED in labels:
        raise UnusableError(f"Every label must be one of: {', '.join(STRATEGIES)}.")
    return labels
