"""The sections of a run config: every key with its range, its default and what it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from rapo import prompts
from rapo.errors import ConfigError
from rapo.safety.resources import with_resources

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
# The titles are the words an error uses.
DOTTED = r"^\w+(\.\w+)*:\w+$"
DottedPath = Annotated[str, Field(pattern=DOTTED, title="package.module:Name")]
Variable = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$", title="the name of a variable, in capitals")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Trackers = Annotated[
    tuple[Literal["trackio", "wandb", "tensorboard", "mlflow"], ...], Field(strict=False, title="names of trackers")
]
Options = dict[str, Any]
WORLDS = ("support", "bargaining")
Population = Literal["familiar", "held_out"]
Populations = Annotated[tuple[Population, ...], Field(strict=False, min_length=1)]


class Section(BaseModel):
    """A frozen group of at most 12 keys; nothing is converted but whole numbers to floats and text to paths."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Run(Section):
    """Where and on what the run computes."""

    dir: File = Field(default=Path("runs/run"), description="folder that receives everything the run writes")
    seed: Seed = Field(default=0, description="decides every random choice of the run")
    threads: Count = Field(default=2, description="CPU threads of torch")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where the policy computes")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="number format of the weights; trained ones have to be float32"
    )
    autocast: bool = Field(default=False, description="multiply matrices in bfloat16, whatever the weights are")
    checkpointing: bool = Field(
        default=False, description="compute activations twice (Llama, Qwen2, Qwen3): less memory, same result"
    )
    cohort: Count = Field(default=16, description="replies that wait for each other's echoes; fewer: less waiting")
    trackers: Trackers = Field(default=(), description="also send the metrics there; a failing one never stops a run")


class Policy(Section):
    """The model being trained."""

    path: str | None = Field(default=None, description="Hugging Face model to start from; null makes one from scratch")
    safety_resources: str | None = Field(
        default=None, description="locale whose help lines end the system message, such as en-GB; check them first"
    )
    system_prompt: str | None = Field(
        default=None, validate_default=True, description="system message; prompt:NAME takes prompts/NAME.md"
    )
    max_tokens: Count = Field(default=48, description="longest reply, in tokens")
    vocab_size: Annotated[int, Field(ge=300)] = Field(default=2048, description="from scratch: vocabulary size")
    hidden: Count = Field(default=128, description="from scratch: width of the model")
    layers: Count = Field(default=3, description="from scratch: number of layers")
    heads: Count = Field(default=4, description="from scratch: attention heads per layer")
    max_context: Count = Field(default=768, description="from scratch: longest prompt plus reply, in tokens")
    trust_remote_code: bool = Field(default=False, description="let the model's folder run its own Python code")

    @field_validator("system_prompt")
    @classmethod
    def _read_prompt(cls, text: str | None, known: ValidationInfo) -> str | None:
        read = prompts.load(text.removeprefix("prompt:")).fill() if text and text.startswith("prompt:") else text
        locale = known.data.get("safety_resources")
        return with_resources(read, locale) if locale else read


class Lora(Section):
    """A low-rank adapter that is trained while the model's own weights stay as they are."""

    rank: Count | None = Field(default=None, description="rank of the adapter; null trains all weights instead")
    alpha: Positive | None = Field(default=None, description="the adapter counts alpha / rank times; null: 2 rank")
    targets: Names = Field(default=(), description="linear layers it is put on, such as q_proj; empty: all of them")


class Sft(Section):
    """Supervised fine-tuning before reinforcement learning."""

    files: Files = Field(default=(), description="JSONL dialogues to learn from; empty takes the embedded corpus")
    importer: DottedPath | None = Field(default=None, description="function of yours that reads sft.files into rows")
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


class ModelSpec(Section):
    """A language model that plays users or judges: behind an endpoint (``url``) or in this process (``path``)."""

    url: str | None = Field(default=None, description="OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1")
    path: str | None = Field(
        default=None, description="run in this process instead: Hugging Face folder or hub id, or a function of yours"
    )
    name: str = Field(default="", description="model name the endpoint is asked for")
    key_env: Variable | None = Field(default=None, description="environment variable that holds the endpoint's key")
    temperature: Weight = Field(default=1.0, description="sampling temperature")
    max_tokens: Count = Field(default=1024, description="longest answer, in tokens")
    concurrency: Count = Field(default=16, description="most calls under way at once; in this process: the batch")
    timeout: Positive = Field(default=120.0, description="seconds one attempt may take, everything included")
    attempts: Count = Field(default=6, description="most attempts per call that may fail; being asked to wait is none")
    json_schema: Literal["auto", "on", "off"] = Field(default="auto", description="ask for JSON by schema; auto: try")
    price_in: Weight = Field(default=0.0, description="price of a million prompt tokens")
    price_out: Weight = Field(default=0.0, description="price of a million answer tokens")

    @property
    def function(self) -> bool:
        """Whether ``path`` names a function, ``package.module:Name``, from a ChatRequest to the text of an answer."""
        return self.path is not None and re.fullmatch(DOTTED, self.path) is not None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise ConfigError("a model under models has both or neither of url and path", expected="one of them")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ConfigError("the url of a model is not valid", got=self.url, expected="http://... or https://...")
        if self.url is not None and not self.name:
            raise ConfigError(f"the model at {self.url} has no name", expected="the name the endpoint serves it under")
        return self


class Calls(Section):
    """What all calls to language models obey together."""

    journal: File | None = Field(default=None, description="file of all calls, may be shared; null: in run.dir")
    max_calls: Count | None = Field(default=None, description="budget: stop cleanly before more attempts than this")
    max_tokens: Count | None = Field(default=None, description="budget: stop before more tokens than this")
    max_cost: Positive | None = Field(default=None, description="budget: stop before a higher cost than this")
    retries: Weight = Field(default=1.0, description="retries per call over the whole run, beyond the first 100")
    breaker: Count = Field(default=20, description="failures in a row after which an endpoint gets a rest")
    patience: Positive = Field(default=300.0, description="seconds an endpoint may fail or say wait before a stop")
    max_missing: Share = Field(default=0.5, description="share of a step's answers that may be missing before it stops")


class Users(Section):
    """Who plays the user."""

    kind: Literal["support", "bargaining", "replay", "llm"] | DottedPath = Field(
        default="support", description="embedded world, logged reactions, language models, or a class of yours"
    )
    population: Population = Field(default="familiar", description="embedded worlds: which users to train with")
    files: Files = Field(default=(), description="replay: dialogue logs; llm: scenario files")
    importer: DottedPath | None = Field(default=None, description="function of yours that reads users.files into rows")
    neighbours: Count = Field(default=32, description="replay: most similar logged turns that answer for the user")
    max_opening: Count = Field(default=12, description="replay: most messages already said when a dialogue starts")
    domain: Literal["support", "negotiation"] = Field(default="support", description="language models: which prompts")
    models: Names = Field(default=(), description="llm: who plays the users, names of models")
    mode: Literal["two_calls", "one_call", "three_roles"] = Field(
        default="two_calls", description="llm: appraise, then speak; at once; or perceive, think, say"
    )
    personas: bool = Field(default=True, description="llm: give users without a persona a sampled one")
    options: Options = Field(default={}, description="keyword arguments of a class of yours")


class Play(Section):
    """Step 1: playing dialogues out."""

    dialogues: Count = Field(default=16, description="dialogues per step")
    turns: Count = Field(default=3, description="most replies per dialogue")
    temperature: Positive = Field(default=1.0, description="sampling temperature of the replies")


class Select(Section):
    """Step 2: keeping the pivotal turns."""

    by: Literal["setback", "change", "random"] = Field(
        default="setback",
        description="first the turns that set the user back most, those that moved it most, up or down, or random ones",
    )
    share: OpenShare = Field(default=0.5, description="share of the step's turns that is kept")
    per_dialogue: Count = Field(default=2, description="most turns kept of one dialogue")
    floor: Weight = Field(default=0.0, description="least absolute change of the user's state that is kept")


class Branch(Section):
    """Step 3: sampling candidates at each pivotal turn."""

    candidates: Annotated[int, Field(ge=2)] = Field(default=8, description="candidates per group (G)")
    temperature: Positive = Field(default=1.0, description="sampling temperature of the candidates")


class Judge(Section):
    """Step 4: generative hindsight feedback."""

    kind: Literal["support", "bargaining", "contrast", "llm"] | DottedPath = Field(
        default="support", description="who ranks and writes the critiques"
    )
    permutations: Count = Field(default=1, description="orders in which each group is judged; ranks are averaged")
    sees_echoes: bool = Field(
        default=True, description="show the judge how the user took each reply; false (for comparison): replies alone"
    )
    tie: Weight = Field(default=0.0, description="contrast: states no further apart than this share a rank")
    model: str | None = Field(default=None, description="llm: name of one of models")
    options: Options = Field(default={}, description="keyword arguments of a class of yours")


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
    tokens_per_forward: Count = Field(default=8192, description="tokens per forward pass: memory, never the result")
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
    iterations: Count = Field(default=1, description="optimizer steps on the groups of a step; more cost no calls")
    save_every: Count = Field(default=10, description="steps between checkpoints")
    keep: Count = Field(default=2, description="newest checkpoints kept, besides the best")
    max_minutes: Positive | None = Field(default=None, description="stop and save after this time; null never stops")
    on_risk: bool = Field(default=False, description="learn from talks in which a user shows signs of risk, too")


class Eval(Section):
    """Measuring the result with users of its own."""

    dialogues: Count = Field(default=64, description="dialogues per population")
    turns: Count = Field(default=6, description="most replies per dialogue")
    temperature: Weight = Field(default=0.7, description="sampling temperature of the replies; 0 takes the likeliest")
    populations: Populations = Field(default=("familiar", "held_out"), description="seekers to be measured with")
    bootstrap: Count = Field(default=2000, description="resamples behind each interval")
    exploits: bool = Field(default=True, description="also look for replies that please the simulator only")
    models: Names = Field(default=(), description="llm: who plays the users then; empty takes users.models")
    judge: str | None = Field(default=None, description="one of models that rates finished dialogues; null: none")


class Suites(Section):
    """What else ``rapo eval --suite`` measures, and with whom."""

    users: str | None = Field(default=None, description="one of models that plays the users of a suite")
    judge: str | None = Field(default=None, description="one of models that judges in a suite; null: what goes without")
    items: Count | None = Field(default=None, description="most items of a suite; null takes all")
    esconv: Files = Field(default=(), description="esconv: dialogues in an ESConv format; the test split is measured")
    emoharbor: Files = Field(default=(), description="emoharbor: files of user profiles; empty takes the small own set")
    sotopia: Files = Field(default=(), description="sotopia: the folder or files of its scenarios and characters")
    locale: str = Field(default="en", description="language (and region) of the signs of risk and of the help lines")
