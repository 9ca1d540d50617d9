"""SAGE: profiles whose hidden theme stays hidden, and logged dialogues with the emotion after every turn."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rapo.data import describe, load_conversations, load_scenarios, print_summary

ROOT = Path(os.environ.get("RAPO_DATA", Path(__file__).parents[3] / "shared" / "data"))
REAL = ROOT / "sage"
PROFILE = {
    "id": "one",
    "player": "* 姓名：小林\n* 职业：面包师",
    "scene": "烤箱坏了，婚礼的蛋糕没有做成。\n####隐藏主题:\n***你希望对方先听你说完",
    "main_cha": "被动型",
    "cha_group": ["焦虑"],
    "task": "你希望对方先听你说完",
    "first_talk": "唉，这个周末真糟。",
}


def said(text: str, emotion: int, **planning: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, "emotion-point": emotion, **({"planning": planning} if planning else {})}


def log(*emotions: int, answered: bool = True) -> dict[str, Any]:
    history = [said("唉，这个周末真糟。", emotions[0])]
    for number, emotion in enumerate(emotions[1:]):
        history.append({"role": "assistant", "content": f"回复{number}"})
        history.append(said(f"嗯{number}", emotion, activity="心理活动]\n有点乱。", analyse="还行。", change=0))
    history += [] if answered else [{"role": "assistant", "content": "没人回"}]
    row = {**PROFILE, "character": "被动型", "topic": "工作-蛋糕没做成", "history": history}
    return {key: value for key, value in row.items() if key not in ("main_cha", "cha_group", "first_talk")}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def test_a_profile_hides_all_but_the_first_words(tmp_path: Path) -> None:
    (one,) = load_scenarios([lines(tmp_path / "p.jsonl", PROFILE)]).situations
    assert (one.id, one.start, one.scale.name, one.scale.high) == ("one", 40.0, "emotion", 100.0)
    assert [message.content for message in one.opening] == ["唉，这个周末真糟。"]
    assert one.profile == {
        "persona": "* 姓名：小林\n* 职业：面包师",
        "need": "你希望对方先听你说完",
        "facts": ["烤箱坏了，婚礼的蛋糕没有做成。"],
        "temper": "被动型",
    }
    assert not any(word in one.situation for word in ("烤箱", "小林", "听你说完"))


def test_a_log_is_a_dialogue_with_states_and_thoughts(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", log(40, 45, 30), log(40, 100, answered=False))
    one, two = load_conversations([path]).dialogues
    assert one.trajectory == (40.0, 45.0, 30.0)
    assert [turn.reply for turn in one.turns] == ["回复0", "回复1"]
    assert (one.turns[0].reaction.text, one.turns[0].reaction.thought) == ("嗯0", "有点乱。\n还行。")
    # The first log ends with the user, who left; the second with a reply that nobody answered.
    assert (one.done, two.done, len(two.turns)) == (True, False, 1)
    assert not any("蛋糕" in message.content for message in one.messages)


def test_profiles_and_logs_give_the_same_scenario_once(tmp_path: Path) -> None:
    lines(tmp_path / "d.jsonl", log(40, 45))
    lines(tmp_path / "p.jsonl", PROFILE)
    assert [one.id for one in load_scenarios([tmp_path]).scenarios] == ["one"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"history": []}, "history is empty"),
        ({"history": [said("x", 40)]}, "no reply that the user answered"),
        ({"history": [said("x", 40), said("y", 41)]}, "history[1].role is 'user', expected assistant"),
        ({"history": [said("x", 101)]}, "history[0].emotion-point is 101, expected 0 to 100"),
        ({"history": [{"role": "user", "content": "x"}]}, "history[0].emotion-point is missing"),
        ({"history": [said("x", 40), {"role": "assistant", "content": ""}]}, "history[1].content is empty"),
        ({"player": None}, "player is missing"),
    ],
)
def test_a_row_left_out_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    path = lines(tmp_path / "d.jsonl", log(40, 45), {**log(40, 45), **change})
    (problem,) = load_conversations([path]).problems
    assert problem.source == f"{path}:2"
    assert why in problem.why


def test_the_summary_says_how_states_lie_and_move(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", log(40, 45, 30), log(40, 100))
    (one,) = describe([path])
    move = one.movement
    assert move is not None
    # Changes +5, -15, +60: mean 50/3; two up, one down; all of 5 or more, two of 10 or more. States 40 45 30 40 100.
    assert (move.change, move.up, move.down) == pytest.approx((50 / 3, 2 / 3, 1 / 3))
    assert (move.moved, move.leapt, move.least, move.most) == pytest.approx((1.0, 2 / 3, -15, 60))
    # Mean 255/5 = 51; squared distances 121 + 36 + 441 + 121 + 2401 = 3120, over 5 is 624.
    assert (move.mean, move.spread) == pytest.approx((51.0, 624**0.5))
    # After replies: 45, 30, 100: fifths 2, 1 and 4 counted from 0; mean 175/3.
    assert (one.dialogues, one.turns, one.histogram, one.rated) == (2, 3, (0, 1, 1, 0, 1), 1.0)
    assert one.mean == pytest.approx(175 / 3)
    assert one.uses == ("study", "scenarios")
    out = io.StringIO()
    print_summary([one], Console(file=out, width=400, color_system=None))
    assert "emotion 0-100: 51.0 on average, spread 25.0; a reply changes it by +16.7" in out.getvalue()
    assert "-15 to +60; 67% raise it, 33% lower it; 100% by 5 or more, 67% by 10 or more" in out.getvalue()


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the SAGE files are not at {REAL} (set RAPO_DATA)")
def test_real_files() -> None:
    found = {one.path.name: one for one in describe([REAL])}
    assert {name: (one.rows, one.turns, len(one.problems)) for name, one in found.items()} == {
        "dlg_sim4o_gpt-4o.jsonl": (100, 861, 0),
        "dlg_simDSV3_gpt-4.1.jsonl": (97, 822, 3),
        "sage_test_profile_100.jsonl": (100, 0, 0),
    }
    scenarios = load_scenarios([REAL]).situations
    assert len(scenarios) == 100
    for one in scenarios:
        public = one.situation + one.opening[0].content
        assert one.profile["need"] not in public
        assert "####隐藏主题" not in one.profile["facts"][0]


@pytest.mark.skipif(not ROOT.is_dir(), reason=f"the data files are not at {ROOT} (set RAPO_DATA)")
def test_every_real_file_is_known_or_named() -> None:
    found = describe(sorted(ROOT.glob("*/*")))
    unknown = [one for one in found if one.format == "unknown"]
    assert all("the format of" in one.problems[0].why for one in unknown)
    assert {one.path.suffix for one in unknown} <= {"", ".md"}
    mixed = load_scenarios([ROOT])
    assert (len(mixed.situations), len(mixed.negotiations)) == (3876, 450)
