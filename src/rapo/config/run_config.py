"""The whole config: its sections, and that they fit together."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from rapo import yaml_text
from rapo.config.contradictions import contradictions
from rapo.config.sections import (
    Branch,
    Calls,
    Correct,
    Eval,
    Gate,
    Judge,
    Lora,
    ModelSpec,
    Play,
    Policy,
    Run,
    Section,
    Select,
    Sft,
    Suites,
    Teacher,
    Train,
    Update,
    Users,
)
from rapo.errors import ConfigError


class RunConfig(Section):
    """Everything that decides a run, one section per part of it."""

    run: Run = Run()
    policy: Policy = Policy()
    lora: Lora = Lora()
    sft: Sft = Sft()
    gate: Gate = Gate()
    users: Users = Users()
    play: Play = Play()
    select: Select = Select()
    branch: Branch = Branch()
    judge: Judge = Judge()
    correct: Correct = Correct()
    update: Update = Update()
    teacher: Teacher = Teacher()
    train: Train = Train()
    eval: Eval = Eval()
    suites: Suites = Suites()
    models: dict[str, ModelSpec] = Field(default={})
    calls: Calls = Calls()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Raise ConfigError when keys that are each right contradict each other."""
        for broken, what, expected in contradictions(self):
            if broken:
                raise ConfigError(what, expected=expected)
        return self

    def to_yaml(self) -> str:
        """The resolved config; loading it gives an equal config."""
        return yaml_text.dump(self.model_dump(mode="json"))
