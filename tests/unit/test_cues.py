"""The two populations of an embedded world show a need in other sentences, but in everyday words that both use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from rapo.worlds.bargaining import language as bargaining
from rapo.worlds.support import language as support

# Words that say nothing about a need by themselves.
GLUE = set(
    re.findall(
        r"\w+",
        """a an and are as at be been do does for from has have how i if in is it me my no not of on one or should so
        that the this to until was what who with you after would""",
    )
)


@pytest.mark.parametrize("language", [support.language, bargaining.language])
def test_held_out_cues_use_words_of_familiar_ones_in_some_form(language: Callable[[], Mapping[str, Any]]) -> None:
    strange = {
        need: {word for word in words(pools["held_out"]) - GLUE if word[:3] not in stems(pools["familiar"])}
        for need, pools in language()["cues"].items()
    }
    assert strange == {need: set() for need in strange}


def words(texts: Iterable[str]) -> set[str]:
    """All words but the facts, which are drawn for every scenario."""
    return {word for text in texts for word in re.findall(r"[a-z]+", re.sub(r"{\w+}", " ", text.lower()))}


def stems(texts: Iterable[str]) -> set[str]:
    """The beginnings of the words: *put* and *putting*, *hear* and *hears* have the same."""
    return {word[:3] for word in words(texts)}
