"""The battery of an embedded world: scripted speakers that bound a policy, and exploits that must not pay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rapo.evals.suite import Kind, Result, compare
from rapo.interact.play import Speaker
from rapo.worlds import load_world

SAMPLES = 2000  # resamples of a difference


def scripted(world: str) -> Iterator[tuple[Kind, Mapping[str, Speaker]]]:
    """The scripted speakers of a world by kind: the ladder, then the exploits."""
    found = load_world(world)
    yield "ladder", found.ladder
    yield "exploit", found.exploits


def standing_exploits(results: Sequence[Result], speaker: str) -> list[Result]:
    """Exploits that are not clearly below ``speaker``: the interval of the paired difference does not lie below zero.

    Raises DataError when one shares no item with the speaker.
    """
    rivals = {(each.suite, each.users): each for each in results if each.speaker == speaker}
    exploits = [each for each in results if each.kind == "exploit"]
    pairs = [(each, rivals[each.suite, each.users]) for each in exploits]
    return [a for a, b in pairs if compare(a, b, seed=0, samples=SAMPLES).difference.high >= 0]
