"""Our side of the benchmarks does the work it is timed for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from harness import Clock, Worker, alternate
from learning import RECIPES, Job, append, read
from learning_arms import ARMS
from rapo.config import load_config
from rapo.models.decoder import obstacle
from rapo.models.policy import Policy
from rapo.recipes import recipe_path
from step import EVERYBODY
from step_ours import CONTENDERS
from workload import Point, write_model

POINT = Point(shape="tiny", vocabulary=60, prompt=12, reply=5, group=3, groups=2, feedback=4, corrections=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    write_model(made, POINT.shape, POINT.vocabulary)
    return made


def test_every_contender_of_ours_can_be_named() -> None:
    assert {name for name in EVERYBODY if name.startswith("rapo")} == set(CONTENDERS)


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_step_is_timed_and_moves_the_weights(folder: Path, name: str) -> None:
    ours, clock = CONTENDERS[name](POINT, folder), Clock("cpu", count=True)
    before = [weight.clone() for weight in ours.policy.model.parameters()]
    ours.step(0, clock)
    found = clock.report()
    assert 0 < found["sample"] + found["update"] <= found["step"]
    assert found["sample_tflop"] > 0 and found["update_tflop"] > 0
    assert all(not torch.equal(a, b) for a, b in zip(before, ours.policy.model.parameters(), strict=True))


def test_plain_rows_take_the_same_step_with_more_operations(folder: Path) -> None:
    clocks = {name: Clock("cpu", count=True) for name in ("rapo-grpo", "rapo-grpo-plain")}
    gradients = {}
    for name, clock in clocks.items():
        ours = CONTENDERS[name](POINT, folder)
        ours.step(0, clock)
        assert (obstacle(ours.policy.model) is None) == (name == "rapo-grpo")
        gradients[name] = [state["exp_avg"] for state in ours.optimizer.parts[0].state.values()]
    torch.testing.assert_close(*gradients.values(), rtol=1e-4, atol=1e-7)
    packed, plain = (clock.report()["update_tflop"] for clock in clocks.values())
    # Two contexts of 12 tokens with three replies of 5 are 54 tokens, or 102 as ordinary rows.
    assert plain / packed > 1.5


def test_operations_are_counted_as_by_hand(folder: Path) -> None:
    policy, clock = Policy.load(folder), Clock("cpu", count=True)
    clock.start("update")
    policy.model(input_ids=torch.ones(6, 17, dtype=torch.long), use_cache=False).logits.sum().backward()
    clock.stop()
    # A layer: q and o 32 x 32, k and v 32 x 16, three of 32 x 64: 9,216 weights; the head has 32 x 60.
    linear = 3 * 2 * (2 * 9216 + 32 * 60) * 6 * 17
    # Two products of 17 x 17 x 8 per head and row forward, five backward.
    attention = 2 * (2 + 5) * (2 * 17 * 17 * 8) * 4 * 6
    assert clock.report()["update_tflop"] == pytest.approx((linear + attention) / 1e12)


def test_contenders_take_turns_and_a_broken_one_is_reported(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = tmp_path / "contender.py"
    script.write_text(
        "import json, sys\n"
        "name = json.loads(sys.argv[2])['name']\n"
        "for line in sys.stdin:\n"
        "    if name == 'broken': raise ValueError('no luck')\n"
        f"    open({str(log)!r}, 'a').write(name + ' ' + line)\n"
        "    print(json.dumps({'step': 2.0}), flush=True)\n"
    )

    def start(name: str) -> Worker:
        return Worker(str(script), {"name": name}, threads=1, malloc="keep")

    found = alternate([["a", "broken", "b"], ["a"]], start, warmup=1, runs=1, first="count")
    assert log.read_text().splitlines() == ["a count", "b count", "a step", "b step", "a count", "a step"]
    assert found["broken"].failure == "exit 1: ValueError: no luck"
    assert found["a"].reports == [{"step": 2.0}] * 2 and found["a"].median("step") == 2.0


def test_every_arm_of_the_study_is_a_run_of_its_own() -> None:
    jobs = [Job(world, arm, 0, 100) for world in RECIPES for arm in ARMS]
    for job in jobs:
        load_config(recipe_path(RECIPES[job.world]), job.settings)
    done = {(job.world, *job.settings, ARMS[job.arm].critiques, ARMS[job.arm].trains) for job in jobs}
    assert len(done) == len({job.key for job in jobs}) == len(jobs)


def test_a_run_that_was_cut_off_is_missing_and_the_next_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"key": "a"}\n{"key": "b", "st')
    append(path, {"key": "c"})
    assert [row["key"] for row in read(path)] == ["a", "c"]
