"""Code of the user's own, named in a config as ``package.module:Name``: its mistakes are one line each.

What it gives back is looked at before anything is learnt from it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from rapo.errors import ConfigError, RapoError
from rapo.hindsight.feedback import JudgeRequest, RewardModel, Verdict
from rapo.interact.users import UserSimulator
from rapo.models.chat import ChatRequest
from rapo.types import EchoRequest, Reaction, Scale, Scenario

T = TypeVar("T")


def load(dotted: str, key: str) -> Callable[..., Any]:
    """The class or function at ``package.module:Name``; modules in the current folder are found too.

    Args:
        dotted: where it is.
        key: the config key that names it, for errors.

    Raises:
        ConfigError: there is no such module or name, or the module cannot be imported.
    """
    module, _, name = dotted.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        holder = importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{key}={dotted} cannot be imported", got=reason, fix="start rapo where the module lies, or install it"
        ) from error
    if (found := getattr(holder, name, None)) is None:
        raise ConfigError(f"{key} names nothing", got=dotted, expected=f"a class or function in {module}")
    if not callable(found):
        raise ConfigError(f"{key} names no class or function", got=dotted)
    return cast("Callable[..., Any]", found)


def fingerprint(dotted: str, key: str) -> str:
    """A hash of the module that ``dotted`` names, but not of what else its code uses. Raises as ``load``."""
    load(dotted, key)
    file = sys.modules[dotted.partition(":")[0]].__file__
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def reader(dotted: str | None, key: str) -> Callable[[Path], Iterable[Any]] | None:
    """The importer at ``dotted``, a function from a file to its rows; None for none. Raises as ``load``."""
    return None if dotted is None else load(dotted, key)


def make(dotted: str, options: Mapping[str, Any], key: str, *, methods: Sequence[str]) -> Any:
    """An instance of the class at ``dotted``, made with ``options`` as keyword arguments.

    Raises:
        ConfigError: it cannot be imported or made, does not take the options, or lacks one of ``methods``.
    """
    made = load(dotted, key)
    try:
        inspect.signature(made).bind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{dotted} does not take its options", got=str(error), expected=f"{key.partition('.')[0]}.options that fit"
        ) from None
    part = _run(f"{key}={dotted}", lambda: made(**options))
    if lacking := [name for name in methods if not callable(getattr(part, name, None))]:
        raise ConfigError(
            f"{dotted} cannot serve as {key}", got=f"no method {', '.join(lacking)}", expected=", ".join(methods)
        )
    return part


def answers(dotted: str) -> Callable[[ChatRequest], str | None]:
    """The function at ``dotted`` in a language model's place. Raises as ``load``, and ConfigError where it fails."""
    label = f"path={dotted} of a model"
    found = load(dotted, label.partition("=")[0])

    def answer(request: ChatRequest) -> str | None:
        text = _run(label, lambda: found(request))
        if text is not None and not isinstance(text, str):
            raise ConfigError(f"{label} gives no answer", got=text, expected="a text, or None where there is none")
        return text

    return answer


def users(dotted: str, options: Mapping[str, Any]) -> UserSimulator:
    """The users at ``dotted``. Raises as ``make``, and ConfigError where they give what no user may."""
    return _Users(make(dotted, options, "users.kind", methods=("scenarios", "react")), f"users.kind={dotted}")


def judge(dotted: str, options: Mapping[str, Any]) -> RewardModel:
    """The judge at ``dotted``. Raises as ``make``, and ConfigError where it fails."""
    return _Judge(make(dotted, options, "judge.kind", methods=("judge",)), f"judge.kind={dotted}")


class _Users:
    """Users whose scenarios and reactions are as many as asked for, and whose states lie on their scales."""

    def __init__(self, users: UserSimulator, label: str) -> None:
        self._users, self._label, self.concurrency = users, label, _threads(users, label)
        # Phases of a step ask at the same time, each in so many threads.
        self._free = threading.BoundedSemaphore(self.concurrency or 1)

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        found = _run(self._label, lambda: list(self._users.scenarios(count, seed)))
        if len(found) != count:
            raise ConfigError(f"{self._label} gives too few or many scenarios", got=len(found), expected=str(count))
        for scenario in found:
            if not isinstance(scenario, Scenario):
                raise ConfigError(f"{self._label} gives no scenario", got=scenario, expected="a rapo.types.Scenario")
            if not scenario.opening or scenario.opening[-1].role != "user":
                what = f"{self._label}: the opening of scenario {scenario.id} does not end with the user"
                raise ConfigError(what, got=scenario.opening, expected="a last message with the role user")
            if not -math.inf < scenario.scale.low < scenario.scale.high < math.inf:
                what = f"{self._label}: the scale of scenario {scenario.id} is none"
                raise ConfigError(what, got=scenario.scale, expected="two numbers, low below high")
            self._on_scale(scenario.start, scenario.scale, "start of a scenario")
        if len({scenario.id for scenario in found}) < count:
            raise ConfigError(f"{self._label} gives scenarios with one id twice", expected="an id of its own for each")
        return found

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        with self._free:
            found = _run(self._label, lambda: list(self._users.react(requests)))
        if len(found) != len(requests):
            what = f"{self._label} gives too few or many reactions"
            raise ConfigError(what, got=len(found), expected=f"{len(requests)}, None where there is none")
        for request, reaction in zip(requests, found, strict=True):
            if reaction is None:
                continue
            if not isinstance(reaction, Reaction) or not isinstance(reaction.text, str):
                raise ConfigError(f"{self._label} gives no reaction", got=reaction, expected="a rapo.types.Reaction")
            self._on_scale(reaction.state, request.dialogue.scenario.scale, "state of a reaction")
        return found

    def _on_scale(self, state: object, scale: Scale, what: str) -> None:
        slack = 1e-6 * (scale.high - scale.low)  # of sums that are rounded
        if not isinstance(state, int | float) or not scale.low - slack <= state <= scale.high + slack:
            span = f"a number from {scale.low:g} to {scale.high:g}, the scenario's scale"
            raise ConfigError(f"{self._label}: the {what} is off its scale", got=state, expected=span)


class _Judge:
    """A judge whose failures are one line; its verdicts are looked at where every judge's are."""

    def __init__(self, judge: RewardModel, label: str) -> None:
        self._judge, self._label, self.concurrency = judge, label, _threads(judge, label)

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        return _run(self._label, lambda: list(self._judge.judge(requests)))


def _threads(part: object, label: str) -> int:
    """How many threads may ask the part at once; 0 where it says nothing."""
    found = getattr(part, "concurrency", 0)
    if not isinstance(found, int) or found < 0:
        raise ConfigError(f"{label}: its concurrency is no number of threads", got=found, expected="0 or more")
    return found


def _run(label: str, act: Callable[[], T]) -> T:
    """What ``act``, a call of the user's code, gives; raises ConfigError with the line of that code that failed."""
    try:
        return act()
    except RapoError:
        raise
    except Exception as error:
        # Behind this function and ``act``; deeper frames may be a library's.
        frames = traceback.extract_tb(error.__traceback__)[2:]
        places = [frame for frame in frames if frame.filename == frames[0].filename]
        place = f"look at {Path(places[-1].filename).name} line {places[-1].lineno}" if places else None
        raise ConfigError(f"{label} fails", got=f"{type(error).__name__}: {error}", fix=place) from error
