"""The rivals of ``step.py``: TRL's trainers, run by their own ``train()`` and timed by wrapping their own methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

from harness import Channel, Clock, Memory
from workload import Point, dialogues


def run(point: Point, folder: Path, contender: str, channel: Channel) -> None:
    """Train until the parent has no more commands."""
    trainer = CONTENDERS[contender](point, folder)
    trainer.add_callback(_Turns(trainer, point, channel))
    trainer.train()


class _Turns(TrainerCallback):
    """Lets a step begin when the parent says so, and reports it.

    Sampling is the trainer's ``_generate``; the update is what comes after ``_prepare_inputs``: loss, backward,
    clipping, optimizer and, since this callback was added last, the teacher's moving average. Rewards and the teacher's
    prompts lie between, and count in the whole step only.
    """

    def __init__(self, trainer: Any, point: Point, channel: Channel) -> None:
        self._trainer, self._point, self._device, self._channel = trainer, point, point.device, channel
        self._clock, self._memory = Clock(point.device), Memory(point.device)
        trainer._generate = self._sampling(trainer._generate)
        trainer._prepare_inputs = self._preparing(trainer._prepare_inputs)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._memory = Memory(self._device)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._clock = Clock(self._device, count=self._channel.wait() == "count")

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._clock.stop()
        found = self._clock.report() | self._memory.report()
        self._check()
        self._channel.report(found)

    def _check(self) -> None:
        """The step was the one asked for: full replies, and a teacher that read feedback on every one of them."""
        metrics = self._trainer._metrics["train"]
        told = metrics.get("self_distillation/feedback_used_fraction", [1.0])
        length = metrics["completions/mean_length"][-1]
        if told[-1] != 1 or length != self._point.reply:
            raise RuntimeError(f"TRL did another step: replies of {length} tokens, {told[-1]:.0%} with feedback")

    def _sampling(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            self._clock.start("sample")
            found = generate(*given)
            self._clock.stop()
            return found

        return timed

    def _preparing(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        def then_update(*given: Any) -> Any:
            self._clock.stop()  # the update of the rows before, where one pass does not hold all
            found = prepare(*given)
            self._clock.start("update")
            return found

        return then_update


def _grpo(point: Point, folder: Path, **settings: Any) -> Trainer:
    arguments = GRPOConfig(**(_common(point, folder) | settings))
    return GRPOTrainer(args=arguments, **_parts(point, folder))


def _compact(point: Point, folder: Path, **settings: Any) -> Trainer:
    # Not a setting: TRL itself leaves out the prompt's positions on a GPU only.
    trl.trainer.utils._use_triton = lambda device: True
    return _grpo(point, folder, **settings)


def _sdpo(point: Point, folder: Path, **settings: Any) -> Trainer:
    hybrid = {
        "distillation_weight": 0.5,
        "teacher_model_kind": "ema",
        "include_environment_feedback": True,
        "use_successful_as_teacher": False,
        "reprompt_template": "{prompt}{feedback}",
        "feedback_template": " {feedback_raw}",
        "max_prompt_length": None,
        "diagnostics_warning_interval": 0,
    }
    return SDPOTrainer(args=SDPOConfig(**(_common(point, folder) | hybrid | settings)), **_parts(point, folder))


def _split(make: Callable[..., Trainer], point: Point, folder: Path) -> Trainer:
    """Fewer rows per forward and backward pass, and as many passes as that takes."""
    passes = point.groups * point.group // point.rival_rows
    return make(point, folder, per_device_train_batch_size=point.rival_rows, gradient_accumulation_steps=passes)


def _common(point: Point, folder: Path) -> dict[str, Any]:
    """What both trainers are told: nothing but the step itself, and all of a step in one pass."""
    return {
        "output_dir": str(folder / "trl"),
        "max_steps": 10**6,
        "per_device_train_batch_size": point.groups * point.group,
        "gradient_accumulation_steps": 1,
        "num_generations": point.group,
        "max_completion_length": point.reply,
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "bf16": False,
        "use_cpu": point.device == "cpu",
        "report_to": "none",
        "logging_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
        "shuffle_dataset": False,
        "dataloader_pin_memory": False,
        "beta": 0.0,
        "temperature": 1.0,
        "gradient_checkpointing": False,
    }


def _parts(point: Point, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(point.threads)
    rows = [
        {"prompt": [{"role": "user", "content": text}], "privileged_context": feedback}
        for text, feedback in dialogues(point)
    ]
    return {
        "model": AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, point.dtype), attn_implementation="sdpa", use_safetensors=True
        ),
        "processing_class": AutoTokenizer.from_pretrained(folder),
        "train_dataset": Dataset.from_list(rows),
        "reward_funcs": lambda completions, **_: [float(i % point.group) for i in range(len(completions))],
    }


CONTENDERS: dict[str, Callable[[Point, Path], Trainer]] = {
    "trl-grpo": _grpo,
    "trl-grpo-split": partial(_split, _grpo),
    "trl-grpo-compact": _compact,
    "trl-grpo-compact-split": partial(_split, _compact),
    "trl-grpo-checkpointing": partial(_grpo, gradient_checkpointing=True),
    "trl-grpo-static": partial(_grpo, cache_implementation="static"),
    "trl-grpo-continuous": partial(_grpo, use_transformers_continuous_batching=True),
    "trl-sdpo": _sdpo,
    "trl-sdpo-split": partial(_split, _sdpo),
    "trl-sdpo-full": partial(_sdpo, distillation_mode="full_logits", distillation_alpha=0.0),
    "trl-sdpo-checkpointing": partial(_sdpo, gradient_checkpointing=True),
}
