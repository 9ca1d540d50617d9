"""How scripted users handle text: templates, words with facts abstracted, and what is not put together like them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from random import Random


@cache
def slots(template: str) -> tuple[str, ...]:
    """The names of the slots in a template, in order."""
    return tuple(re.findall(r"\{(\w+)\}", template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its slots filled and its first letter in upper case."""
    text = template.format(**values)
    return text[0].upper() + text[1:]


@lru_cache(maxsize=65536)
def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a text, each with its mark; the last one may lack it."""
    return tuple(part.strip() for part in re.findall(r"[^.?!]+[.?!]*|[.?!]+", text) if part.strip())


class Lexicon:
    """The words of one world.

    Args:
        facts: the values (regular expressions) that each kind of fact can take; texts are compared without them.
        said: gives every text that anyone can say there, facts as ``<kind>``: the users' idea of well-formed English.
    """

    def __init__(self, facts: Mapping[str, Sequence[str]], said: Callable[[], Iterable[str]]) -> None:
        kinds = {kind: sorted(values, key=len, reverse=True) for kind, values in facts.items()}
        self._pattern = re.compile(
            "|".join(rf"(?P<{kind}>\b(?:{'|'.join(v.lower() for v in values)})\b)" for kind, values in kinds.items())
        )
        self._said = said
        self.words = lru_cache(maxsize=65536)(self._words)
        self.facts_in = lru_cache(maxsize=65536)(self._facts_in)

    def abstract(self, text: str) -> str:
        """The text in lower case with each fact replaced by its kind."""
        return self._pattern.sub(lambda match: f"<{match.lastgroup}>", text.lower())

    def opening(self, text: str) -> tuple[str, ...]:
        """The first four words of a text, facts abstracted."""
        return self.words(text)[:4]

    def lost(self, reply: str, endless: int) -> bool:
        """Whether a reply cannot be followed: empty, over ``endless`` words, unfinished, or no English it knows."""
        tokens = self.words(reply)
        if not tokens or len(tokens) > endless or tokens[-1] not in ".?!":
            return True
        trigrams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
        if len(set(trigrams)) < len(trigrams):
            return True
        return any(self._garbled(self.words(sentence)) for sentence in sentences(reply))

    def parroted(self, reply: str, last: str) -> bool:
        """Whether half of the reply's word triples are the user's own last words."""
        mine, theirs = self.words(reply), self.words(last)
        triples = list(zip(mine, mine[1:], mine[2:], strict=False))
        own = set(zip(theirs, theirs[1:], theirs[2:], strict=False))
        return bool(triples) and sum(t in own for t in triples) >= len(triples) / 2

    @cached_property
    def known_bigrams(self) -> frozenset[tuple[str, str]]:
        """Every pair of neighbouring words in what anyone can say."""
        pairs: set[tuple[str, str]] = set()
        for sentence in itertools.chain.from_iterable(sentences(text) for text in self._said()):
            pairs.update(itertools.pairwise(["^", *self.words(sentence)]))
        return frozenset(pairs)

    def _garbled(self, tokens: Sequence[str]) -> bool:
        pairs = list(itertools.pairwise(["^", *tokens]))
        unknown = sum(pair not in self.known_bigrams for pair in pairs)
        return len(tokens) < 3 or unknown > 1 or (unknown == 1 and len(tokens) < 8)

    def _words(self, text: str) -> tuple[str, ...]:
        """Lower-case words and sentence marks, with every fact replaced by the name of its kind (``<who>``)."""
        return tuple(re.findall(r"<\w+>|\w+|[.?!,:]", self.abstract(text)))

    def _facts_in(self, text: str) -> frozenset[tuple[str, str]]:
        """The facts a text names, as (kind, value in lower case)."""
        return frozenset((str(match.lastgroup), match.group()) for match in self._pattern.finditer(text.lower()))


class Wording:
    """Says things with a seeded choice of words."""

    def __init__(self, random: Random, lexicon: Lexicon) -> None:
        self.random, self.lexicon = random, lexicon

    def say(self, templates: Iterable[str], values: Mapping[str, str], avoid: Iterable[str] = ()) -> str:
        """One of the templates whose slots can all be filled, preferably none that opens like ``avoid``."""
        opening = self.lexicon.opening
        fitting = [t for t in templates if values.keys() >= set(slots(t))]
        used = {opening(text) for text in avoid}
        texts = [fill(t, values) for t in self.random.sample(fitting, len(fitting))]
        return next((text for text in texts if opening(text) not in used), texts[0]) if used else texts[0]
