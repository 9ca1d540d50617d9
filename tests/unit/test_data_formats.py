"""Files of every format, corrupt rows, and what cannot be used at all."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from rapo.data import describe, load_conversations, print_summary
from rapo.data.esconv import detokenise
from rapo.errors import DataError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "esconv"
REAL = Path(os.environ.get("RAPO_DATA", Path(__file__).parents[3] / "shared" / "data")) / "esconv"
USER, REPLY = {"role": "user", "content": "hi there"}, {"role": "assistant", "content": "hello"}


def chat(**extra: object) -> str:
    return json.dumps({"messages": [USER, REPLY], **extra})


def test_esconv_merges_and_aligns() -> None:
    loaded = load_conversations([FIXTURES / "ESConv.small.json"])
    talk = loaded.conversations[0]
    assert [(m.role, m.content) for m in talk.messages] == [
        ("assistant", "Hello, what brings you here?"),
        ("user", "Hi\nmy team moves abroad and I stay behind"),
        ("assistant", "That must feel lonely.\nWhat worries you most?"),
        ("user", "being forgotten"),
        ("assistant", "Could you ask for a weekly call?"),
        ("user", "maybe, I like that"),
        ("assistant", "You are welcome."),
    ]
    assert talk.ratings == (None, 4.0, None)
    assert talk.strategies[1] == ("Reflection of feelings", "Question")
    assert (talk.start, talk.end) == (5.0, 2.0)
    assert (talk.id, talk.source.rsplit(":", 1)[1]) == ("ESConv.small.json:2", "2")


def test_esconv_as_scenario_and_dialogue() -> None:
    first, second = load_conversations([FIXTURES / "ESConv.small.json"]).conversations
    scenario, dialogue = first.to_scenario(), first.to_dialogue()
    assert [message.role for message in scenario.opening] == ["assistant", "user"]
    assert (scenario.scale.low, scenario.scale.high, scenario.profile) == (1.0, 5.0, {})
    # Nothing rated at first: the middle, 3; then a 4; then none: 4 is carried. The last reply has no echo.
    assert dialogue.trajectory == (3.0, 4.0, 4.0)
    assert dialogue.messages == first.messages[:-1]
    # The opening message carries a rating of its own.
    assert second.to_dialogue().trajectory == (2.0, 1.0)


def test_esconv_problems_name_the_line_of_the_element() -> None:
    text = (FIXTURES / "ESConv.small.json").read_text().splitlines()
    starts = [number for number, line in enumerate(text, start=1) if line == " {"]
    problems = load_conversations([FIXTURES / "ESConv.small.json"]).problems
    assert [int(problem.source.rsplit(":", 1)[1]) for problem in problems] == starts[2:]
    assert "'robot'" in problems[0].why
    assert "feedback is 9, expected 1 to 5" in problems[1].why


def test_broken_element_of_an_array_costs_only_itself(tmp_path: Path) -> None:
    text = (FIXTURES / "ESConv.small.json").read_text()
    path = tmp_path / "broken.json"
    path.write_text(text.replace('"experience_type":', '"experience_type" "', 1))
    loaded = load_conversations([path])
    assert [talk.situation for talk in loaded.conversations] == ["The oven broke before the party."]
    assert loaded.problems[0].source == f"{path}:2"
    path.write_text(text[: text.index('"Bad speaker."')])
    cut = load_conversations([path])
    assert len(cut.conversations) == 2
    assert any("the rest of the array is lost" in problem.why for problem in cut.problems)


def test_multiesc_is_detokenised() -> None:
    talk = load_conversations([FIXTURES / "multiesc.small.jsonl"]).conversations[0]
    assert [message.content for message in talk.messages] == [
        "I'm scared, I can't park!",
        "Have you tried (slowly) with a co-driver?",
        'No. That\'s a "good" idea :)',
    ]
    assert (talk.ratings, talk.start, talk.end) == ((None, 5.0), 4.0, 2.0)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("it cost $ 2000 , or 3 . 5 % more", "it cost $2000, or 3.5% more"),
        ("my parents ' house ; it ' s old", "my parents' house; it's old"),
        ("24 / 7 . . . wow", "24/7... wow"),
        ("so : - ) yes", "so :) yes"),
    ],
)
def test_detokenise(tokens: str, text: str) -> None:
    assert detokenise(tokens) == text


def test_hub_rows_wrapped_or_not_and_ids() -> None:
    talks = load_conversations([FIXTURES / "hub.small.txt"]).conversations
    assert talks[0].messages == talks[1].messages
    assert talks[0].ratings == (None, None)


def test_situations_are_distinct_scenarios() -> None:
    loaded = load_conversations([FIXTURES / "smallSituation.txt"])
    assert [scenario.situation for scenario in loaded.scenarios] == ["my bike was stolen", "exam next week"]
    assert [scenario.id for scenario in loaded.scenarios] == ["smallSituation.txt:1", "smallSituation.txt:2"]


def test_chat_log_scale_system_and_bare_list(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rated = [{"role": "system", "content": "a shop"}, USER, REPLY, {"role": "user", "content": "great", "rating": 10}]
    rows = [{"messages": rated, "scale": [0, 10], "id": 7}, [USER, REPLY], {"messages": [USER, REPLY], "id": "7"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    one, two, three = load_conversations([path]).conversations
    assert (one.id, two.id, three.id) == ("7", "log.jsonl:2", "7#2")
    assert one.situation == "" and one.messages[0].role == "user"
    assert one.ratings == (None, 5.0)  # 1 + 4 x 10/10
    path.write_text("\n".join(map(json.dumps, rows[1:] + rows[:1])))
    assert len(load_conversations([path]).conversations) == 3


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{oops", "bad JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"messages": []}', "messages is empty"),
        ('{"talk": 1}', "missing"),
        ("17", "missing"),
        (json.dumps({"messages": [USER]}), "the assistant says nothing"),
        (json.dumps({"messages": [USER, {"role": "tool", "content": "x"}]}), "'tool'"),
        (json.dumps({"messages": [USER, {"role": "assistant", "content": ["x"]}]}), "is a list, expected text"),
        (json.dumps({"messages": [{**USER, "rating": 6}, REPLY]}), "rating is 6, expected 1 to 5"),
        (json.dumps({"messages": [{**USER, "rating": float("nan")}, REPLY]}), "expected 1 to 5"),
        (json.dumps({"messages": [{**USER, "rating": True}, REPLY]}), "true or false"),
        (json.dumps({"messages": [USER, {**REPLY, "rating": 3}]}), "stands on a reply"),
        (json.dumps({"messages": [USER, REPLY, {**USER, "content": " ", "rating": 1}, REPLY]}), "beside no words"),
        (json.dumps({"messages": [USER, {"role": "assistant", "content": "\ud800"}]}), "broken character"),
        (chat(scale=[5, 1]), "scale is empty"),
        (chat(scale=3), "scale is no pair"),
    ],
)
def test_corrupt_row_is_named_and_the_rest_used(tmp_path: Path, row: str, why: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f"{chat()}\n\n{row}\n{chat()}\n")
    loaded = load_conversations([path])
    assert len(loaded.conversations) == 2
    assert [problem.source for problem in loaded.problems] == [f"{path}:3"]
    assert why in loaded.problems[0].why


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b'{"x": 1}\n', "is not known"),
        ("a.txt", b"some prose\n", "is not known"),
        ("a.jsonl", b'{"messages": []}\n', "no usable row"),
        ("a.jsonl", b'{"messages"\n\xff\n', "a.jsonl:2 is not UTF-8"),
        (None, b"", "cannot read"),
    ],
)
def test_unusable_file(tmp_path: Path, name: str | None, content: bytes, says: str) -> None:
    path = tmp_path / (name or "missing.jsonl")
    if name:
        path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        load_conversations([path])
    assert "\n" not in str(caught.value)
    assert caught.value.expected and caught.value.fix


def test_folders_and_globs_are_sorted_and_read_once(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / name).write_text(chat())
    (tmp_path / "notes.txt").write_text("prose")
    loaded = load_conversations([tmp_path, f"{tmp_path}/*.jsonl"])
    assert [talk.id for talk in loaded.conversations] == ["a.jsonl:1", "b.jsonl:1"]
    assert [problem.source for problem in loaded.problems] == [str(tmp_path / "notes.txt")]
    with pytest.raises(DataError, match="no data file"):
        load_conversations([f"{tmp_path}/*.csv"])
    with pytest.raises(DataError, match="is no pattern"):
        load_conversations([f"{tmp_path}/**.jsonl"])


def test_summary_figures() -> None:
    one = describe([FIXTURES / "ESConv.small.json"])[0]
    # Answered replies: 3 (the greeting too) + 1. Ratings on echoes: 4 and 1 (the 2 opens its talk): 5/2, 2/4 rated.
    assert (one.format, one.dialogues, one.turns, one.histogram) == ("esconv", 2, 4, (1, 0, 0, 1, 0))
    assert (one.mean, one.rated, one.situations, len(one.problems)) == (2.5, 0.5, 2, 2)
    # Words: 5+9+8+2+7+4+3 = 38 in 7 messages, 4+2+4 = 10 in 3: 48 / 10.
    assert one.words == pytest.approx(4.8)
    assert one.uses == ("sft", "replay", "scenarios")


def test_printed_summary_is_free_of_terminal_codes(tmp_path: Path) -> None:
    console = pytest.importorskip("rich.console")
    path = tmp_path / "\x1b[31mred[bold].jsonl"
    path.write_text(f"{chat()}\n" + '{"messages": [{"role": "\\u001b]0;x\\u0007[red]", "content": ""}]}\n' * 5)
    out = io.StringIO()
    print_summary(describe([path]), console.Console(file=out, width=200, color_system=None))
    shown = out.getvalue()
    assert "\x1b" not in shown and "31m" not in shown and "red[bold].jsonl" in shown
    assert shown.count("left out") == 4 and "2 more in" in shown


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the ESConv files are not at {REAL} (set RAPO_DATA)")
def test_real_files() -> None:
    found = {one.path.name: one for one in describe([REAL])}
    assert {name: (one.dialogues or one.situations) for name, one in found.items()} == {
        "FailedESConv.part.json": 98,
        "devSituation.txt": 961,
        "multiesc_valid.jsonl": 195,
        "ppdpp_esc-test.jsonl": 130,
        "ppdpp_esc-valid.jsonl": 130,
        "testSituation.txt": 966,
        "trainSituation.txt": 1296,
    }
    assert found["multiesc_valid.jsonl"].histogram == (9, 30, 191, 322, 570)
    assert not any(one.problems for one in found.values())
