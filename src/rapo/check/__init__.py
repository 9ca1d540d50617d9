"""``rapo check``: everything a run will need, looked at in half a minute, a verdict and a way out per line."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rapo.check.data import check_data
from rapo.check.estimate import estimate
from rapo.check.findings import Finding
from rapo.check.hurry import HurriedParts
from rapo.check.local import check_machine
from rapo.check.remote import check_model
from rapo.check.roles import check_roles, needed_context, used_models, workers
from rapo.config import RunConfig

__all__ = ["Finding", "check"]
SECONDS = 22.0  # after which no model is waited for


def check(config: RunConfig) -> Iterator[Finding]:
    """The findings on a run of ``config``, as they come; nothing is written but in a temporary folder."""
    end = time.monotonic() + SECONDS
    with tempfile.TemporaryDirectory(prefix="rapo-check-") as name, HurriedParts(config, Path(name), end) as parts:
        yield from check_machine(config)
        yield from check_data(config, parts)
        if used := used_models(config):
            yield from _models(config, used, parts)
            yield from estimate(config, parts.journal.averages())


def _models(config: RunConfig, used: Sequence[str], parts: HurriedParts) -> Iterator[Finding]:
    """All models side by side, then each role in the run's own words where its model can be asked."""
    lost: set[str] = set()
    # Opened before several threads want it.
    parts.journal.totals()
    with ThreadPoolExecutor(workers(config)) as pool:
        asked = {name: pool.submit(check_model, parts, name, needed_context(config, parts, name)) for name in used}
        for name, future in asked.items():
            found = future.result()
            yield from found
            if any(each.level == "fail" for each in found) or len(found) == 1:
                lost.add(name)
    yield from check_roles(config, parts, lost)
