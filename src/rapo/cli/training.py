"""Commands that make models: demo, sft, train, resume, export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rapo.cli.program import Json, Overrides, Quiet, Recipe, app, open_terminal, read_config
from rapo.errors import BudgetError, EndpointError, RapoError

if TYPE_CHECKING:
    from rapo.config import RunConfig
    from rapo.progress import Terminal
    from rapo.records import RunDirectory


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
    config, terminal = read_config(recipe, overrides), open_terminal(quiet)
    with _new_run(config, terminal, supervised=True) as run:
        _supervise(run, terminal)


@app.command()
def train(recipe: Recipe, overrides: Overrides = None, quiet: Quiet = False, json_: Json = False) -> None:
    """Train a policy on reactions: play, select, branch, judge, correct, update.

    Without policy.path a model is made from scratch first. Stop it with Ctrl-C whenever you like: rapo resume RUN goes
    on from the last checkpoint. GRPO alone is update.micro=0 teacher.replay=0, distillation alone update.macro=0.
    """
    config, terminal = read_config(recipe, overrides), open_terminal(quiet, json_)
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

    Fine-tuning (rapo sft) has no checkpoints and begins anew.

    What decides no result may be changed: budgets and patience (calls.*), where a model is and how it is called
    (models.NAME.url, key_env, concurrency, timeout, attempts, prices), run.trackers, train.steps and train.max_minutes.
    """
    from rapo.records import RunDirectory
    from rapo.show import is_finished, show_result

    terminal = open_terminal(quiet, json_)
    with RunDirectory.open(run) as directory:
        directory.change(overrides or [])
        if directory.supervised:
            _supervise(directory, terminal)
        elif is_finished(run, directory.config.train.steps):
            terminal.say(f"the run in {run} is finished; nothing is left to do, and this is its result")
            show_result(run, terminal)
        else:
            terminal.say(f"going on with the run in {run}; loading torch takes a few seconds")
            _train(directory, terminal)


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
    open_terminal(quiet).say(f"{out} holds the model of {found}, an ordinary Hugging Face folder")


@contextmanager
def _new_run(config: RunConfig, terminal: Terminal, *, supervised: bool = False) -> Iterator[RunDirectory]:
    """A fresh run directory; one in which nothing was made before an error can be used again."""
    from rapo.records import RunDirectory, is_left_over

    with RunDirectory.create(config.run.dir, config, supervised=supervised) as run:
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


def _supervise(run: RunDirectory, terminal: Terminal) -> None:
    from rapo.stages import run_sft

    folder = run_sft(run, terminal)
    terminal.say(f"the model is in {folder}; train it with: rapo train RECIPE run.dir=runs/NEW policy.path={folder}")


def _train(run: RunDirectory, terminal: Terminal) -> None:
    from rapo.show import show_result
    from rapo.stages import run_training

    run_training(run, terminal)
    show_result(run.path, terminal)
