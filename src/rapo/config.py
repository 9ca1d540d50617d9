"""One validated config for a whole run: YAML plus ``section.key=value`` overrides, or a one-line error.

Loads no torch, so that a typing error costs no waiting. Paths are relative to the current folder.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from rapo import prompts, yaml_text
from rapo.errors import ConfigError
from rapo.type_words import type_words

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
UpTo1000 = Annotated[int, Field(ge=0, le=1000)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, le=1)]
InnerShare = Annotated[float, Field(ge=0, lt=1)]
File = Annotated[Path, Field(strict=False)]
Files = Annotated[tuple[File, ...], Field(strict=False)]
Population = Literal["familiar", "held_out"]
Populations = Annotated[tuple[Population, ...], Field(strict=False, min_length=1)]


class Section(BaseModel):
    """A frozen group of at most 12 keys; nothing is converted but whole numbers to floats and text to paths."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Run(Section):
    """Where and on what the run computes."""

    dir: File = Field(default=Path("runs/run"), description="folder that receives everything the run writes")
    seed: Whole = Field(default=0, description="decides every random choice of the run")
    threads: Count = Field(default=2, description="CPU threads of torch")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where the policy computes")
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="number format of the weights")


class Policy(Section):
    """The model being trained."""

    path: str | None = Field(default=None, description="Hugging Face model to start from; null makes one from scratch")
    system_prompt: str | None = Field(default=None, description="system message; prompt:NAME takes prompts/NAME.md")
    max_tokens: Count = Field(default=48, description="longest reply, in tokens")
    vocab_size: Annotated[int, Field(ge=300)] = Field(default=2048, description="from scratch: vocabulary size")
    hidden: Count = Field(default=128, description="from scratch: width of the model")
    layers: Count = Field(default=3, description="from scratch: number of layers")
    heads: Count = Field(default=4, description="from scratch: attention heads per layer")
    max_context: Count = Field(default=768, description="from scratch: longest prompt plus reply, in tokens")
    trust_remote_code: bool = Field(default=False, description="let the model's folder run its own Python code")

    @field_validator("system_prompt")
    @classmethod
    def _read_prompt(cls, text: str | None) -> str | None:
        return prompts.load(text.removeprefix("prompt:")).fill() if text and text.startswith("prompt:") else text


class Sft(Section):
    """Supervised fine-tuning before reinforcement learning."""

    files: Files = Field(default=(), description="JSONL dialogues to learn from; empty takes the embedded corpus")
    dialogues: Count = Field(default=800, description="dialogues drawn from the embedded corpus")
    practice: Whole = Field(default=2000, description="embedded corpus: short dialogues learnt first, to use facts")
    corrections: Whole = Field(default=2500, description="correction examples drawn from the embedded corpus")
    epochs: Positive = Field(default=1.0, description="passes over the examples")
    optimizer: Literal["muon", "adamw"] = Field(default="muon", description="muon: from scratch; adamw: fine-tuning")
    lr: Positive = Field(default=0.007, description="peak learning rate of Muon (the matrices)")
    adam_lr: Positive = Field(default=0.012, description="peak learning rate of AdamW (embeddings, norms; or all)")
    batch_tokens: Count = Field(default=1024, description="tokens per optimizer step")
    warmup: InnerShare = Field(default=0.05, description="share of the steps over which the learning rate rises")
    holdout: InnerShare = Field(default=0.02, description="share of the examples kept for validation")


class Gate(Section):
    """What a policy must be able to do before reinforcement learning starts."""

    enabled: bool = Field(default=True, description="refuse to start with a policy that fails the gate")
    fact_loss: Positive = Field(default=0.1, description="highest cross-entropy (nats) on facts copied from the user")
    teacher_lift: Share = Field(default=0.85, description="lowest share of corrections that beat the failed reply")
    cases: Count = Field(default=128, description="cases on which the gate is measured")


class Users(Section):
    """Who plays the user."""

    kind: Literal["support", "replay"] = Field(default="support", description="scripted seekers, or logged reactions")
    population: Population = Field(default="familiar", description="which scripted seekers to train with")
    files: Files = Field(default=(), description="replay: JSONL dialogue logs to draw reactions from")
    neighbours: Count = Field(default=32, description="replay: most similar logged turns that answer for the user")
    max_opening: Count = Field(default=12, description="replay: most messages already said when a dialogue starts")


class Play(Section):
    """Step 1: playing dialogues out."""

    dialogues: Count = Field(default=16, description="dialogues per step")
    turns: Count = Field(default=3, description="most replies per dialogue")
    temperature: Positive = Field(default=1.0, description="sampling temperature of the replies")


class Select(Section):
    """Step 2: keeping the pivotal turns."""

    share: OpenShare = Field(default=0.5, description="share of the step's turns that is kept, most pivotal first")
    per_dialogue: Count = Field(default=2, description="most turns kept of one dialogue")
    floor: Weight = Field(default=0.1, description="least absolute change of the user's state")


class Branch(Section):
    """Step 3: sampling candidates at each pivotal turn."""

    candidates: Annotated[int, Field(ge=2)] = Field(default=8, description="candidates per group (G)")
    temperature: Positive = Field(default=1.0, description="sampling temperature of the candidates")


class Judge(Section):
    """Step 4: generative hindsight feedback."""

    kind: Literal["support", "contrast"] = Field(default="support", description="who ranks and writes the critiques")
    permutations: Count = Field(default=1, description="orders in which each group is judged; ranks are averaged")
    tie: Weight = Field(default=0.0, description="contrast: states no further apart than this share a rank")


class Correct(Section):
    """Step 5: the feedback-aware teacher rewrites failed replies."""

    below: Share = Field(default=0.75, description="rank reward below which a reply that did not help is corrected")
    per_group: Count = Field(default=4, description="most candidates corrected in a group, drawn at random")
    temperature: Positive = Field(default=0.5, description="sampling temperature of the corrections")
    verify: Share = Field(default=0.25, description="share of corrections whose echo is asked for (teacher lift)")


class Update(Section):
    """Step 6: the scalar-verbal hybrid loss."""

    lr: Positive = Field(default=1e-3, description="learning rate")
    macro: Weight = Field(default=1.0, description="weight of the rank term (GRPO)")
    micro: Weight = Field(default=1.0, description="weight of the verbal term (lambda)")
    micro_decay: Count | None = Field(default=None, description="steps in which lambda falls to 0; null keeps it")
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = Field(default="forward_kl", description="verbal distance")
    along: Literal["corrections", "own"] = Field(default="corrections", description="tokens the verbal term runs along")
    top_k: Whole = Field(default=0, description="teacher's likeliest tokens compared, the rest as one; 0 compares all")
    clip_low: OpenShare = Field(default=0.2, description="how far below 1 the probability ratio may fall")
    clip_high: Positive = Field(default=0.28, description="how far above 1 the probability ratio may rise")
    kl: Weight = Field(default=0.0, description="weight of the KL divergence to the start policy")
    groups_per_forward: Count = Field(default=4, description="groups per forward pass: memory, never the result")
    grad_clip: Positive = Field(default=1.0, description="largest gradient norm")


class Teacher(Section):
    """The weights behind the feedback-aware teacher."""

    kind: Literal["ema", "frozen", "live"] = Field(default="ema", description="moving average, start, or same weights")
    decay: InnerShare = Field(default=0.95, description="ema: share of the old weights kept at each step")
    replay: UpTo1000 = Field(default=16, description="supervised correction examples replayed per step")
    replay_weight: Weight = Field(default=1.0, description="weight of the replayed examples in the loss")


class Train(Section):
    """How long to train and when to save."""

    steps: Count = Field(default=40, description="training steps")
    save_every: Count = Field(default=10, description="steps between checkpoints")
    keep: Count = Field(default=2, description="newest checkpoints kept, besides the best")
    max_minutes: Positive | None = Field(default=None, description="stop and save after this time; null never stops")


class Eval(Section):
    """Measuring the result with users of its own."""

    dialogues: Count = Field(default=64, description="dialogues per population")
    turns: Count = Field(default=6, description="most replies per dialogue")
    temperature: Weight = Field(default=0.7, description="sampling temperature of the replies; 0 takes the likeliest")
    populations: Populations = Field(default=("familiar", "held_out"), description="seekers to be measured with")
    bootstrap: Count = Field(default=2000, description="resamples behind each interval")
    exploits: bool = Field(default=True, description="also look for replies that please the simulator only")


class RunConfig(Section):
    """Everything that decides a run, one section per part of it."""

    run: Run = Run()
    policy: Policy = Policy()
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

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Raise ConfigError when keys that are each right contradict each other."""
        for broken, what, expected in _contradictions(self):
            if broken:
                raise ConfigError(what, expected=expected)
        return self

    def to_yaml(self) -> str:
        """The resolved config; loading it gives an equal config."""
        return yaml_text.dump(self.model_dump(mode="json"))


def _contradictions(c: RunConfig) -> list[tuple[bool, str, str]]:
    """Whether each contradiction is met, what it is, and what was expected."""
    p, u, replay = c.policy, c.update, c.users.kind == "replay"
    kept, distils = c.select.share * c.play.dialogues * c.play.turns, u.micro > 0 and u.along == "corrections"
    return [
        (replay and not c.users.files, "users.kind=replay has no users.files", "a list of JSONL dialogue logs"),
        (not replay and bool(c.users.files), "users.files is given", "users.kind=replay with it"),
        (replay and c.judge.kind == "support", "judge.kind=support cannot judge replayed users", "judge.kind=contrast"),
        (not p.path and p.hidden % (2 * p.heads) != 0, f"policy.hidden={p.hidden}", "a multiple of twice policy.heads"),
        (not p.path and p.max_tokens >= p.max_context, f"policy.max_tokens={p.max_tokens}", "less than max_context"),
        (u.macro == u.micro == 0, "update.macro and update.micro are both 0", "one of them above 0"),
        (distils and c.correct.below == 0, "correct.below=0 leaves update.along=corrections empty", "more than 0"),
        (replay and c.teacher.replay > 0, "teacher.replay has no examples for replayed users", "teacher.replay=0"),
        (kept < 1, f"select.share={c.select.share}", "a share that keeps a turn of play.dialogues x play.turns"),
    ]


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """The config in the YAML file ``path`` (None: all defaults), changed by ``section.key=value`` overrides in order.

    Raises ConfigError: one line that names the key, what it held and what was expected.
    """
    data = {} if path is None else yaml_text.read(path)
    # An empty section in YAML is null: it sets nothing.
    data = {key: {} if value is None else value for key, value in data.items()}
    for section, name, value in map(_override, overrides):
        known = data.get(section, {})
        # Anything else in a section's place is the file's error, which validation reports.
        data[section] = {**known, name: value} if isinstance(known, dict) else known
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise _explain(dict(error.errors()[0])) from None


def _override(override: str) -> tuple[str, str, Any]:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or key in RunConfig.model_fields:
        raise ConfigError("override is not valid", got=override, expected="section.key=value, such as update.lr=1e-3")
    if key not in _fields():
        raise _unknown(key)
    try:
        value = yaml_text.parse(text)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"value of {key} is not YAML", got=text, fix="put text in quotes") from None
    section, name = key.split(".")
    return section, name, value


def _explain(error: Mapping[str, Any]) -> ConfigError:
    location = [str(part) for part in error["loc"]]
    key = ".".join(location[:2])
    if error["type"] in {"extra_forbidden", "invalid_key"}:
        return _unknown(".".join(location))
    expected = type_words(_fields()[key][0]) if key in _fields() else "a mapping of its keys"
    return ConfigError(f"{key} is not valid", got=yaml_text.show(error["input"]), expected=expected)


def _unknown(key: str) -> ConfigError:
    section, _, name = key.rpartition(".")
    fields = _fields()
    scores = {known: _alike(key, known) for known in RunConfig.model_fields if not section}
    for known in fields:
        known_section, known_name = known.split(".")
        # The section only decides between keys whose names are as near.
        if (score := _alike(name, known_name)) > 0:
            scores[known] = score + _alike(section, known_section)
    if (best := max(scores.values(), default=0.0)) > 0:
        nearest = [known for known, score in scores.items() if score == best]
        return ConfigError(f"unknown key {key}", fix=f"did you mean {' or '.join(nearest)}?")
    names = [known for known in fields if known.startswith(f"{section}.")] or list(RunConfig.model_fields)
    return ConfigError(f"unknown key {key}", expected=f"one of: {', '.join(names)}")


def _alike(a: str, b: str) -> float:
    """Likeness of two names up to 1, and 0 below what a slip of the fingers leaves."""
    ratio = difflib.SequenceMatcher(None, a, b).ratio()
    return ratio if ratio >= 0.6 else 0.0


class ConfigRow(NamedTuple):
    """One key as docs and ``--help`` show it: the dotted key, its type and range in words, its default as YAML."""

    key: str
    type: str
    default: str
    description: str


def describe_config() -> list[ConfigRow]:
    """Every key of the config, in the order of the sections."""
    return [
        ConfigRow(key, type_words(annotation), yaml_text.show(info.get_default()), info.description or "")
        for key, (annotation, info) in _fields().items()
    ]


def _fields() -> dict[str, tuple[Any, FieldInfo]]:
    """Annotation (with its bounds) and field of every ``section.key``."""
    found = {}
    for section, outer in RunConfig.model_fields.items():
        kind = typing.cast("type[Section]", outer.annotation)
        hints = typing.get_type_hints(kind, include_extras=True)
        found.update({f"{section}.{name}": (hints[name], info) for name, info in kind.model_fields.items()})
    return found
