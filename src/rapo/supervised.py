"""The start policy: supervised fine-tuning, and the gate it must pass before reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import torch

from rapo import plugins
from rapo.config import WORLDS, RunConfig
from rapo.data import load_conversations
from rapo.errors import ConfigError, DataError, GateError, ModelError
from rapo.hindsight.revision import teacher_messages
from rapo.models import adapters
from rapo.models.decoder import checkpoint_activations
from rapo.models.policy import Policy
from rapo.models.sampler import SampleRequest, sample
from rapo.models.scratch import new_policy
from rapo.models.speaker import context
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.render import Example, dialogue_examples, only_words, reply_example
from rapo.optimize.sft import SftStep, make_batches, mean_loss, train_sft
from rapo.safety import risky
from rapo.seeds import derive_seed
from rapo.types import Message
from rapo.worlds import load_world
from rapo.worlds.world import CorrectionExample, World


@dataclass(frozen=True, slots=True)
class SftResult:
    """The start policy and what it was made from.

    Attributes:
        policy: trained.
        examples: token sequences, practice included, those held out too.
        tokens: their tokens.
        loss: cross-entropy (nats per learnt token) on examples held out from training; NaN for none.
        risk_skipped: dialogues left out because a user shows signs of risk in them.
    """

    policy: Policy
    examples: int
    tokens: int
    loss: float
    risk_skipped: int = 0


def supervise(config: RunConfig, on_step: Callable[[SftStep], None] = lambda step: None) -> SftResult:
    """Make the start policy: load it or make one from scratch, then fine-tune it on the replies of its dialogues.

    Raises:
        ConfigError: the weights would not be trained well as the config has it.
        DataError: there is nothing to learn from, or a dialogue is longer than the model's context.
    """
    c = config.sft
    demand_float32(config)
    if config.policy.path and c.optimizer == "muon":
        raise ConfigError(
            "Muon at this learning rate is for models made from scratch",
            got=f"policy.path={config.policy.path}",
            fix="use sft.optimizer=adamw sft.adam_lr=1e-5",
        )
    world, seed = None if c.files else _world(config), derive_seed(config.run.seed, "sft")
    dialogues, skipped = (world.dialogues(c.dialogues, seed), 0) if world else _loaded(config)
    corrections = world.corrections(c.corrections, seed) if world else []
    policy = start_policy(config) if config.policy.path else _from_scratch(config, dialogues, corrections)
    examples = [e for messages in dialogues for e in _lessons(policy, config, messages)]
    examples += [correction_lesson(policy, config, each) for each in corrections]
    drills = world.practice(c.practice, seed) if world else []
    practice = [e for messages in drills for e in _lessons(policy, config, messages)]
    examples = [example for example in examples if any(example.learn)]
    _check_lengths([*examples, *practice], policy)
    shuffled = Random(config.run.seed).sample(examples, len(examples))
    held = round(c.holdout * len(shuffled))
    order = config.run.seed
    batches = make_batches(practice, batch_tokens=c.batch_tokens, epochs=1.0, seed=order) if practice else []
    batches += make_batches(shuffled[held:], batch_tokens=c.batch_tokens, epochs=c.epochs, seed=order)
    optimizer = Optimizer(policy, lr=c.adam_lr, muon_lr=c.lr if c.optimizer == "muon" else None)
    train_sft(policy, optimizer, batches, warmup=c.warmup, grad_clip=1.0, on_step=on_step)
    loss = mean_loss(policy, shuffled[:held], batch_tokens=c.batch_tokens)
    used = [*examples, *practice]
    return SftResult(policy, len(used), sum(len(example.ids) for example in used), loss, skipped)


def demand_float32(config: RunConfig) -> None:
    """Raise ConfigError where weights that are trained would be bfloat16.

    It tells numbers apart to 8 bits, so that a step of 1e-6 on a weight of 0.02 is rounded away, and the moving average
    of the teacher stands still. The factors of an adapter are float32 whatever their base is.
    """
    if config.run.dtype == "bfloat16" and config.lora.rank is None:
        raise ConfigError(
            "weights in bfloat16 cannot be trained: small steps are rounded away",
            got="run.dtype=bfloat16",
            expected="run.dtype=float32, or lora.rank",
            fix="run.autocast=true multiplies in bfloat16 all the same",
        )


def load_policy(config: RunConfig, path: str | None = None) -> Policy:
    """The policy at ``path`` (None: ``policy.path``), on the run's device and in its number formats."""
    policy = Policy.load(
        path or str(config.policy.path),
        dtype=config.run.dtype,
        device=config.run.device,
        trust_remote_code=config.policy.trust_remote_code,
    )
    return _computing(policy, config)


def _computing(policy: Policy, config: RunConfig) -> Policy:
    """The policy, computing as the section ``run`` asks."""
    policy.autocast = config.run.autocast
    if config.run.checkpointing:
        checkpoint_activations(policy.model)
    return policy


def start_policy(config: RunConfig, path: str | None = None) -> Policy:
    """The policy at ``path`` (None: ``policy.path``) as training begins with it: with an adapter if ``lora`` asks so.

    Raises:
        ConfigError: its weights could not be trained.
        ModelError: the policy has an adapter already, and another than the config asks for.
    """
    demand_float32(config)
    policy = load_policy(config, path)
    adapt(policy, config)
    return policy


def adapt(policy: Policy, config: RunConfig) -> None:
    """Put the adapter that the section ``lora`` asks for on a policy, or see that the one it has is that one."""
    lora, source = config.lora, config.policy.path
    if not policy.adapted:
        if lora.rank is not None:
            seed = derive_seed(config.run.seed, "lora")
            adapters.add(policy.model, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, seed=seed)
        return
    has = adapters.shape(policy.model)
    if lora.rank is None:
        fix = f"set lora.rank={has.rank} to train it on, or make a model of it: rapo export {source} OUT"
        raise ModelError(f"policy.path={source} is an adapter", fix=fix)
    # What the config leaves open is as the adapter has it.
    asked = adapters.Shape(lora.rank, lora.alpha or has.alpha, tuple(sorted(lora.targets)) or has.targets)
    if asked != has:
        raise ModelError(f"the adapter {source} is not what lora asks for", got=str(has), expected=str(asked))


def correction_lesson(policy: Policy, config: RunConfig, correction: CorrectionExample) -> Example:
    """A correction in the teacher's prompt format; only the corrected reply is learnt."""
    return reply_example(policy, _teacher_prompt(policy, config, correction), correction.target)


@dataclass(frozen=True, slots=True)
class Gate:
    """What the start policy can do: fact loss (nats per token of a copied fact) and teacher lift (share, 0-1)."""

    fact_loss: float
    teacher_lift: float


def measure_gate(policy: Policy, config: RunConfig) -> Gate:
    """Measure the two skills reinforcement learning in the embedded world cannot start without."""
    seed = derive_seed(config.run.seed, "gate")
    world = _world(config)
    cases = world.corrections(config.gate.cases, seed, evaluation=True, failed_only=True)
    facts = [only_words(policy, correction_lesson(policy, config, case), case.facts) for case in cases if case.facts]
    return Gate(mean_loss(policy, facts, batch_tokens=config.sft.batch_tokens), _lift(policy, config, world, cases))


def check_gate(gate: Gate, config: RunConfig) -> None:
    """Raise GateError naming each skill the policy lacks."""
    c = config.gate
    lacking = []
    if not gate.fact_loss <= c.fact_loss:
        lacking.append(f"it does not copy facts (loss {gate.fact_loss:.2f}, at most {c.fact_loss:g} wanted)")
    if not gate.teacher_lift >= c.teacher_lift:
        lacking.append(
            f"it does not follow critiques (lift {gate.teacher_lift:.2f}, at least {c.teacher_lift:g} wanted)"
        )
    if lacking:
        raise GateError(
            f"the policy is not ready: {' and '.join(lacking)}",
            fix="train it longer (sft.epochs, sft.corrections), or set gate.enabled=false",
        )


def _lessons(policy: Policy, config: RunConfig, messages: Sequence[Message]) -> list[Example]:
    read = context(config.policy.system_prompt, messages)
    return dialogue_examples(policy, read, first=len(read) - len(messages) + 1)


def _teacher_prompt(policy: Policy, config: RunConfig, case: CorrectionExample) -> tuple[Message, ...]:
    return teacher_messages(context(config.policy.system_prompt, case.dialogue.messages), case.reply, case.critique)


def _lift(policy: Policy, config: RunConfig, world: World, cases: Sequence[CorrectionExample]) -> float:
    prompts = [_teacher_prompt(policy, config, case) for case in cases]
    requests = [
        SampleRequest(tuple(policy.render(prompt)), (derive_seed(config.run.seed, "lift", i),))
        for i, prompt in enumerate(prompts)
    ]
    found = sample(policy, requests, max_tokens=config.policy.max_tokens, temperature=config.correct.temperature)
    echoes = [world.echo(case.dialogue, some[0].completion.text) for case, some in zip(cases, found, strict=True)]
    return sum(echo.state > case.echo.state for case, echo in zip(cases, echoes, strict=True)) / len(cases)


def _world(config: RunConfig) -> World:
    kind = config.users.kind
    if kind not in WORLDS:
        raise ConfigError(
            f"there is no corpus for users.kind={kind}", expected="dialogues in sft.files, or a model in policy.path"
        )
    return load_world(kind)


def _loaded(config: RunConfig) -> tuple[list[tuple[Message, ...]], int]:
    """The dialogues to learn from, and how many were left out because they show signs of risk."""
    files = config.sft.files
    loaded = load_conversations(files, plugins.reader(config.sft.importer, "sft.importer"))
    usable = [talk.messages for talk in loaded.conversations if not talk.set_aside]
    found = [talk for talk in usable if config.train.on_risk or not risky(talk, config.suites.locale)]
    if usable and not found:
        raise DataError(
            f"all {len(usable)} dialogues show signs of risk", fix="bring others, or set train.on_risk=true"
        )
    if not found:
        where, aside = ", ".join(map(str, files)), len(loaded.conversations)
        raise DataError(
            "there is nothing to learn from",
            got=f"{where}: {aside} dialogues, all set aside for evaluation" if aside else where,
            expected="dialogues that differ in situation or first message" if aside else "dialogues with replies",
        )
    return found, len(usable) - len(found)


def _from_scratch(
    config: RunConfig, dialogues: Sequence[Sequence[Message]], corrections: Sequence[CorrectionExample]
) -> Policy:
    p = config.policy
    texts = [message.content for messages in dialogues for message in messages]
    texts += [text for each in corrections for text in (each.critique, each.target)]
    policy = new_policy(
        texts,
        vocab_size=p.vocab_size,
        hidden=p.hidden,
        layers=p.layers,
        heads=p.heads,
        max_context=p.max_context,
        seed=config.run.seed,
    )
    torch.nn.Module.to(policy.model, device=config.run.device)
    return _computing(policy, config)


def _check_lengths(examples: Sequence[Example], policy: Policy) -> None:
    if not examples:
        raise DataError("no dialogue holds a reply to learn", expected="assistant messages after a user's")
    longest = max(len(example.ids) for example in examples)
    if longest > policy.max_context:
        number = sum(len(example.ids) > policy.max_context for example in examples)
        raise DataError(
            f"{number} of {len(examples)} dialogues are longer than the model's context",
            got=f"up to {longest} tokens",
            expected=f"at most {policy.max_context}",
            fix="raise policy.max_context, or shorten the dialogues",
        )
