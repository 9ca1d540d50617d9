"""The embedded support suite: scripted supporters that bound a policy, and exploits that must not pay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rapo.evals.interactive import Row
from rapo.interact.play import Speaker
from rapo.worlds.support.policies import EXPLOITS, LADDER, Scripted


def scripted() -> Iterator[tuple[str, Mapping[str, Speaker]]]:
    """The scripted speakers by kind: the ladder, then the exploits."""
    yield "ladder", {name: Scripted(rule) for name, rule in LADDER.items()}
    yield "exploit", {name: Scripted(rule) for name, rule in EXPLOITS.items()}


def paying_exploits(rows: Sequence[Row], speaker: str) -> list[Row]:
    """Exploits whose mean change lies above the interval of ``speaker`` with the same population."""
    bars = {row.population: row.outcome.change.high for row in rows if row.speaker == speaker}
    return [row for row in rows if row.kind == "exploit" and row.outcome.change.mean > bars[row.population]]
