"""``rapo eval --suite sotopia`` offline, everybody played by the stand-in for a language model."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import DEMO, one_line, run_rapo

DATA = Path(__file__).parents[2] / "examples" / "data" / "sotopia"


def command(folder: Path, *given: str) -> list[str]:
    settings = [f"run.dir={folder}", "models.m.path=rapo.models.stand_in:answer", "eval.bootstrap=50", *given]
    settings += ["suites.users=m", "suites.judge=m"]
    return ["eval", "m", "--suite", "sotopia", "--config", DEMO, *[p for each in settings for p in ("--set", each)]]


def test_every_side_of_every_pair(tmp_path: Path) -> None:
    ran = run_rapo(*command(tmp_path, f"suites.sotopia=[{DATA}]"))
    assert ran.code == 0, ran
    (found,) = json.loads((tmp_path / "evaluations" / "sotopia--m.json").read_text())["results"]
    pairs = ["boat/c1", "last_ticket/c3", "boat/c2"]
    assert [item["id"] for item in found["items"]] == [
        f"{pair}/{side}" for pair in pairs for side in ("first", "second")
    ]
    # The stand-in answers with the numbers of the prompt's own example: 5, 0, 0, 0, 0, 0 and 5, whose mean is 10 / 7.
    who = "rapo.models.stand_in:answer"
    assert (found["main"], found["users"], found["lost"]) == ("goal", f"{who} judged by {who}", 0)
    assert found["figures"]["goal"]["mean"] == found["figures"]["goal_hard"]["mean"] == 5
    assert round(found["figures"]["overall"]["mean"], 6) == round(10 / 7, 6)
    assert all(1 <= len(item["dialogue"]["turns"]) <= 10 for item in found["items"])


def test_without_scenarios_the_way_out_is_named(tmp_path: Path) -> None:
    expected = "the suite sotopia has no scenarios; expected suites.sotopia=[FOLDER]"
    assert expected in one_line(run_rapo(*command(tmp_path)))
