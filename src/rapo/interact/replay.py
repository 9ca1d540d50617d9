"""A user simulator made of real people: it answers a reply as a logged person answered the most similar one.

The state is a rating a real person gave, smoothed; nobody's mind is simulated. Ratings depend on the person far more
than on the wording of one reply, so the state is a weak signal: measure it on held-out conversations before training.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rapo.data.conversation import RATING, Conversation
from rapo.data.formats import Reader, load_conversations
from rapo.errors import ConfigError, DataError
from rapo.types import EchoRequest, Message, Reaction, Scenario

Floats = NDArray[np.float64]

_WORD = re.compile(r"\w\w+")
_COURTESY = frozenset(
    _WORD.findall(
        """hi hello hey bye goodbye thanks thank you your are welcome good great nice day night morning evening weekend
        afternoon have take care too so much very and the to for again well luck ok okay yes sure glad pleasure"""
    )
)
_FAREWELL = re.compile(r"\b(good ?bye|bye|good ?night|take care|have an? (good|great|nice|wonderful|lovely))\b", re.I)
_KNOWN, _DISTINCT, _COPIED = 0.5, 0.5, 0.8
_FLUENT, _JUDGEABLE = -0.5, 5


@dataclass(frozen=True, slots=True)
class Exchange:
    """One logged exchange: what the user had said (``context``), the reply, the echo, its rating 1-5 or None."""

    talk: int
    context: str
    reply: str
    echo: str
    rating: float | None
    last: bool

    @property
    def closing(self) -> bool:
        """A greeting or goodbye, whose rating speaks of the whole talk and not of the reply."""
        return _courteous(self.reply) or bool(_FAREWELL.search(self.reply) or _FAREWELL.search(self.echo))


class ReplayUser:
    """Echoes what real people said, with the ratings they gave as the state.

    An exchange's similarity to a request is ``reply_weight`` x cosine of the replies + ``context_weight`` x cosine of
    the user's last two messages (TF-IDF of words and word pairs, so length does not count; weights are scaled to sum
    to 1). The echo is the nearest exchange's, the first logged one among equals. The state is the mean rating of the
    ``neighbours`` nearest rated exchanges, weighted by similarity, with ``prior`` exchanges of the corpus mean thrown
    in (a pseudo-count in units of similarity): ``(sum s_i r_i + prior mean) / (sum s_i + prior)``. Greetings and
    goodbyes lend no ratings: they are rated high whatever was said. Nothing is retrieved from the conversation being
    played, nor from another with the same situation (another file's copy of it).

    A reply gets the lowest state, and the echo of the worst-rated exchange nearest in context, when half of its words
    are unknown to the logs, half of them are repetitions, they follow each other less often than chance (word salad),
    it is mere courtesy ("thank you, bye"), it says goodbye before the user thanked or did, it is longer than every
    logged reply, or it copies an earlier message of the dialogue.

    Words must be separated by spaces; courtesies and goodbyes are recognised in English only.

    Args:
        conversations: the logs; at least two that differ must hold ratings.
        neighbours: rated exchanges that make up the state.
        reply_weight: share of the reply in the similarity.
        context_weight: share of the context.
        prior: pseudo-count of the corpus mean.
        max_opening: messages a scenario opens with, at most.
        evaluation: start scenarios from the conversations set aside for evaluation only (True), from the others only
            (False), or from all (None). Any of them may answer.

    Raises:
        ConfigError: an argument is out of range, or scikit-learn is not installed.
        DataError: fewer than two conversations hold ratings.
    """

    def __init__(
        self,
        conversations: Sequence[Conversation],
        *,
        neighbours: int = 32,
        reply_weight: float = 0.6,
        context_weight: float = 0.4,
        prior: float = 1.0,
        max_opening: int = 12,
        evaluation: bool | None = None,
    ) -> None:
        _check(neighbours, reply_weight, context_weight, prior, max_opening)
        total = reply_weight + context_weight
        self._weights = reply_weight / total, context_weight / total
        self._neighbours, self._prior, self._max_opening = neighbours, prior, max_opening
        self._talks, self._evaluation = tuple(conversations), evaluation
        self._exchanges = tuple(one for number, talk in enumerate(self._talks) for one in _exchanges(number, talk))
        self._index_owners()
        self._index_ratings()
        self._index_words()

    @classmethod
    def from_files(cls, paths: Sequence[str | Path], read: Reader | None = None, **options: Any) -> ReplayUser:
        """A replay user of the conversations in ``paths``, read as by ``load_conversations``; options as above."""
        return cls(load_conversations(paths, read).conversations, **options)

    def __len__(self) -> int:
        """How many exchanges it can answer with."""
        return len(self._exchanges)

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        """``count`` scenarios: real conversations up to a random user message, each used before any is used twice.

        The id is ``"<conversation id>@<messages in the opening>"``; the state starts at the last rating known there, or
        at the corpus mean.

        Raises:
            ConfigError: the logs hold fewer starting points.
        """
        rng = random.Random(f"replay/{seed}")
        deck = []
        for number, talk in enumerate(self._talks):
            if self._evaluation not in (None, talk.set_aside):
                continue
            points = list(_starts(talk, self._max_opening))
            rng.shuffle(points)
            deck += [(lap, rng.random(), number, point) for lap, point in enumerate(points)]
        if count > len(deck):
            raise ConfigError(
                "too many scenarios for these logs",
                got=count,
                expected=f"at most {len(deck)}",
                fix="add conversations that differ in situation or first message",
            )
        return [self._scenario(number, point) for _, _, number, point in sorted(deck)[:count]]

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        """One reaction per request, in order; the seed does not matter, equal requests get equal reactions."""
        if not requests:
            return []
        flaws = [self._flawed(request) for request in requests]
        replies = ["" if flaw else request.reply for request, flaw in zip(requests, flaws, strict=True)]
        contexts = [_context(request.dialogue.messages) for request in requests]
        similar_BN = self._similarity(replies, contexts)
        return [
            self._reaction(request, flaw, similar_N)
            for request, flaw, similar_N in zip(requests, flaws, similar_BN, strict=True)
        ]

    def _index_owners(self) -> None:
        keys = [talk.key for talk in self._talks]
        self._group = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        self._group_of = {talk.id: self._group[key] for talk, key in zip(self._talks, keys, strict=True)}
        self._owner_N = np.array([self._group[keys[one.talk]] for one in self._exchanges], dtype=np.int64)

    def _index_ratings(self) -> None:
        self._rating_N = np.array(
            [np.nan if one.rating is None or one.closing else one.rating for one in self._exchanges], dtype=np.float64
        )
        self._rated_N = ~np.isnan(self._rating_N)
        owners = len(set(self._owner_N[self._rated_N].tolist()))
        if owners < 2:
            raise DataError(
                "too few rated conversations to replay",
                got=f"{owners} of {len(self._talks)}",
                expected="at least 2 that differ",
                fix="add logs whose user messages carry ratings (rapo data FILE shows them)",
            )
        self.mean = float(self._rating_N[self._rated_N].mean())

    def _index_words(self) -> None:
        replies = [one.reply for one in self._exchanges]
        contexts = [one.context for one in self._exchanges]
        self._vectorizer = _vectorizer()
        self._vectorizer.fit(replies + contexts)
        self._replies_NV = self._vectorizer.transform(replies)
        self._contexts_NV = self._vectorizer.transform(contexts)
        self._fluency = Fluency(text for one in self._exchanges for text in (one.reply, one.echo))
        self._longest = max(len(reply.split()) for reply in replies)

    def _similarity(self, replies: list[str], contexts: list[str]) -> Floats:
        """Similarity 0-1 of B requests to N exchanges."""
        by_reply = self._vectorizer.transform(replies) @ self._replies_NV.T
        by_context = self._vectorizer.transform(contexts) @ self._contexts_NV.T
        similar_BN = self._weights[0] * by_reply + self._weights[1] * by_context
        # Rounded, so that exchanges equal but for the order of summation are ties and the first one is taken.
        return np.asarray(np.round(similar_BN.toarray(), 9), dtype=np.float64)

    def _reaction(self, request: EchoRequest, flaw: bool, similar_N: Floats) -> Reaction:
        scenario = request.dialogue.scenario
        order = np.argsort(-similar_N, kind="stable")
        order = order[~np.isin(self._owner_N[order], self._excluded(scenario))]
        rated = order[self._rated_N[order]]
        if flaw or similar_N[order[0]] <= 0:
            echo = self._exchanges[rated[np.argmin(self._rating_N[rated])]]
            return Reaction(echo.echo, scenario.scale.low)
        near = rated[: self._neighbours]
        weight = similar_N[near]
        rating = (weight @ self._rating_N[near] + self._prior * self.mean) / (weight.sum() + self._prior)
        echo = self._exchanges[order[0]]
        return Reaction(echo.echo, _onto(scenario, float(rating)), done=echo.last and bool(_FAREWELL.search(echo.echo)))

    def _excluded(self, scenario: Scenario) -> list[int]:
        ident = scenario.profile.get("conversation", scenario.id)
        groups = self._group_of.get(ident), self._group.get(_letters(scenario.situation))
        return [group for group in groups if group is not None]

    def _flawed(self, request: EchoRequest) -> bool:
        reply, words, said = request.reply, _words(request.reply), request.dialogue.messages
        known = sum(word in self._vectorizer.vocabulary_ for word in words)
        return (
            _courteous(reply)
            or len(reply.split()) > self._longest
            or known <= _KNOWN * len(words)
            or len(set(words)) < _DISTINCT * len(words)
            or (len(words) >= _JUDGEABLE and self._fluency(words) < _FLUENT)
            or _leaves(reply, said)
            or _copies(words, said)
        )

    def _scenario(self, number: int, point: int) -> Scenario:
        talk = self._talks[number]
        opening = talk.messages[:point]
        heard = sum(message.role == "user" for message in opening)
        start = next((rating for rating in reversed(talk.ratings[:heard]) if rating is not None), self.mean)
        return Scenario(f"{talk.id}@{point}", talk.situation, opening, start, RATING, {"conversation": talk.id})


def _exchanges(number: int, talk: Conversation) -> Iterator[Exchange]:
    ratings = iter(talk.ratings)
    for place, message in enumerate(talk.messages):
        if message.role == "user":
            rating = next(ratings)
            if place:
                reply, last = talk.messages[place - 1].content, place + 2 >= len(talk.messages)
                yield Exchange(number, _context(talk.messages[: place - 1]), reply, message.content, rating, last)


def _context(messages: Sequence[Message], count: int = 2) -> str:
    """The user's last ``count`` messages: one alone is often a mere "yes"."""
    return "\n".join([message.content for message in messages if message.role == "user"][-count:])


def _starts(talk: Conversation, longest: int) -> Iterator[int]:
    """Lengths of the openings a scenario can have: they end in a user message that was answered and is no goodbye."""
    for place, message in enumerate(talk.messages[:longest]):
        answered = place + 1 < len(talk.messages)
        if message.role == "user" and answered and not _FAREWELL.search(message.content):
            yield place + 1


class Fluency:
    """How much more often than chance the words of a text follow each other, judged by the word pairs of a corpus."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._words: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        for text in texts:
            words = _words(text)
            self._words.update(words)
            self._pairs.update(pairwise(words))
        self._total = self._words.total()

    def __call__(self, words: Sequence[str]) -> float:
        """Mean of ``log((count + 0.05) / (expected + 0.05))`` over the word pairs, in nats; 0 for fewer than two words.

        ``expected`` is the count if words followed each other at random. Pairs of rare words say nothing (near 0), so a
        small corpus finds no fault.
        """
        pairs = list(pairwise(words))
        ratios = [
            math.log((self._pairs[pair] + 0.05) / (self._words[pair[0]] * self._words[pair[1]] / self._total + 0.05))
            for pair in pairs
        ]
        return sum(ratios) / len(ratios) if ratios else 0.0


def _leaves(reply: str, said: Sequence[Message]) -> bool:
    """Whether the reply says goodbye to a user who neither thanked nor did."""
    last = next((message.content for message in reversed(said) if message.role == "user"), "")
    return bool(_FAREWELL.search(reply)) and not (_FAREWELL.search(last) or "thank" in last.lower())


def _copies(words: list[str], said: Sequence[Message]) -> bool:
    """Whether the reply is an earlier message, or four fifths of its word pairs are in one."""
    pairs = list(pairwise(words))
    for message in said:
        earlier = _words(message.content)
        if words == earlier:
            return True
        old = set(pairwise(earlier))
        if len(pairs) >= 3 and sum(pair in old for pair in pairs) >= _COPIED * len(pairs):
            return True
    return False


def _courteous(text: str) -> bool:
    """Whether nothing is left of the text without greetings, thanks and goodbyes; so of an empty one."""
    return all(word in _COURTESY for word in _words(text))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _letters(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())


def _onto(scenario: Scenario, rating: float) -> float:
    scale = scenario.scale
    return scale.low + (scale.high - scale.low) * (rating - RATING.low) / (RATING.high - RATING.low)


def _vectorizer() -> Any:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise ConfigError(
            "the replay user needs scikit-learn", expected="the extra replay", fix="pip install 'rapo-rl[replay]'"
        ) from None
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=_WORD.pattern)


def _check(neighbours: int, reply_weight: float, context_weight: float, prior: float, max_opening: int) -> None:
    rules = (
        ("neighbours", neighbours, neighbours >= 1, "1 or more"),
        ("reply_weight", reply_weight, reply_weight > 0, "above 0"),
        ("context_weight", context_weight, context_weight >= 0, "0 or more"),
        ("prior", prior, prior > 0, "above 0"),
        ("max_opening", max_opening, max_opening >= 2, "2 or more"),
    )
    for name, value, fits, expected in rules:
        if not fits:
            raise ConfigError(f"replay.{name} is out of range", got=value, expected=expected, fix="change it")
