"""The battery of an embedded world: scripted speakers that bound a policy, and exploits that must not pay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rapo.evals.interactive import Row
from rapo.interact.play import Speaker
from rapo.worlds import load_world


def scripted(world: str) -> Iterator[tuple[str, Mapping[str, Speaker]]]:
    """The scripted speakers of a world by kind: the ladder, then the exploits."""
    found = load_world(world)
    yield "ladder", found.ladder
    yield "exploit", found.exploits


def paying_exploits(rows: Sequence[Row], speaker: str) -> list[Row]:
    """Exploits whose mean change lies above the interval of ``speaker`` with the same population."""
    bars = {row.population: row.outcome.change.high for row in rows if row.speaker == speaker}
    return [row for row in rows if row.kind == "exploit" and row.outcome.change.mean > bars[row.population]]
