"""Who answers first decides nothing, and a slow answer holds up nobody but its own group."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
import torch

from fake_llm import parse_back
from rapo.config import RunConfig
from rapo.errors import EndpointError, ModelError
from rapo.hindsight.llm_judge import LLMJudge
from rapo.interact.llm_user import LLMUser
from rapo.models.chat import ChatAnswer, ChatRequest
from rapo.models.policy import Policy
from rapo.models.scratch import new_policy
from rapo.seeds import derive_seed
from rapo.trainer import Step, Trainer
from rapo.types import Message, Scenario

TEXTS = ["I feel so alone since my friend moved away .", "Who could you call when the evening feels long ?"] * 20


def config(**sections: dict[str, float]) -> RunConfig:
    shape = {
        "run": {"cohort": 2},
        "policy": {"max_tokens": 8, "max_context": 256, "system_prompt": None},
        "play": {"dialogues": 5, "turns": 2},
        "select": {"share": 0.7, "floor": 0.0},
        "branch": {"candidates": 3},
        "correct": {"verify": 1.0, "per_group": 2},
        "teacher": {"replay": 0},
    }
    return RunConfig.model_validate({name: section | sections.get(name, {}) for name, section in shape.items()})


@dataclass
class Model:
    """Plays users and judge; ``wait`` is called before every answer."""

    wait: Callable[[ChatRequest], None] = lambda request: None
    concurrency: int = 8
    name: str = "model"
    asked: list[ChatRequest] = field(default_factory=list)

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        for place, request in enumerate(requests):
            self.asked.append(request)
            self.wait(request)
            yield place, ChatAnswer(answer(request))


def answer(request: ChatRequest) -> str:
    if request.purpose == "judge":
        group = parse_back(request.messages[-1].content)
        states = [each["state"] for each in group]
        ranks = [1 + sum(state > each["state"] for state in states) for each in group]
        return json.dumps({"ranks": ranks, "critiques": ["Ask more ."] * len(group)})
    if request.purpose == "user.speak":
        return '{"text": "I feel so alone ."}'
    return json.dumps({"analysis": "", "state": Random(request.seed).uniform(0, 10), "thought": "", "done": False})


def trainer(model: Model, settings: RunConfig, first: str = "I feel so alone .") -> Trainer:
    policy = new_policy(TEXTS, vocab_size=320, hidden=32, layers=1, heads=2, max_context=256, seed=3)
    scenarios = [Scenario(f"s{i}", "", (Message("user", "I feel so alone ." if i else first),), 5.0) for i in range(5)]
    users, judge = LLMUser(scenarios, [model]), LLMJudge(model)
    return Trainer(settings, policy, start=policy.clone(), users=users, judge=judge)


def weights(policy: Policy) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in policy.model.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def told(step: Step) -> tuple[object, ...]:
    metrics = {name: repr(value) for name, value in step.metrics.items() if not name.startswith("seconds_")}
    return step.dialogues, step.groups, step.advantages, repr(step.divergences), metrics


def two_steps(model: Model, settings: RunConfig) -> tuple[list[tuple[object, ...]], list[torch.Tensor]]:
    learner = trainer(model, settings)
    return [told(learner.step(number)) for number in (1, 2)], weights(learner.policy)


def dawdling(salt: int) -> Callable[[ChatRequest], None]:
    """Waits of up to 20 ms that are other ones for every salt."""
    return lambda request: time.sleep(Random(f"{salt} {request.seed}").random() ** 3 * 0.02)


@pytest.mark.parametrize(("along", "memory"), [("corrections", 1 << 30), ("own", 1 << 30), ("own", 1 << 15)])
def test_who_answers_first_decides_nothing(monkeypatch: pytest.MonkeyPatch, along: str, memory: int) -> None:
    # Without room for all talks, those that are encoded anew come out with other roundings.
    monkeypatch.setattr("rapo.trainer.MEMORY", memory)
    settings = config(update={"along": along})  # type: ignore[dict-item]
    first, mine = two_steps(Model(dawdling(0)), settings)
    for salt in (1, 2):
        again, others = two_steps(Model(dawdling(salt)), settings)
        assert again == first and same(mine, others)


def test_parts_that_take_turns_learn_what_the_whole_learns() -> None:
    overlapped, mine = two_steps(Model(), config())
    whole, others = two_steps(Model(concurrency=0), config())
    # The same talks, groups and ranks; numbers differ by rounding.
    assert [step[0] for step in overlapped] == [step[0] for step in whole]
    assert [step[2] for step in overlapped] == [step[2] for step in whole]
    for one, other in zip(mine, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert any(any(advantages) for advantages in overlapped[0][2])  # type: ignore[attr-defined]


def test_a_scenario_without_room_for_a_reply_is_a_talk_cut_short_and_no_end_of_the_run() -> None:
    step = trainer(Model(), config(), "I feel so alone . " * 80).step(1)
    assert [len(dialogue.turns) for dialogue in step.dialogues] == [2, 2, 2, 2, 0]
    assert step.dialogues[-1].scenario.id.startswith("s0") and step.metrics["cut_short"] == 1 / 5
    with pytest.raises(ModelError, match="does not fit"):
        trainer(Model(), config(policy={"max_tokens": 250})).step(1)  # as for all of them


def seeds_of(step: Step) -> dict[str, list[list[int]]]:
    """The seeds of what is asked first for each cohort of talks or group, and of what is asked last."""
    seed = derive_seed(0, "step", 1)
    at = [(group.pivot.dialogue.scenario.id, len(group.pivot.dialogue.turns)) for group in step.groups]
    cohorts = [step.dialogues[i : i + 2] for i in range(0, len(step.dialogues), 2)]

    def echo(call: str, *key: int | str) -> int:
        return derive_seed(derive_seed(seed, *key), call)

    return {
        "talk": [[echo("appraise", talk.scenario.id, 0) for talk in some] for some in cohorts],
        "end of talk": [[echo("speak", talk.scenario.id, 1) for talk in some] for some in cohorts],
        "echo": [[echo("appraise", *place, 0)] for place in at],
        "judge": [[derive_seed(derive_seed(seed, "order", *place, 0), "judge")] for place in at],
        "end of group": [
            [echo("speak", "verify", *place, each.candidate) for each in group.corrections]
            for place, group in zip(at, step.groups, strict=True)
        ],
    }


@pytest.mark.parametrize(
    ("held", "end"), [("talk", "end of talk"), ("echo", "end of group"), ("judge", "end of group")]
)
def test_a_slow_answer_holds_up_its_own_part_only(held: str, end: str) -> None:
    expected = trainer(Model(), config()).step(1)
    seeds = seeds_of(expected)
    # The first of all is answered when everything else has been asked for to the end.
    slow, left = seeds[held][0][0], {seed for some in seeds[end][1:] for seed in some}
    done, in_vain = threading.Event(), list[int]()
    assert left

    def wait(request: ChatRequest) -> None:
        left.discard(request.seed)
        if not left:
            done.set()
        if request.seed == slow and not done.wait(20):
            in_vain.append(slow)

    model = Model(wait)
    assert told(trainer(model, config()).step(1)) == told(expected)
    assert slow in {request.seed for request in model.asked} and not in_vain


def learning(trainer: Trainer) -> bool:
    """Whether a part of a gradient is there."""
    return any(parameter.grad is not None for parameter in trainer.policy.model.parameters())


def test_a_step_that_was_stopped_has_taught_nothing() -> None:
    judged: list[int] = []

    def fail(request: ChatRequest) -> None:
        if request.purpose == "judge":
            judged.append(request.seed)
            if len(judged) == 6:
                end = time.monotonic() + 20
                while not learning(stopped) and time.monotonic() < end:
                    time.sleep(0.005)
                raise EndpointError("away")

    model = Model(fail, concurrency=1)
    stopped, fresh = trainer(model, config()), trainer(Model(), config())
    before = weights(stopped.policy)
    with pytest.raises(EndpointError, match="away"):
        stopped.step(1)
    assert learning(stopped)
    assert same(weights(stopped.policy), before)
    assert told(stopped.step(1)) == told(fresh.step(1))
    assert same(weights(stopped.policy), weights(fresh.policy))
