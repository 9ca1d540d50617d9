"""What a run directory holds so far, as the JSON that was written; the run may be going on."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapo.config import RunConfig, load_config
from rapo.errors import RunError
from rapo.evals.results import read_results
from rapo.models.journal import LOCAL, TOTALS_BY_ROLE, Totals
from rapo.records import Kind, read_records, to_json

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of one run.

    Attributes:
        path: its folder.
        config: with which it was started.
        metrics: one object per step.
        results: of its evaluations, as ``evals.suite.Result`` and with a "moment": before, after, ...
        summary: what a finished run says of itself; empty until then.
        calls: what language models were asked and what it cost, by role; empty without any.
        active: a process is writing there.
    """

    path: Path
    config: RunConfig
    metrics: list[Json]
    results: list[Json]
    summary: Json
    calls: Json
    active: bool

    def records(self, kind: Kind) -> Iterator[Json]:
        """The lines of one of its files, oldest first."""
        return read_records(self.path, kind)


def read_run(path: Path) -> RunFiles:
    """The run in a folder; raises RunError when there is none or a record cannot be read."""
    if not (path / "config.yaml").is_file():
        raise RunError(f"{path} holds no run", expected="a folder with a config.yaml that `rapo train` wrote")
    summary = path / "summary.json"
    return RunFiles(
        path,
        load_config(path / "config.yaml"),
        list(read_records(path, "metrics")),
        [result for file in _evaluations(path) for result in _results(file)],
        _object(summary) if summary.is_file() else {},
        _calls(path / "journal.sqlite"),
        _is_locked(path / "lock"),
    )


def _evaluations(path: Path) -> list[Path]:
    """Before, then after, then any others by name."""
    order = {"evaluation-before": 0, "evaluation-after": 1}
    return sorted(path.glob("evaluation-*.json"), key=lambda file: (order.get(file.stem, 2), file.stem))


def _results(file: Path) -> list[Json]:
    moment = file.stem.removeprefix("evaluation-")
    return [{**to_json(result), "moment": moment} for result in read_results(file) or ()]


def trajectory(dialogue: Json) -> list[float]:
    """The user's state before the first reply and after each turn."""
    return [dialogue["scenario"]["start"], *(turn["reaction"]["state"] for turn in dialogue["turns"])]


def _calls(journal: Path) -> Json:
    """What the journal's ledger adds up to; read alone, so that a run that writes it is not disturbed."""
    if not journal.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{journal.resolve().as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute(TOTALS_BY_ROLE, (LOCAL,)).fetchall()
    except sqlite3.Error as error:
        raise RunError(f"{journal} cannot be read", got=str(error), expected="the journal of a run") from error
    return {role: to_json(Totals(*counts)) for role, *counts in rows}


def _object(file: Path) -> Json:
    try:
        found = json.loads(file.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RunError(f"{file} cannot be read", expected="a JSON object, as `rapo train` wrote it")
    return found


def _is_locked(lock: Path) -> bool:
    if not lock.is_file():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
