"""Users who judge, behind a real HTTP server: killed in the middle, the suite goes on without asking anything twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from fake_llm import fake_llm
from fault_server import FaultServer

PROGRAM = """
import json, sys
from pathlib import Path
from rapo.config.sections import Calls, ModelSpec
from rapo.data import load_scenarios
from rapo.evals.emoharbor import PROFILES, EmoHarbor
from rapo.models.connect import connect
from rapo.models.journal import Journal
from rapo.records import to_json

class Asks:
    def reply(self, dialogues, seeds):
        return ["What happened then?" if "I" in each.messages[-1].content else "I see." for each in dialogues]

url, folder = sys.argv[1], Path(sys.argv[2])
journal = Journal(folder / "journal.sqlite")
model = connect(ModelSpec(url=url, name="m", concurrency=1), journal, "evaluation", Calls(), label="m", notice=print)
suite = EmoHarbor(load_scenarios([PROFILES], "support").scenarios[:4], [model], turns=2, samples=50)
results = suite.run("asks", Asks())
journal.close()
(folder / "results.json").write_text(json.dumps(to_json(results)))
"""


def run(url: str, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(folder)])


def test_a_suite_that_is_killed_asks_nothing_twice(tmp_path: Path) -> None:
    running: list[subprocess.Popen[bytes]] = []

    def deadly(body: dict[str, Any]) -> str:
        if len(running) == 1 and server.count == 11:
            running[0].kill()
            running[0].wait()
        return fake_llm(body)

    with FaultServer(reply=fake_llm) as server:
        assert run(server.url, tmp_path / "whole").wait(60) == 0
        whole = server.count
    with FaultServer(reply=deadly) as server:
        running.append(run(server.url, tmp_path / "killed"))
        assert running[0].wait(60) == -signal.SIGKILL
        before = server.count
        running.append(run(server.url, tmp_path / "killed"))
        assert running[1].wait(60) == 0
        asked = Counter(json.dumps(hit.body, sort_keys=True) for hit in server.hits)
    # 4 users x (2 turns x 3 roles + 1 rating); the one answer that was under way at the kill is asked for again.
    assert whole == len(asked) == 4 * 7 and before < whole
    assert sorted(asked.values())[-2:] == [1, 2] and server.count == whole + 1
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "killed"))
    assert one == two and [each["lost"] for each in one] == [0]
