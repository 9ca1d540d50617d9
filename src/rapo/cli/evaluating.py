"""Commands that measure models and users: eval, compare, chat, calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rapo.cli.program import Quiet, Set, Settings, app, open_terminal, read_config
from rapo.errors import ConfigError

if TYPE_CHECKING:
    from rapo.config import RunConfig
    from rapo.progress import Terminal

Models = Annotated[
    list[str],
    typer.Argument(help="model folders, hub ids, run folders, or names under models in the recipe", show_default=False),
]
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

    The table shows how much better off users are after a talk, with a bootstrap interval; how many talks end well; and
    how varied the replies are. A line names the exploits (one constant reply, parroting, ...) that are not clearly
    below the first model.

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
def calibrate(
    logs: Annotated[list[Path], typer.Argument(help="dialogues that people rated", show_default=False)],
    users: Annotated[
        Path | None, typer.Option(help="recipe with the users to measure [default: the replay user of the logs]")
    ] = None,
    set_: Set = None,
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

    settings = read_config(users or recipe_path("esconv_replay"), set_)
    from rapo.calibrate import run_calibrate

    run_calibrate(settings, logs, folds, open_terminal(quiet), json_)


def _evaluation(
    models: list[str], config: Path | None, overrides: list[str] | None, quiet: bool, doing: str = "evaluating"
) -> tuple[RunConfig, Terminal]:
    from rapo.config.trust import load_found
    from rapo.recipes import recipe_path

    own, terminal = Path(models[0]) / "config.yaml", open_terminal(quiet)
    if config is None and own.is_file():
        settings = load_found(own, overrides or [])
    else:
        settings = read_config(config or recipe_path("demo"), overrides)
    terminal.say(f"{doing} {', '.join(models)}; loading torch takes a few seconds")
    return settings, terminal
