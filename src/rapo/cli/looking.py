"""Commands that look at what is there: runs, data, recipes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rapo.cli.program import Overrides, Recipe, app, open_terminal, read_config
from rapo.errors import ConfigError


@app.command()
def view(
    run: Annotated[Path, typer.Argument(help="folder of the run", show_default=False)],
    other: Annotated[Path | None, typer.Argument(help="another run, to compare", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="where the page goes [default: report.html in the run]")] = None,
    open_: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Show it in the browser [default: where a person watches]")
    ] = None,
) -> None:
    """Look at a run: curves, every dialogue and group, before and after; also while it goes on.

    Writes one HTML file that needs no network and no server. With a second run both are in it, compared item by item.
    """
    from rapo.report import NAME, write_report

    page = write_report([run, other] if other else [run], out or run / NAME)
    open_terminal(False).say(f"the report is in {page}")
    if sys.stdout.isatty() if open_ is None else open_:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs", show_default=False)],
    plots: Annotated[bool, typer.Option("--plots", help="draw figures for a paper, as SVG and PNG")] = False,
    out: Annotated[Path | None, typer.Option(help="folder of the figures [default: plots in the first run]")] = None,
) -> None:
    """Figures of one run or several: learning curves, teacher lift, before and after, seconds per phase.

    One column of a paper wide, 95% intervals where there is something to take them over, colours that the colour-blind
    can tell apart. Needs the extra plots. The page to look around in is made by rapo view.
    """
    if not plots:
        raise ConfigError("nothing was asked for", expected="--plots", fix="for the page of a run: rapo view RUN")
    from rapo.report import write_plots

    for file in write_plots(runs, out or runs[0] / "plots"):
        open_terminal(False).say(str(file))


@app.command()
def data(
    files: Annotated[list[Path], typer.Argument(help="files, folders or globs", show_default=False)],
) -> None:
    """Show what is in data files: format, dialogues, turns, ratings and their spread, scenarios, problems found.

    Reads scenarios and chat logs (JSON lines, or tables as hf:NAME), ESConv, SOTOPIA and SAGE; docs/scenarios.md tells
    the formats. In a chat log a rating is the user's for the reply before it.
    """
    from rapo.data import describe, print_summary

    print_summary(describe(files), open_terminal(False).console)


@app.command()
def screen(
    files: Annotated[list[Path] | None, typer.Argument(help="files, folders or globs", show_default=False)] = None,
    locale: Annotated[str, typer.Option(help="language of the rules")] = "en",
) -> None:
    """Show which messages of users show signs of risk; of no files, how many the rules find in texts made for it.

    Suicide, self-harm, harm to others, abuse and acute danger, by rules that anyone can read. Talks that are flagged
    are kept out of training. A screening aid for research data that misses much, no clinical instrument.
    """
    from rapo.screen import run_screen

    run_screen(files or [], locale, open_terminal(False))


@app.command()
def check(recipe: Recipe, overrides: Overrides = None) -> None:
    """Look at everything a run will need, in half a minute, before it costs a night.

    Files and every data row, model folder, disk; each endpoint's key, model name, JSON schemas, real context length and
    speed; what the run will take in calls, tokens, money and hours. One line each, with a verdict and a way out. Ends
    with code 1 when the run would fail. Asks each model a few short questions; writes nothing.
    """
    config, terminal = read_config(recipe, overrides), open_terminal(False)
    from rapo.check import check as findings
    from rapo.check.table import print_findings

    if print_findings(findings(config), terminal):
        sys.exit(1)


@app.command("config")
def show_config() -> None:
    """List every key of a recipe: what it may hold, its default, what it does."""
    from rapo.config import describe_config

    section = ""
    for row in describe_config():
        if (name := row.key.rpartition(".")[0]) != section:
            section = name
            typer.echo(f"\n{section}:")
        typer.echo(f"  {row.key:<24} {row.default:<22} {row.description} ({row.type})")
