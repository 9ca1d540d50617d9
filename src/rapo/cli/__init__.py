"""The command line. Commands load what they need only when they run, so that help and config errors come at once."""

from rapo.cli import training, evaluating, looking  # isort: skip  (the order of the commands in the help)
from rapo.cli.program import app, main

__all__ = ["app", "evaluating", "looking", "main", "training"]
