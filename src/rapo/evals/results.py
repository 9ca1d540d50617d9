"""Results on disk: read back as they were written, for comparisons and for whoever looks at them later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rapo.errors import RunError
from rapo.evals.suite import Result
from rapo.records import atomic_write, disk_errors, from_json, to_json

FORMAT = 2


def write_results(path: Path, results: Sequence[Result], *, settings: str = "") -> None:
    """Write results to a file, whole or not at all; ``settings`` says what they depend on. Raises RunError."""
    with disk_errors(path):
        record = {"v": FORMAT, "settings": settings, "results": to_json(results)}
        atomic_write(path, json.dumps(record, allow_nan=False) + "\n")


def read_results(path: Path, *, settings: str | None = None) -> list[Result] | None:
    """The results in a file; None where there is no file, or ``settings`` is given and another one was written.

    Raises:
        RunError: the file holds none, or was written by another version.
    """
    if not path.is_file():
        return None
    found: Any = None
    with suppress(ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.get("v") != FORMAT:
        got = found.get("v") if isinstance(found, dict) else "no JSON object"
        fix = "evaluate again: move the file away and give the command once more"
        raise RunError(f"{path} holds no results of this rapo", got=got, expected=f"format {FORMAT}", fix=fix)
    if settings is not None and found["settings"] != settings:
        return None
    return [from_json(Result, each) for each in found["results"]]
