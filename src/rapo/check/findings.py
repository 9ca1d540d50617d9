"""One line of a check: what was looked at, the verdict, what was found and the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rapo.errors import RapoError

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict on one thing a run needs.

    Attributes:
        what: the thing.
        level: ``fail`` keeps a run from working; ``warn`` makes it worse than it could be.
        found: what was met.
        fix: the way out; "" where nothing needs to be done.
    """

    what: str
    level: Level
    found: str
    fix: str = ""


def tried(what: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of ``look``; an error it ends in is one more."""
    found: list[Finding] = []
    try:
        for each in look():
            found.append(each)
    except RapoError as error:
        found.append(failed(what, error))
    return found


def failed(what: str, error: RapoError) -> Finding:
    """An error as a finding."""
    text, fix = str(error), error.fix or ""
    expected = f"expected {error.expected}" if error.expected else "mend it and check again"
    return Finding(what, "fail", text.removesuffix(fix).rstrip("; "), fix or expected)
