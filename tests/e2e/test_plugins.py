"""A user, judge, world or importer of one's own, by its dotted path: the examples run, and mistakes are one line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .conftest import DEMO, TINY, one_line, records, run_rapo

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN_USER = ("users.kind=own_user:Curious", "judge.kind=contrast", "teacher.replay=0")


@pytest.fixture(autouse=True)
def in_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("own_*.py")), ids=lambda path: path.stem)
def test_an_example_is_at_most_15_lines_of_code(path):
    tree = ast.parse(path.read_text())
    part = next(node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    lines = path.read_text().splitlines()[part.lineno - 1 : part.end_lineno]
    assert sum(bool(line.strip()) for line in lines) <= 15


def test_a_user_of_ones_own(train):
    run = train(*OWN_USER)
    assert {row["dialogue"]["scenario"]["situation"] for row in records(run, "dialogues")} == {"a bad day"}


def test_talks_that_outgrow_the_policys_context_end_there_and_are_counted(train):
    long = ("play.turns=60", "play.dialogues=2", "select.share=0.02", "train.steps=1", "teacher.replay=0")
    run = train(*OWN_USER, *long)
    assert {row["cut_short"] for row in records(run, "metrics")} == {1.0}
    assert all(5 < len(row["dialogue"]["turns"]) < 60 for row in records(run, "dialogues"))


def test_a_user_takes_its_options(train):
    run = train(*OWN_USER, "users.options={like: ''}")  # every reply holds the empty text
    assert {turn["reaction"]["text"] for row in records(run, "dialogues") for turn in row["dialogue"]["turns"]} == {
        "Good that you ask."
    }


def test_a_judge_of_ones_own(train):
    run = train("judge.kind=own_judge:Brief", "judge.options={words: 3}")
    critiques = {f["critique"] for row in records(run, "groups") for f in row["group"]["feedback"]}
    assert any(text.startswith("Say it in") for text in critiques)


def test_a_world_of_ones_own(train):
    run = train(
        "users.kind=own_world:Countdown", "judge.kind=own_world:Countdown", "teacher.replay=0", "select.floor=0"
    )
    assert {f["critique"] for row in records(run, "groups") for f in row["group"]["feedback"]} == {"Count."}


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    """A help desk's export in a format of its own."""
    path = tmp_path / "tickets.csv"
    lines = ["ticket,who,text,stars"]
    for number in range(30):
        lines += [f"{number},customer,My box {number} broke.,", f"{number},agent,When did box {number} break?,"]
        lines += [f"{number},customer,Today.,{number % 5 + 1}"]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_an_importer_of_ones_own_for_fine_tuning_and_for_users(tmp_path, tickets):
    own = (
        f"sft.files=[{tickets}]",
        "sft.importer=own_importer:tickets",
        "sft.batch_tokens=64",
        "policy.vocab_size=300",
    )
    users = ("users.kind=replay", f"users.files=[{tickets}]", "users.importer=own_importer:tickets")
    run = tmp_path / "run"
    result = run_rapo(
        "train",
        DEMO,
        f"run.dir={run}",
        *TINY,
        *own,
        *users,
        "judge.kind=contrast",
        "teacher.replay=0",
        "select.floor=0",
    )
    assert result.code == 0, result
    openings = {row["dialogue"]["scenario"]["opening"][0]["content"] for row in records(run, "dialogues")}
    assert len(openings) > 3
    assert all(text.startswith("My box ") for text in openings)


def test_an_importer_that_fails_is_one_line(tmp_path, tickets):
    tickets.write_text("something,else\n1,2\n")
    own = (f"sft.files=[{tickets}]", "sft.importer=own_importer:tickets")
    message = one_line(run_rapo("sft", DEMO, f"run.dir={tmp_path / 'run'}", *TINY, *own))
    assert message == f"rapo: the importer cannot read {tickets}; got KeyError: 'who'"


MISTAKES = {
    "no module": ("users.kind=nowhere:Thing", "cannot be imported; got ModuleNotFoundError: No module named 'nowhere'"),
    "no such name": ("users.kind=own_user:Thing", "users.kind names nothing; got own_user:Thing"),
    "not a class": ("users.kind=own_user:__doc__", "users.kind names no class or function"),
    "wrong options": (
        "users.kind=own_user:Curious  users.options={lik: x}",
        "got an unexpected keyword argument 'lik'",
    ),
    "not a user": ("users.kind=own_judge:Brief", "cannot serve as users.kind; got no method scenarios, react"),
    "a judge of another world": (
        "users.kind=own_user:Curious  judge.kind=support",
        "judge.kind=support cannot judge own_user:Curious users; expected judge.kind=contrast, llm or a class of yours",
    ),
    "a class that cannot be made": (
        "judge.kind=os:fdopen  judge.options={fd: 99999}",
        "judge.kind=os:fdopen fails; got OSError: [Errno 9] Bad file descriptor",
    ),
    "not a judge": ("judge.kind=own_user:Curious", "cannot serve as judge.kind; got no method judge"),
    "no dotted path": ("users.kind=own_user", "users.kind is not valid; got own_user; expected one of: support"),
    "options of nobody": ("judge.options={a: 1}", "judge.options is given; expected judge.kind=package.module:Name"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(tmp_path, start, case):
    overrides, expected = MISTAKES[case]
    own = () if "judge.kind" in overrides or "judge.options" in overrides else ("judge.kind=contrast",)
    replay = "teacher.replay=0"
    run = tmp_path / "run"
    result = run_rapo(
        "train", DEMO, f"run.dir={run}", f"policy.path={start}", *TINY, replay, *own, *overrides.split("  ")
    )
    assert expected in one_line(result)
    assert not (run / "config.yaml").exists()


def test_a_failure_in_the_middle_of_a_run_names_its_line(tmp_path, start):
    own = (*OWN_USER, "users.options={like: 3}")  # no number is in a text
    result = run_rapo("train", DEMO, f"run.dir={tmp_path / 'run'}", f"policy.path={start}", *TINY, *own)
    message = one_line(result)
    assert message.startswith("rapo: users.kind=own_user:Curious fails; got TypeError: 'in <string>' requires")
    line = int(message.rpartition(" line ")[2])
    assert "self.like in reply" in (EXAMPLES / "own_user.py").read_text().splitlines()[line - 1]
