"""The error tree. Every error a user can cause is one of these and prints as one line.

    RapoError
    ├── ConfigError    a value in a config file or override
    ├── DataError      a file or a row the user gave us
    ├── ModelError     a model folder, tokenizer or architecture
    ├── RunError       the run directory: records, checkpoints, disk
    ├── GateError      the model is not ready for reinforcement learning
    ├── EndpointError  a language model behind an endpoint: unreachable, refusing, or not answering usably
    └── BudgetError    the next call could exceed the budget of the run

An error says what happened, what was met, what was expected, and the way out.
"""

from __future__ import annotations


class RapoError(Exception):
    """One line for the user: ``what: got X; expected Y; way out``.

    Args:
        what: the boundary that failed and how, such as ``"play.turns is out of range"``.
        got: the offending value as it was met (shortened when long).
        expected: what would have been right.
        fix: the way out, as an instruction.
    """

    def __init__(self, what: str, *, got: object = None, expected: str | None = None, fix: str | None = None) -> None:
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        parts = [what]
        if got is not None:
            parts.append(f"got {_shorten(got)}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if fix is not None:
            parts.append(fix)
        super().__init__("; ".join(" ".join(part.split()) for part in parts))


class ConfigError(RapoError):
    """A config key is unknown, or its value has the wrong type or range."""


class DataError(RapoError):
    """A data file is missing, empty, unreadable or holds a row that cannot be used."""


class LackingError(ConfigError):
    """The recipe or the installation lacks what a suite needs."""


class ModelError(RapoError):
    """A model folder, tokenizer, context length or architecture cannot be used."""


class RunError(RapoError):
    """A run directory cannot be written, read or resumed."""


class GateError(RapoError):
    """The policy lacks a skill without which reinforcement learning would not get going."""


class EndpointError(RapoError):
    """A language model cannot be asked, or its answers cannot be used; the run stops and can be resumed."""


class BudgetError(RapoError):
    """The next call could exceed the budget; the run stops before it and can be resumed with a larger one."""


def _shorten(value: object, limit: int = 120) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
