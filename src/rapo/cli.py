"""The command line. Commands load what they need only when they run, so that help and config errors come at once."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rapo import __version__
from rapo.errors import BudgetError, ConfigError, EndpointError, RapoError

if TYPE_CHECKING:
    from rapo.config import RunConfig
    from rapo.progress import Terminal
    from rapo.records import RunDirectory

app = typer.Typer(
    name="rapo",
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


@app.command()
def demo(overrides: Overrides = None, quiet: Quiet = False, json_: Json = False) -> None:
    """Watch a small model learn from echoes: offline, a few minutes on two CPU cores.

    Makes a model from scratch that answers everyone with generic empathy, trains it on the reactions of simulated
    seekers, and shows what changed on seekers it never met. Everything lands in runs/demo.
    """
    from rapo.recipes import recipe_path

    train(recipe_path("demo"), overrides, quiet, json_)


@app.command()
def sft(recipe: Recipe, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Fine-tune on dialogues; the loss is on the supporter's replies only.

    Learns from sft.files (JSONL chats, ESConv), or from the embedded corpus when there are none. Starts from
    policy.path, or makes a model from scratch. The model lands in RUN/sft, an ordinary Hugging Face folder.
    """
    config, terminal = _config(recipe, overrides), _terminal(quiet)
    with _new_run(config, terminal) as run:
        from rapo.stages import run_sft

        folder = run_sft(run, terminal)
    terminal.say(f"the model is in {folder}; train it with: rapo train RECIPE run.dir=runs/NEW policy.path={folder}")


@app.command()
def train(recipe: Recipe, overrides: Overrides = None, quiet: Quiet = False, json_: Json = False) -> None:
    """Train a policy on reactions: play, select, branch, judge, correct, update.

    Without policy.path a model is made from scratch first. Stop it with Ctrl-C whenever you like: rapo resume RUN goes
    on from the last checkpoint. GRPO alone is update.micro=0, distillation alone update.macro=0.
    """
    config, terminal = _config(recipe, overrides), _terminal(quiet, json_)
    with _new_run(config, terminal) as run:
        _train(run, terminal)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="folder of the run", show_default=False)],
    overrides: Overrides = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Go on with a run that was stopped, from its last whole checkpoint; nothing else is needed.

    What decides no result may be changed: budgets and patience (calls.*), where a model is and how it is called
    (models.NAME.url, key_env, concurrency, timeout, attempts, prices), train.steps and train.max_minutes.
    """
    from rapo.records import RunDirectory
    from rapo.show import is_finished, show_result

    terminal = _terminal(quiet, json_)
    with RunDirectory.open(run) as directory:
        directory.change(overrides or [])
        if is_finished(run, directory.config.train.steps):
            terminal.say(f"the run in {run} is finished; nothing is left to do, and this is its result")
            show_result(run, terminal)
        else:
            terminal.say(f"going on with the run in {run}; loading torch takes a few seconds")
            _train(directory, terminal)


Models = Annotated[
    list[str],
    typer.Argument(help="model folders, hub ids, run folders, or names under models in the recipe", show_default=False),
]
Settings = Annotated[Path | None, typer.Option(help="recipe with the users and settings [default: the run's, or demo]")]
Set = Annotated[list[str] | None, typer.Option("--set", help="section.key=value")]
Suite = Annotated[
    list[str] | None,
    typer.Option(help="what to measure, may be given again; all: everything [default: the recipe's own users]"),
]
Out = Annotated[Path | None, typer.Option(help="folder that keeps what is finished [default: evaluations in run.dir]")]


@app.command("eval")
def evaluate(
    models: Models,
    suite: Suite = None,
    config: Settings = None,
    set_: Set = None,
    out: Out = None,
    json_: Annotated[Path | None, typer.Option("--json", help="also write all results here")] = None,
    quiet: Quiet = False,
) -> None:
    """Measure models with users they were not trained on, between scripted supporters that bound them.

    The table shows how much better off users are after a talk, with a bootstrap interval; how many talks end well; how
    varied the replies are; and whether any exploit (one constant reply, parroting, ...) beats the first model.

    What is finished is kept: the same command goes on where it was stopped, and asks no language model twice.
    """
    from rapo.evaluate import run_eval

    settings, terminal = _evaluation(models, config, set_, quiet)
    run_eval(settings, models, suite or [], terminal, out or settings.run.dir / "evaluations", json_)


@app.command()
def compare(
    models: Models,
    suite: Suite = None,
    config: Settings = None,
    set_: Set = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Say which of several models is better: the same items and users for all, each against the first.

    Prints the tables of rapo eval, then per suite the mean difference item by item with its bootstrap interval, and how
    many items were won, tied and lost. Results that rapo eval has kept are used again.
    """
    from rapo.evaluate import run_compare

    if len(set(models)) < 2:
        raise ConfigError("there is nothing to compare", got=f"only {models[0]}", expected="two models or more")
    settings, terminal = _evaluation(models, config, set_, quiet)
    run_compare(settings, models, suite or [], terminal, out or settings.run.dir / "evaluations")


@app.command()
def chat(
    model: Annotated[
        str,
        typer.Argument(help="model or run folder, hub id, or name under models in the recipe", show_default=False),
    ],
    config: Settings = None,
    set_: Set = None,
    watch: Annotated[bool, typer.Option("--watch", help="begin by watching a simulated user of the recipe")] = False,
    page: Annotated[bool, typer.Option("--page", help="talk on a local page instead of in the terminal")] = False,
    port: Annotated[int, typer.Option(help="of the page; 0 takes a free one", min=0, max=65535)] = 0,
    out: Annotated[Path, typer.Option(help="folder that receives the talks")] = Path("chats"),
) -> None:
    """Talk with a policy: play the user yourself, or watch a simulated one; rate replies from 1 to 5.

    Talks are kept turn by turn as chat logs, ratings in them: users.kind=replay users.files=[chats] trains on them.
    """
    from rapo.chat.command import run_chat

    settings, terminal = _evaluation([model], config, set_, False, "talking with")
    run_chat(settings, model, terminal, out, watch=watch, port=port if page else None)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="run folder, adapter or model folder, hub id", show_default=False)],
    out: Annotated[Path, typer.Argument(help="new folder that receives the model", show_default=False)],
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="let the model's folder run its own Python code")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write an ordinary Hugging Face model folder: of a run its newest checkpoint; an adapter is merged into its base.

    Written whole or not at all, in the number format the (base) model is stored in.
    """
    from rapo.export import run_export

    found = run_export(model, out, trust_remote_code=trust_remote_code)
    _terminal(quiet).say(f"{out} holds the model of {found}, an ordinary Hugging Face folder")


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
    _terminal(False).say(f"the report is in {page}")
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
        _terminal(False).say(str(file))


@app.command()
def data(
    files: Annotated[list[Path], typer.Argument(help="files, folders or globs", show_default=False)],
) -> None:
    """Show what is in data files: format, dialogues, turns, ratings and their spread, scenarios, problems found.

    Reads scenarios and chat logs (JSON lines, or tables as hf:NAME), ESConv, SOTOPIA and SAGE; docs/scenarios.md tells
    the formats. In a chat log a rating is the user's for the reply before it.
    """
    from rapo.data import describe, print_summary

    print_summary(describe(files), _terminal(False).console)


@app.command()
def calibrate(
    logs: Annotated[list[Path], typer.Argument(help="dialogues that people rated", show_default=False)],
    users: Annotated[
        Path | None, typer.Option(help="recipe with the users to measure [default: the replay user of the logs]")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.key=value")] = None,
    folds: Annotated[int, typer.Option(min=3, help="parts of the cross-validation over dialogues")] = 10,
    json_: Annotated[Path | None, typer.Option("--json", help="also write the figures here")] = None,
    quiet: Quiet = False,
) -> None:
    """How well does a simulated user's state track the ratings of real people?

    The user reads each dialogue of LOGS as it was said and weighs every reply; its states are held against the 1-5
    ratings: rank correlation, AUC, bias, and whether it knows which reply of a dialogue was better, with bootstrap
    intervals over dialogues, beside two baselines. A replay user never holds the dialogue it is asked about. Language
    models are journaled in run.dir: given again, the command asks only what is missing. See docs/calibration.md.
    """
    from rapo.recipes import recipe_path

    settings = _config(users or recipe_path("esconv_replay"), set_)
    from rapo.calibrate import run_calibrate

    run_calibrate(settings, logs, folds, _terminal(quiet), json_)


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

    run_screen(files or [], locale, _terminal(False))


@app.command()
def check(recipe: Recipe, overrides: Overrides = None) -> None:
    """Look at everything a run will need, in half a minute, before it costs a night.

    Files and every data row, model folder, disk; each endpoint's key, model name, JSON schemas, real context length and
    speed; what the run will take in calls, tokens, money and hours. One line each, with a verdict and a way out. Ends
    with code 1 when the run would fail. Asks each model a few short questions; writes nothing.
    """
    config, terminal = _config(recipe, overrides), _terminal(False)
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
    """Run the command line; user errors end in one line and exit code 2, Ctrl-C in one line and 130."""
    # Threads spin for long while they wait, and take the time of those they wait for: on a machine that others use too,
    # two threads were ten times slower than one. Not spinning at all costs more on a quiet one than it saves.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for stream in (sys.stdout, sys.stderr):
        # A model may write what the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    with _one_line_errors():
        app()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except RapoError as error:
        typer.echo("".join(c if c.isprintable() else "?" for c in f"rapo: {error}"), err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("\nrapo: stopped; what was finished is on disk (rapo resume goes on with a training run)", err=True)
        sys.exit(130)


def _config(recipe: Path, overrides: list[str] | None) -> RunConfig:
    from rapo.config import load_config

    return load_config(recipe, overrides or [])


def _evaluation(
    models: list[str], config: Path | None, overrides: list[str] | None, quiet: bool, doing: str = "evaluating"
) -> tuple[RunConfig, Terminal]:
    from rapo.config.trust import load_found
    from rapo.recipes import recipe_path

    own, terminal = Path(models[0]) / "config.yaml", _terminal(quiet)
    if config is None and own.is_file():
        settings = load_found(own, overrides or [])
    else:
        settings = _config(config or recipe_path("demo"), overrides)
    terminal.say(f"{doing} {', '.join(models)}; loading torch takes a few seconds")
    return settings, terminal


def _terminal(quiet: bool, json_: bool = False) -> Terminal:
    from rapo.progress import Events, Terminal

    return Events(quiet=quiet) if json_ else Terminal(quiet=quiet)


@contextmanager
def _new_run(config: RunConfig, terminal: Terminal) -> Iterator[RunDirectory]:
    """A fresh run directory; one in which nothing was made before an error can be used again."""
    from rapo.records import RunDirectory, is_left_over

    with RunDirectory.create(config.run.dir, config) as run:
        terminal.say(f"a run in {run.path}; loading torch takes a few seconds")
        try:
            yield run
        except (EndpointError, BudgetError):
            # Nothing is wrong with the run itself: rapo resume goes on with it.
            raise
        except RapoError:
            if all(entry.name == "config.yaml" or is_left_over(entry.name) for entry in run.path.iterdir()):
                (run.path / "config.yaml").unlink(missing_ok=True)
            raise


def _train(run: RunDirectory, terminal: Terminal) -> None:
    from rapo.show import show_result
    from rapo.stages import run_training

    run_training(run, terminal)
    show_result(run.path, terminal)


if __name__ == "__main__":
    main()
