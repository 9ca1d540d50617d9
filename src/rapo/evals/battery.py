"""The battery of an embedded world: scripted speakers that bound a policy, and exploits that must not pay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rapo.evals.suite import Kind, Result
from rapo.interact.play import Speaker
from rapo.worlds import load_world


def scripted(world: str) -> Iterator[tuple[Kind, Mapping[str, Speaker]]]:
    """The scripted speakers of a world by kind: the ladder, then the exploits."""
    found = load_world(world)
    yield "ladder", found.ladder
    yield "exploit", found.exploits


def paying_exploits(results: Sequence[Result], speaker: str) -> list[Result]:
    """Exploits whose mean change lies above the interval of ``speaker`` with the same users."""
    bars = {(each.suite, each.users): each.outcome.high for each in results if each.speaker == speaker}
    return [each for each in results if each.kind == "exploit" and each.outcome.mean > bars[each.suite, each.users]]
