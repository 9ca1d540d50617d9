"""What the docs say is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rapo.alarms import RULES
from rapo.config import load_config

ROOT = Path(__file__).parents[2]


def test_every_logged_metric_is_in_the_glossary_and_the_other_way_round(trained: Path) -> None:
    rows = (trained / "metrics.jsonl").read_text()
    logged = set(re.findall(r'"(\w+)":', rows)) - {"v", "step"}
    text = (ROOT / "docs" / "algorithm.md").read_text().partition("## Glossary")[2].partition("\n## ")[0]
    told = {name for row in re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert rows.count("\n") == 4
    assert logged - told == set()
    # A KL term and a step without corrections are not in this run.
    assert told - logged <= {"reference_kl"}


def test_every_alarm_is_on_the_algorithm_page() -> None:
    alarms = (ROOT / "docs" / "algorithm.md").read_text().partition("## Alarms")[2].partition("\n## ")[0]
    assert {rule.name for rule in RULES} <= set(re.findall(r"[a-z][a-z ]+[a-z]", alarms))


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_a_valid_config_and_on_its_page(path: Path) -> None:
    assert load_config(path).run.dir == Path("runs") / path.stem
    assert f"\n## {path.stem}\n" in (ROOT / "docs" / "recipes.md").read_text()


def test_every_function_in_the_algorithm_page_exists() -> None:
    page = (ROOT / "docs" / "algorithm.md").read_text()
    names = re.findall(r"`((?:interact|hindsight|optimize|ranks)[\w.]*)`", page)
    assert len(names) > 10
    for name in names:
        module, _, function = name.rpartition(".")
        source = (ROOT / "src" / "rapo" / Path(*module.split("."))).with_suffix(".py").read_text()
        assert f"def {function}(" in source or f"class {function}:" in source, name
