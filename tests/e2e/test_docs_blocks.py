"""Every code block of the README and the docs is run, or read by what would read it."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main
from markdown_it import MarkdownIt

from rapo.cli import app
from rapo.config import load_config
from rapo.data import load_conversations
from rapo.models.chat import Scripted
from rapo.models.stand_in import answer

from .conftest import EVAL, MODEL, run_rapo

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


class Block(NamedTuple):
    """A code block: its language ("" for shell), its text, and the line it begins in."""

    page: str
    line: int
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        for token in MarkdownIt().parse(page.read_text()):
            # Directives ({include}, {toctree}, ...) are read, strictly, by the build of the site.
            if token.type in {"fence", "code_block"} and not token.info.startswith("{"):
                language = token.info if token.type == "fence" else "indented"
                found.append(Block(str(page.relative_to(ROOT)), token.map[0] + 1, language, token.content))
    return found


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [each for each in blocks() if each.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=lambda each: f"{each.page}:{each.line}")


def command_lines(text: str) -> list[list[str]]:
    """The words of every command, without comments; ``[--optional]`` and ``[MORE ...]`` count as given."""
    lines = text.replace("\\\n", " ").splitlines()
    split = [shlex.split(re.sub(r"(?<= )\[([\w-]+)(?: \.\.\.)?\]", r"\1", line), comments=True) for line in lines]
    return [[word for word in words if word != "..."] for words in split if words]


def check_command(words: list[str]) -> None:
    """Raise where the command, an option of it, or a file it names does not exist."""
    program, *given = words
    match Path(program).name:
        case "rapo":
            check_rapo(*given)
        case "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {word for word in given if "=" not in word} <= set(targets)
        case "pip":
            check_pip(given)
        case "python" if given[0] != "-m":
            check_script(ROOT / given[0], given[1:])
        case "python":
            assert given[:2] == ["-m", "venv"]
        case "pytest":
            assert (ROOT / given[0]).is_file()
        case "cp":
            assert (ROOT / given[0]).is_file() and given[1:] == ["."]
        case "run" if program == ".ci/run":
            assert (ROOT / program).is_file()
        case _:
            raise AssertionError(f"nobody checks {program}")


def check_rapo(name: str, *given: str) -> None:
    context = COMMANDS[name].make_context(f"rapo {name}", list(given))
    values = context.params
    recipe = values.get("recipe") or values.get("config") or values.get("users")
    changes = [*(values.get("overrides") or []), *(values.get("set_") or [])]
    known = isinstance(recipe, Path) and (ROOT / recipe).is_file()
    assert known or not str(recipe).startswith("recipes/")
    if name == "resume":
        # What it may change is of a model that the run names.
        changes = [change for change in changes if not change.startswith("models.")]
    load_config(ROOT / recipe if known else None, [*STANDS_IN, *changes] if changes and not known else changes)


SMALL = (
    *MODEL,
    *EVAL,
    *("sft.practice=10", "sft.dialogues=20", "sft.corrections=10", "sft.epochs=1", "gate.enabled=false"),
    *("train.steps=1", "play.dialogues=4", "branch.candidates=2", "eval.dialogues=2", "eval.turns=1"),
)


def test_the_commands_of_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first to the last, with smaller settings, beside the recipes, the examples and ESConv's file."""
    for name in ("recipes", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data" / "esconv").mkdir(parents=True)
    (tmp_path / "data" / "esconv" / "ESConv.json").symlink_to(ROOT / "examples" / "data" / "esconv.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_user", raising=False)
    shell = [block.text for block in blocks() if (block.page, block.language) == ("docs/own.md", "")]
    shell += [command for page, command in inline() if page == "docs/own.md" and " recipes/" in command]
    for words in command_lines("\n".join(shell)):
        match words:
            case ["cp", name, "."]:
                shutil.copy(name, tmp_path)
            case ["rapo", "eval", *rest]:
                small = (word for change in EVAL for word in ("--set", change))
                result = run_rapo("eval", *rest, *small)
                assert result.code == 0, (words, result)
            case ["rapo", command, recipe, *changes]:
                result = run_rapo(command, recipe, *SMALL, *changes)
                assert result.code == 0, (words, result)
            case _:
                raise AssertionError(f"nobody runs {words}")
    assert (tmp_path / "runs" / "own" / "summary.json").is_file()


STANDS_IN = ["models.player.path=a:b", "models.judge.path=a:b"]


def check_pip(given: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in given:
        if asked := re.fullmatch(r"(?:rapo-rl|\.)\[([\w,-]+)\]", word):
            assert set(asked[1].split(",")) <= set(extras)
    assert given[0] == "install"


def check_script(path: Path, given: list[str]) -> None:
    """Read and not run: most of them load torch before they know their options."""
    source = path.read_text() + (ROOT / "benchmarks" / "workload.py").read_text()
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [node.args[0] for node in calls if getattr(node.func, "attr", "") == "add_argument"]
    literal = {node.value for node in named if isinstance(node, ast.Constant)}
    # Options made in a loop are named by a word somewhere else.
    words = set(re.findall(r"\w+", source)) if any(isinstance(node, ast.JoinedStr) for node in named) else set()
    for option in (word for word in given if word.startswith("--")):
        assert option in literal or option[2:].replace("-", "_") in words, f"{path.name} has no {option}"


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {each.language for each in blocks()} == {"", "json", "yaml", "python"}


@of("")
def test_shell(block: Block) -> None:
    for words in command_lines(block.text):
        check_command(words)


def inline() -> list[tuple[str, str]]:
    """Page and command, for commands in the text that are whole: `pip install ...`; `rapo eval` alone is a name."""
    whole = re.compile(r"`((?:rapo [a-z]+|make|pip install|pytest|python) [^`]+)`")
    return [(str(page.relative_to(ROOT)), found) for page in PAGES for found in whole.findall(page.read_text())]


@pytest.mark.parametrize(("page", "command"), inline())
def test_commands_in_the_text(page: str, command: str) -> None:
    (words,) = command_lines(command.replace("\n", " "))
    check_command(words)


@of("json")
def test_json_is_read_by_the_importer(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text(block.text)
    rows = [json.loads(line) for line in block.text.splitlines()]
    loaded = load_conversations([file])
    assert not loaded.problems
    assert len(loaded.scenarios) == len(rows)


@of("yaml")
def test_yaml_is_a_config(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(block.text)
    load_config(file)


class Hm:
    """A speaker."""

    def reply(self, dialogues, seeds):
        return ["Hm. Tell me more."] * len(dialogues)


@of("python")
def test_python(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that holds the data it names, with the models and the speaker it speaks of."""
    (tmp_path / "data").symlink_to(ROOT / "examples" / "data")
    (tmp_path / "ESConv.json").symlink_to(ROOT / "examples" / "data" / "esconv.json")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    model = Scripted("stand-in", answer)
    exec(block.text, {"model": model, "player": model, "judge": model, "speaker": Hm()})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files(page: Path) -> None:
    """Also of the README, which is read without the site; the build of the site checks headings."""
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert "://" in link or (page.parent / link).exists(), link
