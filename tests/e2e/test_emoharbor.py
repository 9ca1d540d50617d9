"""Users who judge, behind a real HTTP server: killed in the middle, the evaluation goes on and asks nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fake_llm import fake_llm
from fault_server import FaultServer

from .conftest import DEMO, run_rapo

CALLS = 4 * (2 * (1 + 3) + 1)  # users x (turns x (a reply and three roles) + a rating)


def command(url: str, folder: Path) -> list[str]:
    given = [f"run.dir={folder}", "suites.users=user", "suites.items=4", "eval.turns=2", "eval.bootstrap=50"]
    for name in ("speaker", "user"):
        given += [f"models.{name}.{key}" for key in (f"url={url}", f"name={name}", "concurrency=1")]
    overrides = [part for each in given for part in ("--set", each)]
    return ["eval", "speaker", "--suite", "emoharbor", "--config", DEMO, *overrides]


def results(folder: Path) -> Any:
    return json.loads((folder / "evaluations" / "emoharbor--speaker.json").read_text())["results"]


def test_an_evaluation_that_is_killed_asks_nothing_twice(launch: Callable[..., BaseProcess], tmp_path: Path) -> None:
    running: list[BaseProcess] = []

    def deadly(body: dict[str, Any]) -> str:
        if server.count == CALLS // 2 and len(running) == 1:
            running[0].kill()
            wait([running[0].sentinel])
            running.clear()
        return fake_llm(body)

    with FaultServer(reply=fake_llm) as server:
        assert run_rapo(*command(server.url, tmp_path / "whole")).code == 0
        assert server.count == CALLS
    with FaultServer(reply=deadly) as server:
        running.append(process := launch(*command(server.url, tmp_path / "killed")))
        process.join(60)
        assert process.exitcode == -9 and server.count == CALLS // 2
        assert run_rapo(*command(server.url, tmp_path / "killed")).code == 0
        asked = Counter(json.dumps(hit.body, sort_keys=True) for hit in server.hits)
    # The one answer that was under way at the kill is asked for again.
    assert len(asked) == CALLS and server.count == CALLS + 1
    (one,), (two,) = results(tmp_path / "whole"), results(tmp_path / "killed")
    assert one == two and one["lost"] == 0 and len(one["items"]) == 4
    assert one["figures"]["experience"]["mean"] == 4  # "Hello." asks nothing
