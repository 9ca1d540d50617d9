"""What a report is made of, without a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from made_run import MadeRun
from rapo.errors import RunError
from rapo.records import RunDirectory
from rapo.report import leave_report, write_report
from rapo.report.columns import judge_and_state, spearman
from rapo.report.overview import Samples
from rapo.report.page import Chunks, html_page, source_hash


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MadeRun().write(tmp_path_factory.mktemp("made") / "run")


def unpack(text: str, name: str) -> Any:
    (packed,) = re.findall(rf'<script type="application/gzip" id="{name}">([^<]*)</script>', text)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_everything_recorded_is_in_the_page(run: Path) -> None:
    text = html_page([run])
    index, dialogues, groups = unpack(text, "index"), unpack(text, "dialogues-0"), unpack(text, "groups-0")
    # 4 steps of 6 talks, then 5 talks of each of two speakers; 3 groups a step.
    assert len(dialogues) == len(index["dialogues"]["id"]) == 4 * 6 + 2 * 5
    assert len(groups) == len(index["groups"]["id"]) == 4 * 3
    assert index["runs"][0]["metrics"]["step"] == [1, 2, 3, 4]
    assert [source["speaker"] for source in index["sources"]] == ["policy", "start", "trained"]
    written = [json.loads(line) for line in (run / "dialogues.jsonl").read_text().splitlines()]
    assert dialogues[:24] == [row["dialogue"] for row in written]


def test_a_group_knows_its_dialogue_and_the_dialogue_its_pivotal_turn(run: Path) -> None:
    index = unpack(html_page([run]), "index")
    dialogues, groups = index["dialogues"], index["groups"]
    for place, (dialogue, turn) in enumerate(zip(groups["dialogue"], groups["turn"], strict=True)):
        assert dialogues["id"][dialogue] == groups["id"][place]
        assert [turn, place] in dialogues["pivots"][dialogue]
        states = dialogues["states"][dialogue]
        assert groups["change"][place] == pytest.approx(states[turn + 1] - states[turn], abs=2e-4)


def test_token_ids_stay_out_and_probabilities_come_with_the_words_only(run: Path) -> None:
    (group, *_) = unpack(html_page([run]), "groups-0")
    assert group["group"]["candidates"][0]["completion"].keys() == {"text", "finished", "logps"}
    assert len(group["pieces"]["corrections"]) == len(group["token_divergences"]) == 2


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    assert html_page([run]) == html_page([run])


def test_chunks_say_where_each_begins() -> None:
    chunks = Chunks("x", most=40)
    for number in range(5):
        chunks.add({"n": "a" * 8, "i": number})  # 22 characters: two fill a block
    chunks.close()
    assert chunks.starts == [0, 2, 4]
    found = [[record["i"] for record in unpack(block, f"x-{i}")] for i, block in enumerate(chunks.blocks)]
    assert found == [[0, 1], [2, 3], [4]]


def test_the_policy_names_the_hashes_of_the_script_and_the_style(run: Path) -> None:
    text = html_page([run])
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[0]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert f"script-src {source_hash(script)};" in policy and f"style-src {source_hash(style)};" in policy
    assert "unsafe" not in policy and policy.startswith("default-src 'none';")
    # echo -n abc | openssl dgst -sha256 -binary | base64
    assert source_hash("abc") == "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='"


def test_the_script_makes_no_markup_of_texts(run: Path) -> None:
    text = html_page([run])
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert not re.search(r"\son\w+=|(?:src|href)=\"(?!#)", text)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3], [10, 20, 30], 1),
        ([1, 2, 3], [3, 2, 1], -1),
        # ranks (1, 2, 3, 4) and (2, 1, 4, 3): 1 - 6 * 4 / (4 * 15)
        ([1, 2, 3, 4], [2, 1, 4, 3], 0.6),
        # about their means (-1, .5, .5) and (-1, 0, 1): 1.5 / sqrt(1.5 * 2)
        ([1, 2, 2], [1, 2, 3], 0.8660254),
        ([1, 1], [1, 2], None),
    ],
)
def test_spearman(a: list[float], b: list[float], expected: float | None) -> None:
    assert spearman(a, b) == pytest.approx(expected)


def test_a_judge_that_goes_by_the_states_agrees_with_them() -> None:
    candidates = [{"reaction": {"state": state}} for state in (2.0, 5.0, 3.0)]
    feedback = [{"rank": rank} for rank in (3, 1, 2)]
    assert judge_and_state({"group": {"candidates": candidates, "feedback": feedback}}) == pytest.approx(1)
    assert judge_and_state({"group": {"candidates": candidates, "feedback": None}}) is None


def test_an_interval_is_1_96_standard_errors() -> None:
    samples = Samples()
    for value in (1.0, 3.0):
        samples.add("x", 7, value)
    samples.add("x", 8, 5.0)
    # mean 2, variance (1 + 1) / 1 = 2, standard error sqrt(2 / 2) = 1; one value has no interval
    assert samples.intervals() == {"x": [(7, pytest.approx(0.04), pytest.approx(3.96))]}


def test_a_run_that_goes_on_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    run = MadeRun(steps=2).write(tmp_path / "run")
    (run / "evaluation-after.json").unlink()
    with (run / "groups.jsonl").open("a") as file:
        file.write('{"v": 1, "step": 3, "gro')
    assert unpack(html_page([run]), "index")["runs"][0]["status"]["state"] == "stopped"
    with RunDirectory.open(run):
        index = unpack(html_page([run]), "index")
    assert index["runs"][0]["status"] == {"state": "going on", "done": 2, "steps": 40, "seed": 0}
    assert len(index["groups"]["id"]) == 2 * 3
    assert [result["source"] for result in index["results"]] == [1]


def test_a_run_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    run = MadeRun(steps=0, evaluated=1).write(tmp_path / "run")
    for name in ("before", "after"):
        (run / f"evaluation-{name}.json").unlink()
    assert unpack(html_page([run]), "index")["dialogues"]["id"] == []


def test_a_folder_without_a_run_and_one_that_cannot_be_written(tmp_path: Path, run: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        html_page([tmp_path])
    with pytest.raises(RunError, match="none holds no run"):
        write_report([tmp_path / "none"], tmp_path / "none" / "report.html")
    with pytest.raises(RunError, match="no folder"):
        write_report([run], tmp_path / "nowhere" / "x.html")


def test_a_report_that_fails_stops_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    leave_report(tmp_path, told.append)
    assert len(told) == 1 and told[0].startswith("no report.html was written: ")


def test_no_torch_is_loaded(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['rapo', 'view', *sys.argv[1:], '--no-open']; from rapo.cli import app\n"
        "app(standalone_mode=False); print({'torch', 'transformers'} & set(sys.modules))"
    )
    args = [sys.executable, "-c", code, str(run), "--out", str(tmp_path / "x.html")]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()" and (tmp_path / "x.html").stat().st_size > 10_000
