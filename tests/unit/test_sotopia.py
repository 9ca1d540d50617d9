"""SOTOPIA's files joined: who may read what, which combinations can be played, and the files as published."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rapo.data import describe, load_scenarios, load_sotopia, set_aside
from rapo.data.sotopia import untag
from rapo.errors import DataError

REAL = Path(os.environ.get("RAPO_DATA", Path(__file__).parents[3] / "shared" / "data")) / "sotopia"
GOALS = [
    "Borrow the boat (<extra_info>Extra: yours SANK.<strategy_hint>Hint: offer FISH.</strategy_hint></extra_info>)",
    "Keep the boat (<clarification_hint>Hint: it LEAKS.</clarification_hint>)",
]


def environment(ident: str, relation: int, **more: Any) -> dict[str, Any]:
    scenario = 'Two people at a lake. <p viewer="environment">The boat is STOLEN.</p>'
    row = {
        "env_id": ident,
        "codename": "boat",
        "scenario": scenario,
        "agent_goals": GOALS,
        "relationship": f"{relation}",
    }
    return {**row, "age_constraint": "[(18, 70), (18, 70)]", **more}


def character(ident: str, first: str, age: int = 30) -> dict[str, Any]:
    return {
        "agent_id": ident,
        "first_name": first,
        "last_name": "Lake",
        "age": age,
        "gender": "Woman",
        "gender_pronoun": "She/her",
        "occupation": "Pilot",
        "public_info": f"{first} keeps BEES.",
        "personality_and_values": f"{first} is PATIENT.",
        "secret": f"{first} cannot SWIM.",
    }


def combination(ident: str, environment: str, *characters: str) -> dict[str, Any]:
    return {"combo_id": ident, "env_id": environment, "agent_ids": list(characters)}


def folder(path: Path, **files: list[dict[str, Any]]) -> Path:
    for name, rows in files.items():
        (path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return path


CAST = [character("a", "Ada"), character("b", "Bea"), character("k", "Kit", 9)]


def playing(path: Path, relation: int) -> Path:
    return folder(path, e=[environment("e", relation)], a=CAST, c=[combination("c", "e", "a", "b")])


@pytest.mark.parametrize("relation", range(6))
def test_each_side_is_told_its_own_goal_and_what_the_relationship_allows(tmp_path: Path, relation: int) -> None:
    (one,) = load_scenarios([playing(tmp_path, relation)]).negotiations
    brief, greeting = (message.content for message in one.opening)
    hidden = json.dumps(one.profile)
    assert (one.id, one.situation, one.start, one.scale.name) == (
        "boat/c",
        "Two people at a lake.",
        0.0,
        "goal progress",
    )
    assert greeting == ("Hello." if relation == 0 else "Hello, Ada.")
    for mine in ("Ada Lake", "30-year-old female pilot", "Ada is PATIENT.", "Ada cannot SWIM.", "SANK", "FISH"):
        assert mine in brief
    for mine in ("Bea Lake", "Bea is PATIENT.", "Bea cannot SWIM.", "LEAKS"):
        assert mine in hidden
    public = one.situation + greeting
    assert not any(word in public for word in ("SANK", "FISH", "LEAKS", "SWIM", "STOLEN", "BEES"))
    for other, side in (("Bea", brief), ("Ada", hidden)):
        assert (f"{other} Lake" in side) == (relation >= 1)
        assert (f"{other} keeps BEES." in side) == (relation >= 2)
        assert (f"{other} is PATIENT." in side) == (relation >= 3)
        assert f"{other} cannot SWIM." not in side
    assert "LEAKS" not in brief and "SANK" not in hidden and "FISH" not in hidden
    assert "STOLEN" not in brief + hidden
    assert "<" not in brief + hidden + public


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a (<extra_info>b <strategy_hint>c</strategy_hint></extra_info>) d", "a (b c) d"),
        ("a <p viewer='agent_1'>b <extra_info>c</extra_info></p> d", "a  d"),
        ("a <p>b</p> <root>c</root>", "a b c"),
        ("a <p viewer='environment'>b", "a"),
        ("a </p> b <extra_info>c", "a  b c"),
        ("<extra_info>a <p viewer='x'>b</extra_info> c", "a  c"),
        ("1 < 2 <b>bold</b> <pre> a > b", "1 < 2 <b>bold</b> <pre> a > b"),
    ],
)
def test_tags(text: str, kept: str) -> None:
    assert untag(text) == kept


def test_combinations_that_cannot_be_played_are_named(tmp_path: Path) -> None:
    related = [
        {"relationship_id": "1", "agent1_id": "b", "agent2_id": "a", "relationship": "2", "background_story": "x"},
        {"relationship_id": "2", "agent1_id": "a", "agent2_id": "b", "relationship": "4", "background_story": "x"},
    ]
    combinations = [
        combination("1", "e", "a", "b"),
        combination("2", "e", "a", "k"),
        combination("3", "e", "a", "z"),
        combination("4", "z", "a", "b"),
        combination("5", "e", "a"),
        combination("6", "f", "a", "b"),
    ]
    path = folder(tmp_path, e=[environment("e", 2), environment("f", 3)], a=CAST, c=combinations, r=related)
    loaded = load_scenarios([path])
    assert [one.id for one in loaded.negotiations] == ["boat/1"]
    why = {problem.source.removeprefix(f"{path / 'c.jsonl'}:"): problem.why for problem in loaded.problems}
    assert why == {
        "5": "agent_ids is a list, expected a list of two ids",
        "2": "Kit Lake is 9 years old, expected 18 to 70",
        "3": "agent_ids holds z, and there is no such character",
        "4": "env_id is z, and there is no such environment",
        "6": "the two characters are acquaintances or a couple, expected friends",
    }


def test_a_file_alone_says_what_it_needs(tmp_path: Path) -> None:
    path = playing(tmp_path, 0)
    with pytest.raises(DataError, match=r"environment_profiles and agent_profiles are missing, give the folder"):
        load_scenarios([path / "c.jsonl"])
    (alone,) = describe([path / "a.jsonl"])
    assert (alone.rows, alone.uses) == (3, ())
    assert "environment_profiles and env_agent_combo_storages are missing" in alone.problems[0].why


def test_id_lists_choose_environments(tmp_path: Path) -> None:
    combinations = [combination("1", "e", "a", "b"), combination("2", "f", "a", "b"), combination("3", "f", "b", "a")]
    path = folder(tmp_path, e=[environment("e", 2), environment("f", 3)], a=CAST, c=combinations)
    lists = {"sotopia_hard": ["f"], "all": ["e", "f"]}
    (path / "lists.json").write_text(json.dumps(lists, indent=1))
    assert [one.id for one in load_scenarios([f"{path}#sotopia_hard"]).negotiations] == ["boat/2", "boat/3"]
    assert len(load_scenarios([path]).negotiations) == 3
    with pytest.raises(DataError, match="no id list easy, expected one of: sotopia_hard, all"):
        load_scenarios([f"{path}#easy"])
    notes = {one.path.name: one.notes for one in describe([path])}
    assert notes["c.jsonl"] == ("3 scenarios (2 in sotopia_hard, 3 in all)",)


def test_both_sides_in_turn_and_every_environment_before_any_twice(tmp_path: Path) -> None:
    combinations = [combination("1", "e", "a", "b"), combination("2", "e", "b", "a"), combination("3", "f", "a", "b")]
    path = folder(tmp_path, e=[environment("e", 2), environment("f", 3)], a=CAST, c=combinations)
    (path / "lists.json").write_text(json.dumps({"sotopia_hard": ["f"]}))
    found = load_sotopia([path])
    ids = [f"boat/{pair}/{side}" for pair in (1, 3, 2) for side in ("first", "second")]
    assert [one.id for one in found] == ids
    assert load_sotopia([f"{path}#sotopia_hard"]) == load_sotopia([path], ["sotopia_hard"]) == found[2:4]
    first, second = found[:2]
    assert "You are Ada Lake" in first.opening[0].content and "Borrow" in first.opening[0].content
    assert "Bea cannot SWIM." in first.profile["secret"] and "Keep" in first.profile["goal"]
    assert "You are Bea Lake" in second.opening[0].content and "Keep" in second.opening[0].content
    assert "Ada cannot SWIM." in second.profile["secret"] and "Borrow" in second.profile["goal"]
    assert "LEAKS" in second.opening[0].content and "Ada keeps BEES." in second.opening[0].content
    assert not any(word in second.opening[0].content for word in ("SANK", "FISH", "Ada cannot SWIM."))
    assert second.opening[1].content == "Hello, Bea."


def test_what_is_measured_does_not_shrink_in_silence(tmp_path: Path) -> None:
    path = playing(tmp_path, 0)
    (path / "more.jsonl").write_text(json.dumps(combination("2", "e", "a", "k")))
    with pytest.raises(DataError, match=r"1 rows of SOTOPIA cannot be used, the first is .*Kit Lake is 9 years old"):
        load_sotopia([path])
    (path / "more.jsonl").write_text(json.dumps(combination("2", "e", "a", "b")) + "\n{")
    with pytest.raises(DataError, match=r"1 rows of SOTOPIA cannot be used, the first is .*bad JSON"):
        load_sotopia([path])
    (tmp_path / "talk.jsonl").write_text(json.dumps({"situation": "rain"}))
    with pytest.raises(DataError, match="there is no SOTOPIA scenario in"):
        load_sotopia([tmp_path / "talk.jsonl"])


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the SOTOPIA files are not at {REAL} (set RAPO_DATA)")
def test_real_files() -> None:
    rows = {one.path.name: one.rows for one in describe([REAL])}
    assert rows == {
        "agent_profiles.jsonl": 40,
        "env_agent_combo_storages.jsonl": 450,
        "env_id_lists.json": 1,
        "environment_profiles.jsonl": 90,
        "relationship_profiles.jsonl": 120,
    }
    loaded = load_scenarios([REAL])
    assert (len(loaded.negotiations), loaded.problems) == (450, ())
    assert len(load_scenarios([f"{REAL}#sotopia_hard"]).negotiations) == 14 * 5
    # All combinations of an environment stay on one side of the split.
    sides: dict[str, set[bool]] = {}
    for one in loaded.negotiations:
        sides.setdefault(one.situation, set()).add(set_aside(one))
        brief = one.opening[0].content
        hidden = {"secret": one.profile["secret"], "goal": one.profile["goal"]}
        mine = brief.rpartition("which only you know: ")[2]
        assert hidden["secret"] not in brief
        # Some environments give both sides the same goal.
        assert hidden["goal"] == mine or hidden["goal"] not in brief
        assert "<" not in brief + json.dumps(one.profile) and "common friends:" not in brief
    assert all(len(side) == 1 for side in sides.values())
    every = load_sotopia([REAL])
    hard = {one.id for one in load_sotopia([REAL], ["sotopia_hard"])}
    assert (len(every), len(hard), len({one.id for one in every})) == (900, 140, 900)
    # Both sides of the first 90 combinations are 90 environments.
    assert len({(one.situation, one.profile["goal"]) for one in every[:180:2]}) == 90
    assert hard <= {one.id for one in every}
