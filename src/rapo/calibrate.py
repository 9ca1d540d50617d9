"""What ``rapo calibrate`` does: hold the states of a simulated user against the ratings of real people."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from rapo import plugins
from rapo.config import WORLDS, RunConfig
from rapo.data import Conversation, load_conversations
from rapo.errors import ConfigError, DataError, RunError
from rapo.interact.follow import follow, last_rated
from rapo.interact.llm_user import LLMUser
from rapo.interact.replay import ReplayUser
from rapo.interact.users import UserSimulator
from rapo.missing import demand, demand_any
from rapo.parts import Parts
from rapo.progress import Terminal
from rapo.records import atomic_write, disk_errors, to_json

if TYPE_CHECKING:
    from rapo.evals.calibration import Calibration
    from rapo.evals.stats import Interval

States = list[list[float | None]]

LABELS = {
    "spearman": "rank correlation",
    "kendall": "Kendall's tau-b",
    "auc": "AUC 4-5 over 1-2",
    "within": "within: rank",
    "within_auc": "within: AUC",
    "bias": "bias",
    "error": "mean abs. error",
}


def run_calibrate(
    config: RunConfig, logs: Sequence[Path], folds: int, terminal: Terminal, json_path: Path | None
) -> None:
    """Print how well the users of ``config`` track the ratings in ``logs``, beside two baselines.

    A replay user is made of the logs themselves, anew for each fold without the dialogues it is asked about. Any other
    user is taken as it is. Each is teacher-forced (:mod:`rapo.interact.follow`).

    Raises:
        ConfigError: users of an embedded world, who read its own English only; scikit-learn is not installed.
        DataError: fewer rated dialogues than folds.
        EndpointError, BudgetError: a language model cannot go on; what it has answered is in the journal.
        RunError: ``json_path`` cannot be written.
    """
    began = time.monotonic()
    _check(config, json_path)
    read = plugins.reader(config.users.importer, "users.importer")
    talks = [talk for talk in load_conversations(logs, read).conversations if last_rated(talk)]
    _demand_dialogues({talk.key for talk in talks}, folds)
    found, lost = _calibrated(config, talks, folds, terminal)
    terminal.console.print(table(found))
    for line in verdict(found, lost):
        terminal.report(line)
    if json_path:
        about = {"files": [str(path) for path in logs], "users": config.users.model_dump(mode="json"), "folds": folds}
        record = {"v": 1, **about, "lost": lost, "seconds": time.monotonic() - began, **to_json(found)}
        with disk_errors(json_path):
            atomic_write(json_path, json.dumps(record) + "\n")


def _check(config: RunConfig, json_path: Path | None) -> None:
    """Raise what can be known to fail before anything is read or asked."""
    if json_path and not json_path.parent.is_dir():
        raise RunError(f"{json_path} cannot be written", got=f"no folder {json_path.parent}", fix="make it first")
    if find_spec("sklearn") is None:
        raise ConfigError(
            "rapo calibrate needs scikit-learn", expected="the extra replay", fix="pip install 'rapo-rl[replay]'"
        )
    if (kind := config.users.kind) in WORLDS:
        raise ConfigError(
            f"users.kind={kind} reads the English of its own world only and cannot follow people",
            expected="users.kind=replay, llm or a class of yours",
        )


def _demand_dialogues(names: Collection[str], folds: int) -> None:
    if len(names) < folds:
        raise DataError(
            "too few rated dialogues to calibrate with",
            got=len(names),
            expected=f"{folds} or more, one per fold",
            fix="add logs whose user messages carry ratings (rapo data FILE shows them), or set --folds",
        )


def _calibrated(
    config: RunConfig, talks: Sequence[Conversation], folds: int, terminal: Terminal
) -> tuple[Calibration, int]:
    """The figures, and how many rated turns count nowhere because the user gave no usable state."""
    from rapo.evals.calibration import calibrate
    from rapo.evals.rating_baselines import BASELINES, RatedTurn, cross_validated, deal

    seed, samples = config.run.seed, config.eval.bootstrap
    states = _states(config, talks, deal([talk.key for talk in talks], folds, seed), terminal)
    rated = [
        (RatedTurn(talk.key, place, turn.reply, rating), state)
        for talk, mine in zip(talks, states, strict=True)
        for place, (turn, rating, state) in enumerate(
            zip(talk.to_dialogue().turns, talk.ratings[1:], mine, strict=False)
        )
        if rating is not None
    ]
    turns = [turn for turn, state in rated if state is not None]
    _demand_dialogues({turn.dialogue for turn in turns}, folds)
    fold_of = deal([turn.dialogue for turn in turns], folds, seed)
    predictions = {config.users.kind: [state for _, state in rated if state is not None]}
    with terminal.stage("baselines", len(BASELINES)) as bar:
        for done, (name, baseline) in enumerate(BASELINES.items(), start=1):
            predictions[name] = cross_validated(baseline, turns, fold_of).tolist()
            bar(done)
    with terminal.stage("resamples", samples) as bar:
        found = calibrate(
            [turn.rating for turn in turns],
            [turn.dialogue for turn in turns],
            predictions,
            seed=seed,
            samples=samples,
            on_done=bar,
        )
    return found, len(rated) - len(turns)


def _states(config: RunConfig, talks: Sequence[Conversation], fold_of: Mapping[str, int], terminal: Terminal) -> States:
    """The user's state after every turn of every talk, on 1-5."""
    with terminal.stage("follow", sum(map(last_rated, talks))) as bar:
        done = 0

        def on_turns(count: int) -> None:
            nonlocal done
            done += count
            bar(done)

        if config.users.kind == "replay":
            return _replayed(config, talks, fold_of, on_turns)
        with Parts(config, config.run.dir, terminal.warn) as parts:
            states = follow(_users(parts, talks), talks, seed=config.run.seed, on_turns=on_turns)
            flat = [state for mine in states for state in mine]
            demand("states", missing=flat.count(None), asked=len(flat), limit=config.calls.max_missing)
            demand_any("states", missing=flat.count(None), asked=len(flat))
            return states


def _replayed(
    config: RunConfig, talks: Sequence[Conversation], fold_of: Mapping[str, int], on_turns: Callable[[int], None]
) -> States:
    """The states of replay users that hold the dialogues of the other folds only."""
    found: dict[str, list[float | None]] = {}
    for fold in sorted(set(fold_of.values())):
        known = [talk for talk in talks if fold_of[talk.key] != fold]
        asked = [talk for talk in talks if fold_of[talk.key] == fold]
        user = ReplayUser(known, neighbours=config.users.neighbours)
        states = follow(user, asked, seed=config.run.seed, on_turns=on_turns)
        found.update(zip((talk.id for talk in asked), states, strict=True))
    return [found[talk.id] for talk in talks]


def _users(parts: Parts, talks: Sequence[Conversation]) -> UserSimulator:
    """The users as they are; language models play the people of the logs, without a persona made up for them."""
    from rapo.data import played_scenario

    users, models = parts.config.users, parts.config.models
    if users.kind != "llm":
        return parts.users()
    if any(models[name].path for name in users.models):
        from rapo.stages import prepare

        prepare(parts.config)
    players = [parts.model(name, "user") for name in users.models]
    scenarios = [played_scenario(talk) for talk in talks]
    return LLMUser(scenarios, players, domain=users.domain, mode=users.mode, personas=False)


def table(found: Calibration) -> Table:
    """One line per figure, one column per predictor; fits 80 columns."""
    grid = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    grid.add_column("figure [95%]", no_wrap=True)
    for name in found.figures:
        grid.add_column(name, justify="right", overflow="fold")
    levels = {f"at_{level}": f"where rated {level}" for level in range(1, 6)}
    for figure, label in (LABELS | levels).items():
        grid.add_row(label, *(_cell(figures[figure]) for figures in found.figures.values()))
    return grid


def verdict(found: Calibration, lost: int) -> list[str]:
    """What the figures mean, in sentences that claim no more than the intervals allow."""
    (user, figures), *_ = found.figures.items()
    counts = ", ".join(f"{count:,} x {level}" for level, count in enumerate(found.rated, start=1))
    lines = [f"{found.turns:,} rated turns ({counts}) in {found.dialogues:,} dialogues"]
    if lost:
        lines.append(f"{lost:,} rated turns are left out: the user gave no usable state there")
    if found.between:
        share = f"{found.between:.0%}"
        lines.append(f"of the ratings' variance {share} lies between dialogues: who rates, not which reply")
    lines.append(f"over all turns {_tracks(user, figures['spearman'])}")
    lines.append(f"within dialogues {_tracks(user, figures['within'])}")
    for name, ahead in found.ahead.items():
        lines.append(
            f"{user} less {name}: rank correlation {_compared(ahead['spearman'])}; within {_compared(ahead['within'])}"
        )
    return [*lines, _advice(user, found)]


def _advice(user: str, found: Calibration) -> str:
    """Whether the state of ``user`` says anything of a reply that none of the baselines does."""
    within = found.figures[user]["within"]
    behind = [name for name, ahead in found.ahead.items() if not (ahead["within"] and ahead["within"].low > 0)]
    if within is None or within.low <= 0:
        return f"no sign that {user} knows which reply of a dialogue was better: do not train on its state alone"
    if behind:
        return f"{user} tells better replies from worse, not measurably better than: {', '.join(behind)}"
    return f"{user} tells better replies from worse, and does so better than the baselines"


def _tracks(user: str, correlation: Interval | None) -> str:
    if correlation is None:
        return "the rank correlation is undefined: too few ratings that differ, or one state for all"
    shown = f"rank correlation {_cell(correlation)}"
    if correlation.low > 0:
        return f"{user} follows the ratings ({shown}): {correlation.mean**2:.1%} of the variance of ranks"
    if correlation.high < 0:
        return f"{user} goes against the ratings ({shown})"
    return f"{user} does not follow the ratings beyond chance ({shown})"


def _compared(difference: Interval | None) -> str:
    if difference is None:
        return "undefined"
    apart = "better" if difference.low > 0 else "worse" if difference.high < 0 else "not told apart"
    return f"{difference:+.2f}, {apart}"


def _cell(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval:z.2f}"
