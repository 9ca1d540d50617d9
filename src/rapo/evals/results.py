"""Results on disk: read back as they were written, for comparisons and for whoever looks at them later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapo.errors import RunError
from rapo.evals.suite import Result
from rapo.records import atomic_write, disk_errors, from_json, to_json

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Record:
    """What a file holds."""

    v: int
    settings: str
    results: tuple[Result, ...]


def write_results(path: Path, results: Sequence[Result], *, settings: str = "") -> None:
    """Write results to a file, whole or not at all; ``settings`` says what they depend on. Raises RunError."""
    with disk_errors(path):
        record = to_json(Record(FORMAT, settings, tuple(results)))
        atomic_write(path, json.dumps(record, allow_nan=False) + "\n")


def read_results(path: Path, *, settings: str | None = None) -> list[Result] | None:
    """The results in a file; None where there is no file, or ``settings`` is given and another one was written.

    Raises:
        RunError: the file holds none, is damaged, or was written by another version.
    """
    if not path.is_file():
        return None
    found: Any = None
    with suppress(ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
    fix = "evaluate again: move the file away and give the command once more"
    if not isinstance(found, dict) or found.get("v") != FORMAT:
        got = found.get("v") if isinstance(found, dict) else "no JSON object"
        raise RunError(f"{path} holds no results of this rapo", got=got, expected=f"format {FORMAT}", fix=fix)
    try:
        kept = from_json(Record, found)
    except RunError as error:
        raise RunError(f"{path} is damaged", got=str(error), fix=fix) from error
    return None if settings not in (None, kept.settings) else list(kept.results)
