"""Asking the models of a config within the half minute that a check has."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

from rapo.config import Calls, ModelSpec, RunConfig
from rapo.errors import EndpointError
from rapo.models.chat import ChatAnswer, ChatModel, ChatRequest
from rapo.models.connect import connect
from rapo.models.journal import Journal, Role
from rapo.parts import Parts

LEAST = 0.5  # seconds; with less of them left nothing is asked any more
# One attempt per request; only where nobody listens a second one makes sure.
ONE_ATTEMPT = Calls(breaker=2, patience=0.2)


class LateError(EndpointError):
    """The check's time was over before the answer came: nobody knows whether a run would have got it."""


class HurriedParts(Parts):
    """The parts of a run whose language models are asked once, and given up when the time is over.

    Args:
        config: the run's config.
        folder: receives the journal, wherever the run's own is.
        end: when the time is over, on ``time.monotonic``.

    Attributes:
        pace: tokens per second that a model in this process writes, by name, where it is known.
    """

    def __init__(self, config: RunConfig, folder: Path, end: float) -> None:
        calls = ONE_ATTEMPT.model_copy(update={"journal": folder / "journal.sqlite"})
        super().__init__(config.model_copy(update={"calls": calls}), folder, notice=lambda text: None)
        self.end, self.pace = end, dict[str, float]()
        self._apart, self._lock = dict[tuple[str, Role], Journal](), Lock()

    def model(self, name: str, role: Role) -> Hurried:
        """The language model ``name`` of the config in a role, in a hurry."""
        return Hurried(self, name, role)

    def connected(self, name: str, spec: ModelSpec, role: Role, notices: list[str], calls: Calls) -> ChatModel:
        """The model as ``spec`` describes it."""
        return connect(spec, self._own(name, role), role, calls, label=name, notice=notices.append, run=self.config.run)

    def _own(self, name: str, role: Role) -> Journal:
        """The journal, opened for one model in one role: an error ends the calls of all who share the object."""
        with self._lock:
            if (name, role) not in self._apart:
                self._apart[name, role] = Journal(self._path)
                self._opened.callback(self._apart[name, role].close)
            return self._apart[name, role]


class Hurried:
    """A model of a config; it is connected anew for each batch, whose time limit is what is left.

    Attributes:
        notices: what its connections gave notice of.
    """

    def __init__(self, parts: HurriedParts, name: str, role: Role) -> None:
        self.name, self.notices = name, list[str]()
        self._parts, self._role, self._spec = parts, role, parts.config.models[name]

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        """Every request's answer.

        Raises:
            LateError: the check's time is over.
            EndpointError: the model cannot be asked, or takes longer than its own ``timeout``.
        """
        left = self._parts.end - time.monotonic()
        if left < LEAST:
            raise LateError("the half minute of a check was over")
        spec, began = self._spec.model_copy(update=self._limits(left)), time.monotonic()
        model = self._parts.connected(self.name, spec, self._role, self.notices, ONE_ATTEMPT)
        for place, answer in _told_simply(self.name, model.answers(requests)):
            if answer is None and time.monotonic() - began >= spec.timeout:
                self._give_up(spec.timeout)
            if answer is not None and not answer.finished and spec.max_tokens < self._spec.max_tokens:
                raise LateError(f"an answer takes longer than {left:.0f} s")
            yield place, answer

    def _limits(self, left: float) -> dict[str, float | int]:
        limits: dict[str, float | int] = {"attempts": 1, "timeout": min(self._spec.timeout, left)}
        if self._spec.path:
            # Nothing stops a model in this process but its length; reading the prompt takes its time too.
            most = int(left / 4 * self._parts.pace.get(self.name, 1.0))
            limits["max_tokens"] = max(1, min(self._spec.max_tokens, most))
        return limits

    def _give_up(self, seconds: float) -> None:
        if seconds < self._spec.timeout:
            raise LateError(f"an answer takes longer than {seconds:.0f} s")
        raise EndpointError(
            f"no answer within models.{self.name}.timeout={self._spec.timeout:g}",
            fix="raise it, or take a faster model",
        )


def said_simply(name: str, error: EndpointError) -> EndpointError:
    """The error with a way out for a run that has not begun: there is nothing to resume."""
    way, _, resume = (error.fix or "").partition("; go on with: rapo resume")
    if resume:
        return EndpointError(error.what, got=error.got, fix=way)
    if "rapo resume" in way:
        return EndpointError(error.what, got=error.got, fix=f"start it, or mend models.{name}.url")
    return error


def _told_simply(
    name: str, answers: Iterator[tuple[int, ChatAnswer | None]]
) -> Iterator[tuple[int, ChatAnswer | None]]:
    try:
        yield from answers
    except EndpointError as error:
        raise said_simply(name, error) from None
