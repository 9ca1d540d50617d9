"""What ``rapo eval`` does: measure models given by folder, hub id or run, and print one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rapo.config import RunConfig
from rapo.errors import RunError
from rapo.evals.battery import paying_exploits
from rapo.export import model_source
from rapo.measure import measure
from rapo.parts import Parts
from rapo.progress import Terminal
from rapo.records import atomic_write, disk_errors, to_json
from rapo.show import table
from rapo.stages import prepare
from rapo.supervised import load_policy


def run_eval(config: RunConfig, models: Sequence[str], terminal: Terminal, json_path: Path | None) -> None:
    """Evaluate every model on the same users and print the table, the scripted supporters in it."""
    if json_path and not json_path.parent.is_dir():
        raise RunError(f"{json_path} cannot be written", got=f"no folder {json_path.parent}", fix="make it first")
    prepare(config)
    policies = {name: load_policy(config, model_source(name)) for name in models}
    with Parts(config, config.run.dir, terminal.warn) as parts:
        rows = measure(parts, policies, terminal, title="evaluate", battery=config.eval.exploits)
    terminal.console.print(table(rows))
    if any(row.kind == "exploit" for row in rows):
        paying = paying_exploits(rows, models[0])
        names = ", ".join(f"{row.speaker} ({row.population})" for row in paying)
        terminal.report(f"exploits that beat {models[0]}: {names or 'none'}")
    if json_path:
        with disk_errors(json_path):
            atomic_write(json_path, json.dumps({"v": 1, "rows": to_json(rows)}) + "\n")
