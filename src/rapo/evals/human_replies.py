"""Replies in the place of a person's: the speaker answers what was said before each, and is held against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rapo.data.conversation import Conversation
from rapo.errors import DataError
from rapo.evals import references
from rapo.evals.strategies import UNLISTED, Exchange, distance, known, label, shares
from rapo.evals.suite import Figure, Item, Result, means
from rapo.evals.variety import Encode, variety
from rapo.interact.play import Scorer, Speaker
from rapo.missing import demand, demand_any
from rapo.models.chat import ChatModel
from rapo.seeds import derive_seed
from rapo.types import Dialogue

TOGETHER = 16  # conversations whose replies are asked for in one call
USERS = "people's replies"


@dataclass(frozen=True, slots=True)
class Answered:
    """A conversation and what the speaker said in it.

    Attributes:
        talk: the conversation.
        dialogue: its turns; the person's replies are the references.
        replies: one per turn; None where it could not be had.
        scores: log-probability (nats) and tokens of every reference, None where too long; empty for a speaker that
            cannot say.
    """

    talk: Conversation
    dialogue: Dialogue
    replies: tuple[str | None, ...]
    scores: tuple[tuple[float, int] | None, ...] = ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Reply and reference, where there is a reply."""
        turns = zip(self.replies, self.dialogue.turns, strict=True)
        return [(reply, turn.reply) for reply, turn in turns if reply is not None]

    @property
    def exchanges(self) -> tuple[list[Exchange], list[Exchange]]:
        """What was said before, with the reply and with the reference."""
        said = [self.dialogue.upto(turn).messages[-1].content for turn in range(len(self.replies))]
        kept = [one for one, reply in zip(said, self.replies, strict=True) if reply is not None]
        replies, human = zip(*self.pairs, strict=True) if self.pairs else ((), ())
        return list(zip(kept, replies, strict=True)), list(zip(kept, human, strict=True))

    @property
    def strategies(self) -> list[set[str]]:
        """The strategies that people annotated in each reference for which there is a reply."""
        # A supporter's greeting before the user's first message is part of the opening, and answered by nobody.
        first = self.talk.messages[0].role == "assistant"
        labels = self.talk.strategies[first:] or ((),) * len(self.replies)
        pairs = zip(labels, self.replies, strict=False)
        return [set(map(known, some)) for some, reply in pairs if reply is not None]


@dataclass(frozen=True, slots=True)
class HumanReplies:
    """Every reply of some conversations that the person answered, written again by the speaker.

    An item is a conversation, since replies within one are not independent; its scores are means over its replies.

    Attributes:
        conversations: a test split.
        seed: of the speaker's sampling.
        samples: bootstrap resamples.
        max_missing: share of the replies, and of the labels, that may be missing.
        similarity: adds ``bert_score``: :func:`rapo.evals.references.bert_score`.
        labeller: adds the strategies of the replies, as this model labels them.
        encode: adds ``embedding_variety``.

    Raises:
        ConfigError: sacrebleu or rouge-score is not installed.
        DataError: no reply in the conversations was answered.
    """

    conversations: Sequence[Conversation]
    seed: int
    samples: int = 2000
    max_missing: float = 1.0
    similarity: references.Similarity | None = None
    labeller: ChatModel | None = None
    encode: Encode | None = None

    def __post_init__(self) -> None:
        # Found out before hours of replies.
        references.require()
        if not any(talk.to_dialogue().turns for talk in self.conversations):
            raise DataError(
                "there is no reply to compare with",
                got=f"{len(self.conversations)} conversations",
                expected="conversations in which the user answers the supporter",
            )

    @property
    def total(self) -> int:
        """Conversations."""
        return len(self.conversations)

    def run(self, name: str, speaker: Speaker, on_done: Callable[[int], None]) -> Result:
        """The result; a conversation without a single reply of the speaker is lost.

        Raises:
            EndpointError: a language model cannot go on, or too much is missing.
            BudgetError: as of the models.
        """
        found: list[Answered] = []
        for start in range(0, self.total, TOGETHER):
            found += self._answer(speaker, self.conversations[start : start + TOGETHER])
            on_done(min(start + TOGETHER, self.total))
        asked = [reply for each in found for reply in each.replies]
        missing = asked.count(None)
        demand("replies", missing=missing, asked=len(asked), limit=self.max_missing)
        demand_any("replies", missing=missing, asked=len(asked))
        whole = [each for each in found if each.pairs]
        items = tuple(Item(each.talk.id, dict(self._scores(each))) for each in whole)
        users = f"{USERS}, strategies by {self.labeller.name}" if self.labeller else USERS
        lost = sum(bool(each.replies) for each in found) - len(whole)
        return Result("esconv", name, users, "rouge_l", items, self._figures(whole, items), lost=lost)

    def _answer(self, speaker: Speaker, talks: Sequence[Conversation]) -> list[Answered]:
        """What the speaker says in some conversations, asked for together."""
        dialogues = [talk.to_dialogue() for talk in talks]
        stands = [dialogue.upto(turn) for dialogue in dialogues for turn in range(len(dialogue.turns))]
        seeds = [derive_seed("esconv", self.seed, stand.scenario.id, len(stand.turns)) for stand in stands]
        replies = iter(speaker.reply(stands, seeds))
        human = [turn.reply for dialogue in dialogues for turn in dialogue.turns]
        scores = iter(speaker.score(stands, human)) if isinstance(speaker, Scorer) else None
        return [
            Answered(
                talk,
                dialogue,
                tuple(next(replies) for _ in dialogue.turns),
                tuple(next(scores) for _ in dialogue.turns) if scores else (),
            )
            for talk, dialogue in zip(talks, dialogues, strict=True)
        ]

    def _scores(self, each: Answered) -> Iterator[tuple[str, float]]:
        replies, human = zip(*each.pairs, strict=True)
        yield "rouge_l", _mean(references.rouge_l(replies, human))
        if self.similarity:
            yield "bert_score", _mean(self.similarity(replies, human))
        if per_token := _per_token([each]):
            yield "log_likelihood", per_token

    def _figures(self, found: Sequence[Answered], items: Sequence[Item]) -> dict[str, Figure]:
        pairs = [pair for each in found for pair in each.pairs]
        replies, human = zip(*pairs, strict=True)
        figures: dict[str, Figure] = {"replies": float(len(pairs))}
        if per_token := _per_token(found):
            figures["perplexity"] = math.exp(-per_token)
        figures |= references.bleu(replies, human)
        figures |= means(items, ("rouge_l", "bert_score"), seed=self.seed, samples=self.samples)
        return figures | variety(replies, self.encode) | self._strategies(found)

    def _strategies(self, found: Sequence[Answered]) -> dict[str, float]:
        """The distribution of the people's strategies; with a labeller, that of the replies and how far they are apart.

        The distance is between labels of the same model on both sides, so that its habits are in neither; how often it
        agrees with the people's own annotation says how much to believe.
        """
        annotated = shares(name for each in found for some in each.strategies for name in some)
        figures = {f"references.{name}": share for name, share in annotated.items()}
        if self.labeller is None:
            return figures
        talks = [talk for each in found for talk in each.exchanges]
        labels = label(self.labeller, talks, derive_seed("esconv", self.seed))
        demand("labels", missing=labels.count(None), asked=len(labels), limit=self.max_missing)
        both = zip(found, labels[::2], labels[1::2], strict=True)
        known_ones = [(each, mine, theirs) for each, mine, theirs in both if mine is not None and theirs is not None]
        mine = shares(name for _, some, _ in known_ones for name in some)
        theirs = shares(name for _, _, some in known_ones for name in some)
        if not mine:
            return figures
        agreed = [
            name in people
            for each, _, some in known_ones
            for name, people in zip(some, each.strategies, strict=False)
            if people and UNLISTED not in people
        ]
        figures |= {f"replies.{name}": share for name, share in mine.items()}
        figures["strategy_distance"] = distance(mine, theirs)
        return figures | ({"strategy_agreement": _mean(agreed)} if agreed else {})


def _per_token(found: Sequence[Answered]) -> float | None:
    """Mean log-probability (nats) of the references' tokens; None where nothing is known of any."""
    known_ones = [score for each in found for score in each.scores if score is not None]
    return sum(logp for logp, _ in known_ones) / sum(count for _, count in known_ones) if known_ones else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
