"""The program around the commands: how it starts, how it ends, and the arguments that several commands share."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from rapo import __version__
from rapo.errors import RapoError

if TYPE_CHECKING:
    from rapo.config import RunConfig
    from rapo.progress import Terminal


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends whatever Ctrl-C ends, in the same way: the cursor is shown again, claims are given up."""


def _terminate(number: int, frame: FrameType | None) -> None:
    # The next one ends the process at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise _Terminated


def _fail(line: str) -> NoReturn:
    typer.echo("".join(c if c.isprintable() else "?" for c in f"rapo: {line}"), err=True)
    sys.exit(2)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except RapoError as error:
        _fail(str(error))
    except OSError as error:
        # Of a file that somebody named, or of the disk; what has neither, a closed pipe say, is not told here.
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(": ".join(str(part) for part in (error.strerror, error.filename) if part))
    except KeyboardInterrupt as error:
        typer.echo("\nrapo: stopped; what was finished is on disk (rapo resume goes on with a training run)", err=True)
        sys.exit(143 if isinstance(error, _Terminated) else 130)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Program(TyperGroup):
    """The commands; around each, inside of what typer itself would make of errors, ends are told in one line."""

    def invoke(self, ctx: Any) -> object:
        with _one_line_errors():
            return super().invoke(ctx)


app = typer.Typer(
    name="rapo",
    cls=_Program,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="""RAPO, Reaction Aware Policy Optimization: train a dialogue model on the reactions its replies cause.

    Start with:  rapo demo

    Your own:    rapo data LOGS.jsonl; rapo check RECIPE; rapo sft RECIPE; rapo train RECIPE; rapo view RUN""",
)

Recipe = Annotated[Path, typer.Argument(help="config in YAML; recipes/ has examples", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="changes to it: section.key=value, such as train.steps=10", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and warnings only.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per event and line, for programs.")]
Settings = Annotated[Path | None, typer.Option(help="recipe with the users and settings [default: the run's, or demo]")]
Set = Annotated[list[str] | None, typer.Option("--set", help="section.key=value")]


def version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        typer.echo(f"rapo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    show: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line; user errors end in one line and exit code 2, Ctrl-C in one line and 130, SIGTERM 143."""
    # Threads spin for long while they wait, and take the time of those they wait for: on a machine that others use too,
    # two threads were ten times slower than one. Not spinning at all costs more on a quiet one than it saves.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for stream in (sys.stdout, sys.stderr):
        # A model may write what the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    app()


def read_config(recipe: Path, overrides: list[str] | None) -> RunConfig:
    """The config in a file with changes to it; raises ConfigError."""
    from rapo.config import load_config

    return load_config(recipe, overrides or [])


def open_terminal(quiet: bool, json_: bool = False) -> Terminal:
    """Where a command tells what it does: people read it, or with ``json_`` programs."""
    from rapo.progress import Events, Terminal

    return Events(quiet=quiet) if json_ else Terminal(quiet=quiet)
