"""Tables of the ``datasets`` library: on the Hugging Face hub (``hf:NAME`` or ``hf:NAME:SPLIT``) or saved to disk."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rapo.data.rows import Row
from rapo.errors import DataError

HUB = "hf:"
SPLIT = "train"
_SAVED = (("dataset_dict.json",), ("state.json", "dataset_info.json"))


def is_table(given: str) -> bool:
    """Whether it names a table on the hub or a folder written by ``datasets.save_to_disk``."""
    return given.startswith(HUB) or any(all(Path(given, name).is_file() for name in names) for names in _SAVED)


def table_rows(given: str) -> list[Row]:
    """The rows of a table, counted from 1 through all splits of a folder; a cell without a value is absent.

    Raises:
        DataError: the ``datasets`` library is missing, or the table cannot be read.
    """
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        raise DataError(
            f"cannot read {given}", got="no datasets library", fix="run pip install 'rapo-rl[datasets]'"
        ) from None
    try:
        return [Row(number, _present(row)) for number, row in enumerate(_rows(library, given), start=1)]
    # The library passes on whatever its backends raise: files, network, Arrow, permissions.
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise DataError(
            f"cannot read {given}", got=why, expected="hf:NAME, hf:NAME:SPLIT or a saved dataset", fix="check the name"
        ) from None


def _rows(library: Any, given: str) -> Iterator[Mapping[str, Any]]:
    if given.startswith(HUB):
        name, _, split = given.removeprefix(HUB).partition(":")
        yield from library.load_dataset(name, split=split or SPLIT)
        return
    saved = library.load_from_disk(given)
    for table in saved.values() if isinstance(saved, Mapping) else [saved]:
        yield from table


def _present(value: Any) -> Any:
    """``value`` without the keys that Arrow fills in, as every row of a table has every column."""
    if isinstance(value, Mapping):
        return {key: _present(one) for key, one in value.items() if one is not None}
    return [_present(one) for one in value] if isinstance(value, list | tuple) else value
