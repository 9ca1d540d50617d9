"""A whole run, stage by stage: start policy, gate, evaluation, training, evaluation.

Every stage leaves a file behind when it is complete and is skipped when that file is there, so that a run goes on where
it was stopped: ``sft/`` (or ``policy.path``), ``gate.json``, ``evaluation-before.json``, ``checkpoints/``,
``evaluation-after.json``, ``summary.json``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import torch
from transformers.utils import logging

from rapo import prompts
from rapo.alarms import Alarms, BudgetAlarm
from rapo.config import WORLDS, RunConfig
from rapo.errors import ModelError, RapoError, RunError
from rapo.evals.suite import Result
from rapo.live import watch
from rapo.measure import evaluate
from rapo.model_card import card, write_card
from rapo.models import adapters
from rapo.models.decoder import checkpoints_activations, obstacle
from rapo.models.pieces import pieces
from rapo.models.policy import Policy
from rapo.optimize import checkpoint
from rapo.optimize.render import Example
from rapo.optimize.sft import SftStep
from rapo.parts import Parts
from rapo.progress import Terminal
from rapo.records import RunDirectory, atomic_write, numbers, read_records, to_json
from rapo.report import leave_report
from rapo.seeds import derive_seed
from rapo.suites import own
from rapo.supervised import check_gate, correction_lesson, load_policy, measure_gate, start_policy, supervise
from rapo.trackers import tracked
from rapo.trainer import Step, Trainer
from rapo.worlds import load_world

REPLAY_POOL = 1000


def prepare(config: RunConfig) -> None:
    """Set what torch and transformers keep globally: threads, deterministic kernels on the CPU, no chatter.

    Raises:
        ModelError: the run's device is not there.
    """
    silence()
    torch.set_num_threads(config.run.threads)
    if config.run.device == "cpu":
        torch.use_deterministic_algorithms(True)
        # Else every new tensor is filled with NaN first, to show who reads what nobody wrote.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    elif not torch.cuda.is_available():
        raise ModelError("there is no GPU that torch can use", got="run.device=cuda", fix="set run.device=cpu")


def silence() -> None:
    """Keep transformers from talking between the lines of the program."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def run_sft(run: RunDirectory, terminal: Terminal) -> Path:
    """Make the start policy of a run in its folder ``sft``, unless it is there already."""
    folder = run.path / "sft"
    if folder.is_dir():
        return folder
    config = run.config
    prepare(config)
    with terminal.stage("learn to talk", 1000) as bar:

        def show(step: SftStep) -> None:
            bar(1000 * step.step // step.steps, {"loss": f"{step.loss:.2f}"})

        result = supervise(config, show)
    note = f"{result.examples} examples, {result.tokens} tokens"
    terminal.say(f"learnt from {note}; loss on held-out examples {result.loss:.3f}")
    if result.risk_skipped:
        what = f"{result.risk_skipped} dialogues show signs of risk and are kept out of training"
        terminal.warn(f"{what} (train.on_risk, docs/safety.md)")
    checkpoint.write_whole(folder, result.policy.save)
    return folder


def run_training(run: RunDirectory, terminal: Terminal) -> dict[str, Any]:
    """Everything ``rapo train`` does; goes on where an interrupted run stopped. Returns the summary."""
    with Parts(run.config, run.path, terminal.warn) as parts:
        return _run_stages(run, parts, terminal)


def _run_stages(run: RunDirectory, parts: Parts, terminal: Terminal) -> dict[str, Any]:
    config, started = run.config, time.time()
    prepare(config)
    _check_users(parts)
    source = config.policy.path or str(run_sft(run, terminal))
    start = start_policy(config, source)
    start.model.requires_grad_(False)
    _pass_gate(run, start, terminal)
    before = evaluate(run, parts, "before", {"start": start}, terminal, battery=config.eval.exploits)
    policy = learn(run, parts, start, terminal)
    after = evaluate(run, parts, "after", {"trained": policy}, terminal)
    newest, _ = checkpoint.latest(run.path / "checkpoints")
    if newest is not None:
        write_card(newest, describe(run, [*before, *after]))
    summary = _summary(run, parts, [*before, *after], time.time() - started)
    atomic_write(run.path / "summary.json", json.dumps(summary, indent=1) + "\n")
    leave_report(run.path, terminal.warn)
    return summary


def _check_users(parts: Parts) -> None:
    """Meet what is wrong with the users or their logs before hours of work, not after."""
    config = parts.config
    parts.judge()
    parts.users().scenarios(config.play.dialogues, 0)
    for users in own(parts).users.values():
        users.scenarios(config.eval.dialogues, 0)


def learn(run: RunDirectory, parts: Parts, start: Policy, terminal: Terminal) -> Policy:
    """The training steps that are left; returns the trained policy."""
    config, folder = parts.config, run.path / "checkpoints"
    checkpoint.clean(folder)
    newest, notices = checkpoint.latest(folder)
    for notice in notices:
        terminal.warn(notice)
    trainer = make_trainer(parts, start, newest)
    done = checkpoint.read_cursor(newest).step if newest else 0
    _demand_checkpoint(run, done)
    run.truncate(done)
    if done < config.train.steps:
        _notice_plain_updates(trainer.policy, terminal)
        # A run that train.max_minutes ended early has a result, which is out of date after the next step.
        for name in ("evaluation-after.json", "summary.json"):
            (run.path / name).unlink(missing_ok=True)
    deadline = time.monotonic() + 60 * config.train.max_minutes if config.train.max_minutes else math.inf
    saver = _Saver(trainer, run, done, _scores_since_regular_save(run, done))
    budget, alarms, history = BudgetAlarm(config.train.steps, done, parts.spent()), Alarms(), _logged(run)
    for metrics in history:
        alarms.check(metrics)  # what was told of before is not told of again
    with tracked(run, terminal.warn) as trackers, watch(terminal, config.train.steps, history) as watcher:
        for number in range(done + 1, config.train.steps + 1):
            with saver.on_stop():
                step = trainer.step(number, watcher.phase)
            record(run, step, trainer.policy.decode)
            run.flush()
            trackers.log(number, step.metrics)
            for text in [*alarms.check(step.metrics), *budget.check(number, parts.spent())]:
                watcher.alarm(number, text)
            watcher.step(number, step.metrics, step.groups, [*alarms.standing, *budget.standing])
            late = time.monotonic() > deadline
            saver.after(step, late or number == config.train.steps)
            if late:
                terminal.warn(f"train.max_minutes is over at step {number}; go on with: rapo resume {run.path}")
                break
    return trainer.policy


def _demand_checkpoint(run: RunDirectory, done: int) -> None:
    """Raise RunError where records of steps would be dropped of which a checkpoint was written once."""
    reached = max((row["step"] for row in read_records(run.path, "metrics")), default=0)
    if done == 0 and reached > run.config.train.save_every:
        raise RunError(
            f"{run.path / 'checkpoints'} holds no whole checkpoint, though the run was at step {reached}",
            fix="put the checkpoints back, or start another run: going on from the beginning would drop its records",
        )


@dataclass(slots=True)
class _Saver:
    """Writes checkpoints at regular steps, scored by the steps since the one before, and, without score, at a stop."""

    trainer: Trainer
    run: RunDirectory
    done: int
    scores: list[float]
    saved: bool = True
    taken: int = 0

    def after(self, step: Step, last: bool) -> None:
        self.done, self.saved, self.taken = step.number, False, self.trainer.optimizer.taken
        self.scores.append(step.metrics["state_change"])
        regular = step.number % self.trainer.config.train.save_every == 0
        if regular:
            known = [score for score in self.scores if math.isfinite(score)]
            self._save(fmean(known) if known else math.nan)
            self.scores.clear()
        elif last:
            self._save()

    @contextmanager
    def on_stop(self) -> Iterator[None]:
        """Keep the steps done when the next one cannot be, unless it has learnt a part."""
        try:
            yield
        except RapoError:
            if not self.saved and self.trainer.optimizer.taken == self.taken:
                self._save()
            raise

    def _save(self, score: float = math.nan) -> None:
        save(self.trainer, self.done, score, self.run.path / "checkpoints", card=describe(self.run))
        self.saved = True


def _scores_since_regular_save(run: RunDirectory, done: int) -> list[float]:
    """What the steps after the last regular checkpoint scored, so that a stop between two changes no score."""
    regular = done - done % run.config.train.save_every
    return [row["state_change"] for row in _logged(run) if row["step"] > regular]


def _logged(run: RunDirectory) -> list[dict[str, float]]:
    return [numbers(row) for row in read_records(run.path, "metrics")]


def _notice_plain_updates(policy: Policy, terminal: Terminal) -> None:
    """Say so when updates cannot share prefixes: the numbers stay the same, the time does not."""
    if reason := obstacle(policy.model):
        also = ", and run.checkpointing has no effect" if checkpoints_activations(policy.model) else ""
        terminal.warn(f"this model cannot share prefixes ({reason}); updates take the plain, slower path{also}")


def make_trainer(parts: Parts, start: Policy, newest: Path | None = None) -> Trainer:
    """A trainer at its first step, or as it stood at the checkpoint ``newest``."""
    config = parts.config
    policy = _restored(config, newest, start) if newest else start.clone(trainable=True)
    trainer = Trainer(
        config,
        policy,
        start=start,
        users=parts.users(),
        judge=parts.judge(),
        replay=_replay(config, policy),
    )
    if newest:
        trainer.optimizer.load(checkpoint.read_optimizers(newest))
        if config.teacher.kind == "ema":
            trainer.teacher = _restored(config, newest / "teacher", start)
    return trainer


def _restored(config: RunConfig, folder: Path, start: Policy) -> Policy:
    """The policy that was saved in a folder; if it is an adapter, on the base weights of ``start``."""
    if not start.adapted:
        return load_policy(config, str(folder))
    policy = start.clone(trainable=True)
    adapters.read(policy.model, folder)
    return policy


def describe(run: RunDirectory, results: Sequence[Result] = ()) -> str:
    """The model card of a run as it stands."""
    rows = list(read_records(run.path, "metrics"))
    calls = {f"{name} calls": sum(row[f"{name}_calls"] for row in rows) for name in ("simulator", "judge")}
    newest = {name: value for name, value in (rows[-1] if rows else {}).items() if value is not None}
    return card(run.config, step=newest.get("step", 0), metrics=newest, calls=calls, results=results)


def save(trainer: Trainer, step: int, score: float, folder: Path, *, card: str = "") -> Path:
    """Write a checkpoint, its model card beside it; a score that is not a number does not count."""
    config = trainer.config

    def write_model(target: Path) -> None:
        trainer.policy.save(target)
        (target / checkpoint.CARD).write_text(card, encoding="utf-8")

    return checkpoint.save(
        folder,
        checkpoint.Cursor(step, score if math.isfinite(score) else None),
        write_model=write_model,
        optimizers=trainer.optimizer.state(),
        keep=config.train.keep,
        extra={"teacher": trainer.teacher.save} if config.teacher.kind == "ema" else None,
    )


def record(run: RunDirectory, step: Step, decode: Callable[[Sequence[int]], str]) -> None:
    """Add what a step produced to the records of the run; ``decode`` is the policy's, and tells the words of tokens."""
    run.append("metrics", step.number, step.metrics)
    for dialogue in step.dialogues:
        run.append("dialogues", step.number, {"dialogue": dialogue})
    rows = zip(step.groups, step.advantages, step.divergences, step.token_divergences, strict=True)
    for group, advantages, divergences, of_tokens in rows:
        found = {
            "group": group,
            "advantages": advantages,
            "divergences": divergences,
            "token_divergences": [each and [round(value, 4) for value in each] for each in of_tokens],
            "pieces": {
                kind: [pieces(decode, each.completion.token_ids) for each in some]
                for kind, some in (("candidates", group.candidates), ("corrections", group.corrections))
            },
        }
        run.append("groups", step.number, found)


def _replay(config: RunConfig, policy: Policy) -> Callable[[int], Sequence[Example]]:
    count = config.teacher.replay
    if count == 0:
        return lambda step: ()
    corrections = load_world(config.users.kind).corrections(REPLAY_POOL, derive_seed(config.run.seed, "replay"))
    pool = [correction_lesson(policy, config, each) for each in corrections]
    return lambda step: Random(derive_seed(config.run.seed, "replay", step)).sample(pool, count)


def _pass_gate(run: RunDirectory, start: Policy, terminal: Terminal) -> None:
    config, path = run.config, run.path / "gate.json"
    if config.users.kind not in WORLDS or not config.gate.enabled or path.is_file():
        return
    gate = measure_gate(start, config)
    terminal.say(f"gate: loss on copied facts {gate.fact_loss:.3f}, teacher lift {gate.teacher_lift:.2f}")
    check_gate(gate, config)
    atomic_write(path, json.dumps({"v": 1, **asdict(gate)}) + "\n")


def _summary(run: RunDirectory, parts: Parts, results: Sequence[Result], seconds: float) -> dict[str, Any]:
    metrics = list(read_records(run.path, "metrics"))
    extra = ("peft",) if run.config.lora.rank else ()
    return {
        "v": 2,
        "seed": run.config.run.seed,
        "steps": len(metrics),
        "simulator_calls": sum(row["simulator_calls"] for row in metrics),
        "judge_calls": sum(row["judge_calls"] for row in metrics),
        "seconds": round(seconds, 1),
        "calls": to_json(parts.totals()),
        "answers": to_json(parts.tallies()),
        "prompts": {name: prompts.load(name).hash for name in prompts.names()},
        "versions": {name: metadata.version(name) for name in ("rapo-rl", "torch", "transformers", *extra)},
        "results": [{key: value for key, value in to_json(result).items() if key != "items"} for result in results],
    }
