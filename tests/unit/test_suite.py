"""Results: compared item by item, kept on disk, and what a comparison can and cannot find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from rapo.config import RunConfig
from rapo.errors import ConfigError, DataError, RunError
from rapo.evals.battery import standing_exploits
from rapo.evals.results import read_results, write_results
from rapo.evals.stats import Interval
from rapo.evals.suite import Item, Result, compare
from rapo.models.chat import ChatRequest
from rapo.models.stand_in import answer
from rapo.parts import Parts
from rapo.progress import Terminal
from rapo.show import verdict
from rapo.suites import make_suites
from rapo.types import Dialogue, Message, Scenario


def result(speaker: str, scores: dict[str, float], users: str = "all") -> Result:
    items = tuple(Item(name, {"change": score}) for name, score in scores.items())
    return Result("talks", speaker, users, "change", items, {"change": Interval(0.0, 0.0, 0.0)})


def test_pairs_are_items_not_places():
    a = result("a", {"x": 1.0, "y": 5.0, "z": 2.0})
    b = result("b", {"z": 2.0, "y": 1.0, "w": 9.0})
    found = compare(a, b, seed=0, samples=50)
    # Both have y (5 - 1 = 4) and z (2 - 2 = 0): a mean of 2, one win, one tie.
    assert (found.difference.mean, found.wins, found.ties, found.losses) == (2.0, 1, 1, 0)


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        # Talks are far apart and gains are not: pair by pair they can be told, by intervals of the policies not.
        ((1.0, 1.0, 1.0), "all: training clearly helped, +1.00 [+1.00, +1.00] against the start."),
        ((-1.0, -1.0, -1.0), "all: training clearly HURT, -1.00 [-1.00, -1.00] against the start."),
        # Three pairs, of which one is negative: a resample may hold it alone.
        ((2.0, 2.0, -1.0), "all: no difference is shown, +1.00 [-1.00, +2.00] against the start."),
    ],
)
def test_the_end_of_a_run_says_what_training_changed(gains, said, capsys):
    start = {"x": 0.0, "y": 40.0, "z": 80.0}
    trained = {name: score + gain for (name, score), gain in zip(start.items(), gains, strict=True)}
    verdict([result("start", start), result("trained", trained)], Terminal())
    assert capsys.readouterr().out.splitlines() == [said]


def test_what_shares_nothing_is_not_compared():
    with pytest.raises(DataError, match="share no item"):
        compare(result("a", {"x": 1.0}), result("b", {"y": 1.0}), seed=0, samples=50)
    with pytest.raises(DataError, match="different suites"):
        compare(result("a", {"x": 1.0}), result("b", {"x": 1.0}, users="others"), seed=0, samples=50)


@pytest.mark.parametrize(
    ("differences", "named"),
    [
        ((-1.0, -1.0, -1.0, -1.0), False),
        ((1.0, 1.0, 1.0, 1.0), True),
        # The mean is higher by 0.25, and no interval of four such pairs lies off zero.
        ((4.0, -1.0, -1.0, -1.0), True),
        # Lower by 0.75, and above zero in resamples that draw the first pair twice or more of four: 26%.
        ((3.0, -2.0, -2.0, -2.0), True),
        # Talks differ by 100 times as much as the exploit lies below: only pair by pair can that be seen.
        ((-0.9, -1.1, -1.0, -1.0), False),
    ],
)
def test_an_exploit_is_named_unless_it_is_clearly_below_talk_by_talk(differences, named):
    talks = {"w": 0.0, "x": 30.0, "y": 60.0, "z": 90.0}
    scores = {name: score + more for (name, score), more in zip(talks.items(), differences, strict=True)}
    exploit = replace(result("parrot", scores), kind="exploit")
    found = standing_exploits([result("policy", talks), exploit, result("other", talks)], "policy")
    assert found == ([exploit] if named else [])


@pytest.mark.parametrize(("effect", "least", "most"), [(0.0, 0, 12), (1.5, 95, 100)])
def test_a_planted_difference_is_found_and_a_planted_null_is_not(effect, least, most):
    """100 trials at a level of 95%: by chance some 5 of the null's intervals lie off zero (12 or more: p < 0.005)."""
    found = 0
    for trial in range(100):
        random = Random(trial)
        base = [random.gauss(0, 3) for _ in range(64)]
        a = result("a", {str(i): x + random.gauss(effect, 2) for i, x in enumerate(base)})
        b = result("b", {str(i): x + random.gauss(0, 2) for i, x in enumerate(base)})
        interval = compare(a, b, seed=trial, samples=400).difference
        found += interval.low > 0 or interval.high < 0
    assert least <= found <= most


def test_results_are_read_back_as_they_were_written(tmp_path: Path):
    talk = Dialogue(Scenario("x", "A case.", (Message("user", "Hi."),), 5.0))
    item = Item("x", {"change": 1.5}, talk, "why")
    written = [Result("s", "a", "all", "change", (item,), {"change": Interval(1.5, 1.0, 2.0), "turns": 3.0}, lost=2)]
    path = tmp_path / "results.json"
    write_results(path, written, settings="these")
    assert read_results(path) == read_results(path, settings="these") == written
    assert read_results(path, settings="others") is None
    assert read_results(tmp_path / "none.json") is None


def test_a_file_of_another_version_is_not_guessed_at(tmp_path: Path):
    path = tmp_path / "results.json"
    path.write_text('{"v": 1, "rows": []}')
    with pytest.raises(RunError, match="holds no results of this rapo"):
        read_results(path)


@pytest.mark.parametrize(
    ("held", "lacking"),
    [
        ('{"v": 2, "results": []}', "settings"),
        ('{"v": 2, "settings": ""}', "results"),
        ('{"v": 2, "settings": "", "results": 3}', "got 3"),
        ('{"v": 2, "settings": "", "results": [{"suite": "s"}]}', "speaker"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, held: str, lacking: str):
    path = tmp_path / "results.json"
    path.write_text(held)
    with pytest.raises(RunError, match=f"{path} is damaged.*{lacking}.*evaluate again") as found:
        read_results(path, settings="these")
    assert len(str(found.value).splitlines()) == 1


def test_the_stand_in_answers_in_the_wanted_form_and_always_alike():
    schema = {
        "type": "object",
        "properties": {
            "goal": {"type": "number"},
            "secret": {"type": "number", "minimum": -10, "maximum": 0},
            "act": {"type": "string"},
            "done": {"type": "boolean"},
            "labels": {"type": "array", "items": {"enum": ["question", "other"]}},
        },
    }
    request = ChatRequest((Message("user", 'Answer with {"goal": 7, "act": "speak"}'),), "rate", 3, schema)
    found = answer(request)
    assert found == answer(request)
    assert found == '{"goal": 7, "secret": -10, "act": "speak", "done": false, "labels": ["question"]}'


def test_all_names_what_the_recipe_lacks_and_nothing_else(tmp_path: Path):
    told: list[str] = []
    config = RunConfig(suites={"esconv": ["no-such-file.json"]}, models={"m": {"path": "rapo.models.stand_in:answer"}})  # type: ignore[arg-type]
    with Parts(config, tmp_path, told.append) as parts, pytest.raises(DataError, match="no-such-file"):
        make_suites(parts, ["all"])
    told.clear()
    with Parts(RunConfig(), tmp_path, told.append) as parts:
        found = [suite.name for suite in make_suites(parts, ["all"])]
    assert found == ["support", "bargaining", "safety"]
    assert [line.partition(": ")[2].split()[2] for line in told] == ["esconv", "emoharbor", "sotopia"]
    with Parts(RunConfig(), tmp_path, told.append) as parts, pytest.raises(ConfigError, match="no such suite"):
        make_suites(parts, ["suport"])
