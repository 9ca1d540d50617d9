"""The run directory: what a run writes, versioned, and how it is read back.

    config.yaml       the resolved config
    metrics.jsonl     numbers of each step
    dialogues.jsonl   the dialogues played
    groups.jsonl      the groups judged
    supervised        there when fine-tuning is all that the run is to do
    lock              held while a process writes here

Each JSONL line is an object with "v" (format version) and "step". A line exists once its newline is written: what a
killed process left half written is not read, and is cut off before the next line is added.
JSON has no NaN or infinity: such numbers are written as null, and null where a number must stand reads back as NaN.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from types import NoneType, TracebackType, UnionType
from typing import Any, BinaryIO, Literal, Self, TypeVar, Union

from rapo.config import RunConfig, load_config
from rapo.errors import ConfigError, RunError

FORMAT = 1
Kind = Literal["metrics", "dialogues", "groups"]
CHANGEABLE = (
    "calls.*",
    *(f"models.*.{name}" for name in ("url", "key_env", "concurrency", "timeout", "attempts", "price_in", "price_out")),
    "run.trackers",
    "train.steps",
    "train.max_minutes",
)
KINDS: tuple[Kind, ...] = ("metrics", "dialogues", "groups")
T = TypeVar("T")


class RunDirectory:
    """A run directory open for writing by this process alone; close it, or use it in a ``with`` statement.

    Leaving the ``with`` statement by an error drops the lines not flushed yet: they belong to an unfinished step.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Use ``create`` or ``open``; ``lock`` is the descriptor of the locked file."""
        self.path = path
        self._lock = lock
        self._pending: dict[Kind, list[str]] = {kind: [] for kind in KINDS}

    @classmethod
    def create(cls, path: Path, config: RunConfig, *, supervised: bool = False) -> Self:
        """Start a run in a new or empty folder; raises RunError when it holds something or cannot be written.

        ``supervised``: fine-tuning is all it is to do.
        """
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            refuse_used(path)
            run = cls(path, _lock(path))
            # Another process may have started a run between the look and the lock.
            with _closing_on_error(run):
                refuse_used(path)
                (path / "supervised").unlink(missing_ok=True)
                if supervised:
                    (path / "supervised").touch()
                atomic_write(path / "config.yaml", config.to_yaml())
        return run

    @classmethod
    def open(cls, path: Path) -> Self:
        """Go on with a run; raises RunError when there is none or another process writes it."""
        if not (path / "config.yaml").is_file():
            raise RunError(f"{path} holds no run", expected="a config.yaml that `rapo train` or `rapo sft` wrote")
        with disk_errors(path):
            return cls(path, _lock(path))

    @property
    def config(self) -> RunConfig:
        """The config the run was started with; raises ConfigError when its file was damaged."""
        return load_config(self.path / "config.yaml")

    @property
    def supervised(self) -> bool:
        """Whether fine-tuning is all that the run is to do."""
        return (self.path / "supervised").is_file()

    def change(self, overrides: Sequence[str]) -> None:
        """Change keys of the config that decide no result; raises ConfigError for any other."""
        config = load_config(self.path / "config.yaml", overrides)
        for override in overrides:
            key = override.partition("=")[0].strip()
            if not any(fnmatch(key, pattern) for pattern in CHANGEABLE):
                raise ConfigError(
                    f"a run that was started cannot change {key}",
                    expected=f"one of: {', '.join(CHANGEABLE)}",
                    fix="start another run for it",
                )
        if overrides:
            with disk_errors(self.path):
                atomic_write(self.path / "config.yaml", config.to_yaml())

    def append(self, kind: Kind, step: int, record: Mapping[str, Any]) -> None:
        """Add one line; dataclasses inside ``record`` are encoded by ``to_json``. On disk after ``flush``."""
        line = {"v": FORMAT, "step": step}
        if taken := line.keys() & record.keys():
            raise RunError(f"a record of {kind} cannot be written", got=sorted(taken), expected="other keys")
        self._pending[kind].append(json.dumps(line | to_json(record), allow_nan=False) + "\n")

    def flush(self) -> None:
        """Put every added line on disk, to survive a power cut; raises RunError."""
        for kind, lines in self._pending.items():
            path = self.path / f"{kind}.jsonl"
            if lines:
                with disk_errors(path), path.open("ab+") as file:
                    _cut_torn_line(file)
                    file.write("".join(lines).encode("utf-8"))
                    file.flush()
                    os.fsync(file.fileno())
                lines.clear()

    def truncate(self, step: int) -> None:
        """Drop the lines of steps after ``step`` from every file, each file at once, before a run is resumed there."""
        for kind in KINDS:
            self._pending[kind].clear()
            path = self.path / f"{kind}.jsonl"
            if path.exists():
                kept = (raw for raw, row in _rows(path) if row["step"] <= step)
                with disk_errors(path), atomic_open(path) as file:
                    file.writelines(kept)

    def close(self) -> None:
        """Flush and let other processes write here."""
        try:
            self.flush()
        finally:
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            for lines in self._pending.values():
                lines.clear()
        self.close()


def read_records(path: Path, kind: Kind) -> Iterator[dict[str, Any]]:
    """The lines of one file of the run at ``path``, oldest first, none when nothing was written; takes no lock.

    Raises RunError for a whole line that is not a record of this version.
    """
    file = path / f"{kind}.jsonl"
    if file.exists():
        yield from (row for _, row in _rows(file))


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """A line of the metrics with NaN where JSON has null."""
    return {name: math.nan if value is None else value for name, value in row.items()}


def to_json(value: Any) -> Any:
    """Plain JSON data of dataclasses, mappings with text keys, sequences and scalars; raises RunError otherwise."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise RunError("a value cannot be recorded", got=value, expected="dataclasses, mappings, lists and scalars")


def from_json(kind: type[T], data: Any) -> T:
    """The inverse of ``to_json`` for the dataclass ``kind``; raises RunError naming what does not fit."""
    return typing.cast(T, _decode(kind, data))


def _decode(kind: Any, data: Any) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        return _decode_dataclass(kind, data)
    if origin in {UnionType, Union}:
        arms = [arg for arg in args if arg is not NoneType]
        if data is None and len(arms) < len(args):
            return None
        # A dataclass among the arms is what an object stands for.
        arms.sort(key=lambda arm: is_dataclass(arm) != isinstance(data, dict))
        return _decode(arms[0], data)
    if origin in {dict, Mapping} and isinstance(data, dict):
        return {key: _decode(args[1], item) for key, item in data.items()}
    if origin is tuple and isinstance(data, list):
        return tuple(_decode(args[0], item) for item in data)
    if kind is float and (data is None or type(data) is int):
        return math.nan if data is None else float(data)
    fits = data in args if origin is Literal else kind is Any or isinstance(data, origin or kind)
    if isinstance(data, bool):
        fits = kind in {bool, Any}
    if not fits:
        raise RunError("a record cannot be read", got=data, expected=str(kind))
    return data


def _decode_dataclass(kind: Any, data: Any) -> Any:
    known = {field.name: field.default is MISSING and field.default_factory is MISSING for field in fields(kind)}
    needed = {name for name, required in known.items() if required}
    if not isinstance(data, dict) or not needed <= data.keys() <= known.keys():
        raise RunError("a record cannot be read", got=data, expected=f"{kind.__name__} with {', '.join(known)}")
    return kind(**{name: _decode(_hints(kind)[name], item) for name, item in data.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def atomic_write(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` at once and for good: a reader or a power cut meets the old or the new, whole."""
    with atomic_open(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def atomic_open(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``path`` when the block ends without an error."""
    # A name of its own: another process may be writing the same file.
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a RunError about ``path``."""
    try:
        yield
    except OSError as error:
        fix = "free some space or choose another run.dir"
        raise RunError(f"{path} cannot be written", got=error.strerror or str(error), fix=fix) from error


@contextmanager
def _closing_on_error(run: RunDirectory) -> Iterator[None]:
    try:
        yield
    except BaseException:
        run.close()
        raise


def is_left_over(name: str) -> bool:
    """Whether a file may lie in the folder of a run that is yet to begin: of a start that failed, or an evaluation."""
    return name in {"lock", "evaluations", "supervised"} or name.startswith("journal.sqlite")


def refuse_used(path: Path) -> None:
    """Raise RunError when a folder holds anything that keeps a run from beginning there."""
    # A journal of answers that were paid for before the run began, in an evaluation or a start that failed, is welcome.
    used = sorted(entry.name for entry in path.iterdir() if not is_left_over(entry.name))
    if "config.yaml" in used:
        raise RunError(f"{path} already holds a run", fix=f"choose another run.dir, or go on with `rapo resume {path}`")
    if used:
        raise RunError(f"{path} is not empty", got=used[0], fix="choose another run.dir")


def _lock(path: Path) -> int:
    # The system releases the lock when the process ends, however it ends.
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RunError(f"{path} is being written by another process", fix="wait for it to end, or end it") from None
    return descriptor


def _cut_torn_line(file: BinaryIO) -> None:
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(size - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _rows(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.endswith(b"\n"):
                yield raw, _row(raw, f"line {number} of {path}")


def _row(raw: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(raw)
    except ValueError:
        row = raw.decode("utf-8", "replace")
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise RunError(f"{place} is not a record", got=row, expected="a JSON object with v and step")
    if row.get("v") != FORMAT:
        raise RunError(f"{place} has another format", got=row.get("v"), expected=f"format {FORMAT} of this rapo")
    return row
