"""What ``rapo eval`` and ``rapo compare`` do: measure models by folder, hub id, run or endpoint, suite by suite."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rapo import plugins
from rapo.config import RunConfig
from rapo.data import fingerprint
from rapo.errors import RunError
from rapo.evals.results import read_results, write_results
from rapo.evals.suite import Result, Suite, compare
from rapo.export import model_source
from rapo.interact.play import Speaker
from rapo.measure import has_battery, measure, measure_battery, policy_speaker
from rapo.missing import CountingSpeaker, demand
from rapo.models.connect import identity
from rapo.models.source import check_source
from rapo.models.source import fingerprint as source_fingerprint
from rapo.models.speaker import ChatSpeaker
from rapo.parts import Parts
from rapo.progress import Terminal
from rapo.records import disk_errors
from rapo.show import comparisons, exploits, figures, table
from rapo.stages import prepare
from rapo.suites import OWN, default_suites, make_suites
from rapo.supervised import load_policy

BATTERY = "battery"


def run_eval(
    config: RunConfig,
    models: Sequence[str],
    suites: Sequence[str],
    terminal: Terminal,
    folder: Path,
    json_path: Path | None = None,
) -> list[Result]:
    """Evaluate every model on the same users and print tables, the scripted speakers of embedded worlds in them.

    Args:
        config: whose users, models and settings.
        models: folders, hub ids, run folders, or names of the config's models.
        suites: their names; none takes the default ones.
        terminal: shows progress and tables.
        folder: keeps every finished result, so that an evaluation goes on where it was stopped.
        json_path: receives all results too.

    Raises:
        ConfigError: there is no such suite, or the recipe lacks what one needs.
        ModelError: a model cannot be loaded.
        RunError: a file cannot be written.
    """
    models = list(dict.fromkeys(models))
    if json_path and not json_path.parent.is_dir():
        raise RunError(f"{json_path} cannot be written", got=f"no folder {json_path.parent}", fix="make it first")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    prepare(config)
    # Training evaluates with the same calls, and finds their answers in its run.
    with Parts(config, config.run.dir, terminal.warn) as parts:
        speakers = Speakers(parts, models)
        results: list[Result] = []
        for suite in make_suites(parts, suites or default_suites(config)):
            results += _in_suite(suite, speakers, Kept(folder, suite.name, config), terminal)
    show_results(results, terminal)
    if json_path:
        write_results(json_path, results)
    return results


def run_compare(
    config: RunConfig, models: Sequence[str], suites: Sequence[str], terminal: Terminal, folder: Path
) -> None:
    """Evaluate models as :func:`run_eval`, and print each against the first one, item by item."""
    config = config.model_copy(update={"eval": config.eval.model_copy(update={"exploits": False})})
    results = run_eval(config, models, suites, terminal, folder)
    first = {(each.suite, each.users): each for each in results if each.speaker == models[0]}
    pairs = [(each, first[each.suite, each.users]) for each in results if each.speaker != models[0]]
    found = [(a, b, compare(a, b, seed=config.run.seed, samples=config.eval.bootstrap)) for a, b in pairs]
    terminal.console.print(comparisons(found))


def show_results(results: Sequence[Result], terminal: Terminal) -> None:
    """Print a table per suite, and which exploits are not clearly below the first speaker."""
    for name in dict.fromkeys(each.suite for each in results):
        mine = [each for each in results if each.suite == name]
        if mine[0].main == "change":
            terminal.console.print(table(mine))
        else:
            for users in dict.fromkeys(each.users for each in mine):
                terminal.console.print(figures([each for each in mine if each.users == users]))
        exploits(mine, mine[0].speaker, mine[0].speaker, terminal)


class Speakers:
    """Those that are measured, each loaded when it is needed.

    Args:
        parts: connect to language models.
        names: folders, hub ids, run folders, or names of the config's models.

    Raises:
        RunError: a run folder holds no model yet.
        ModelError, ConfigError: there is no model or function of a name.
    """

    def __init__(self, parts: Parts, names: Sequence[str]) -> None:
        self.names, self._parts, self._made = names, parts, dict[str, Speaker]()
        self._sources = {name: name if name in parts.config.models else model_source(name) for name in names}
        # All of them before the first is measured, which may take hours.
        for name in names:
            self._check(name)

    def source(self, name: str) -> str:
        """What a speaker is, the same text as long as it stays as it is."""
        source = self._sources[name]
        # Of what the config names, Kept looks at more.
        return json.dumps([source, "" if name in self._parts.config.models else source_fingerprint(source)])

    def get(self, name: str) -> Speaker:
        """The speaker itself; raises ModelError when it cannot be loaded."""
        config = self._parts.config
        if name not in self._made:
            if name in config.models:
                self._made[name] = ChatSpeaker(self._parts.model(name, "policy"), config.policy.system_prompt)
            else:
                self._made[name] = policy_speaker(load_policy(config, self._sources[name]), config)
        return self._made[name]

    def _check(self, name: str) -> None:
        """See that there is a model of a name, without loading it; an endpoint is not asked."""
        spec = self._parts.config.models.get(name)
        source = spec.path if spec else self._sources[name]
        if spec and spec.function:
            plugins.answers(str(source))
        elif source:
            check_source(source)


def _in_suite(suite: Suite, speakers: Speakers, kept: Kept, terminal: Terminal) -> list[Result]:
    def run(name: str) -> list[Result]:
        speaker = speakers.get(name)
        if not isinstance(speaker, ChatSpeaker):
            return measure(suite, {name: speaker}, terminal, title=suite.name)
        # Talks that end because an endpoint failed would be measured as if the speaker had ended them.
        counting, limit = CountingSpeaker(speaker), kept.config.calls.max_missing
        found = measure(suite, {name: counting}, terminal, title=suite.name)
        demand(f"replies of {name}", missing=counting.missing, asked=counting.calls, limit=limit)
        return found

    results = [each for name in speakers.names for each in kept.get(name, speakers.source(name), partial(run, name))]
    battery = kept.config.eval.exploits and has_battery(suite)
    return results + (kept.get(BATTERY, "", partial(measure_battery, suite, terminal)) if battery else [])


@dataclass(frozen=True, slots=True)
class Kept:
    """Finished results of a suite in a folder, each with what it depends on.

    Attributes:
        folder: holds a file per suite and speaker.
        suite: its name.
        config: whose settings decide results.
    """

    folder: Path
    suite: str
    config: RunConfig

    def get(self, speaker: str, source: str, run: Callable[[], list[Result]]) -> list[Result]:
        """The results of a speaker: kept ones if nothing has changed since, or those of ``run``, which are kept."""
        c = self.config
        what = [speaker, source, fingerprint(self._files()), c.run.seed, c.run.dtype, c.run.autocast]
        # Whether exploits are looked for too changes nobody's result.
        decides = (c.policy, c.users, c.eval, c.suites)
        what += [section.model_dump(mode="json", exclude={"exploits"}) for section in decides]
        what += [
            [name, spec.name, spec.path, spec.temperature, spec.max_tokens, identity(spec)]
            for name, spec in c.models.items()
            if name in self._asked(speaker)
        ]
        own = {"users.kind": c.users.kind, "users.importer": c.users.importer}
        what += [plugins.fingerprint(dotted, key) for key, dotted in own.items() if dotted and ":" in dotted]
        settings = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        slug = re.sub(r"[^\w.-]+", "-", speaker).strip("-.")[-80:]
        path = self.folder / f"{self.suite}--{slug}.json"
        found = read_results(path, settings=settings)
        if found is None:
            found = run()
            write_results(path, found, settings=settings)
        return found

    def _files(self) -> Sequence[Path]:
        """The data that the suite is made of."""
        c = self.config.suites
        made_of = {OWN: self.config.users.files, "esconv": c.esconv, "emoharbor": c.emoharbor, "sotopia": c.sotopia}
        return made_of.get(self.suite, ())

    def _asked(self, speaker: str) -> set[str | None]:
        """The language models that have a part in the results, by name."""
        c = self.config
        return {speaker, *c.users.models, *c.eval.models, c.eval.judge, c.suites.users, c.suites.judge}
