"""How cost grows: of an update and of sampling with P, G, C and the number of groups, and of everything else with size.

    python benchmarks/scale.py [--threads 1 --runs 3]

Each row changes one number, doubling it, and fits seconds ~ number^e: e = 1 is linear, 2 quadratic. An update of a
group reads P + G C tokens, so with P in front the exponents in G and C stay below 1, and encoding the prompt G times
would show as e near 1 in G. Attention alone is quadratic in P. The second table doubles sizes of what is not a model:
10,000 scenarios, 1,000 dialogues of a step, 100,000 rows of a journal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from cost import NUMBERS, make_ids, make_policy, timed
from rapo.config.sections import Calls, ModelSpec
from rapo.data import load_scenarios
from rapo.hindsight.selection import select_pivotal, setback
from rapo.interact.play import play
from rapo.models.chat import ChatAnswer, ChatRequest, Scripted, ask
from rapo.models.journal import Journal
from rapo.models.journaled import Journaled
from rapo.models.ledger import Account
from rapo.models.policy import Policy
from rapo.models.sampler import SampleRequest, sample
from rapo.optimize.lessons import RankedReply, TrainingGroup
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.update import update
from rapo.records import to_json
from rapo.types import Dialogue, Message
from rapo.worlds import load_world

BASE = {"prompt": 512, "group": 8, "reply": 64, "groups": 1}
GRID: Mapping[str, Sequence[int]] = {
    "prompt": (256, 512, 1024, 2048),
    "group": (4, 8, 16, 32),
    "reply": (32, 64, 128, 256),
    "groups": (1, 2, 4, 8),
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("runs/scale.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = {}
    print(f"{'':<28} {'sizes':<28} {'seconds':<36} exponent")
    policy = make_policy("small", 4096)
    optimizer = Optimizer(policy, lr=1e-6)
    for name, sizes in GRID.items():
        for kind, act in (("update", update_of), ("sample", sample_of)):
            work = [act(policy, optimizer, **BASE | {name: size}) for size in sizes]
            found[f"{kind}, {name}"] = show(f"{kind}, {name}", sizes, work, args.runs)
    with tempfile.TemporaryDirectory() as folder:
        for name, (sizes, make) in VOLUMES.items():
            work = [make(Path(folder), size) for size in sizes]
            found[name] = show(name, sizes, work, args.runs)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"v": 1, "threads": args.threads, "rows": found}) + "\n")


def show(name: str, sizes: Sequence[int], work: Sequence[Callable[[], object]], runs: int) -> dict[str, object]:
    """Time the sizes in turn, print the row, and fit its exponent."""
    rounds = [[timed(act) for act in work] for _ in range(runs)]
    seconds = [statistics.median(some) for some in zip(*rounds, strict=True)]
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    times = " ".join(f"{each:8.3f}" for each in seconds)
    print(f"{name:<28} {' '.join(map(str, sizes)):<28} {times:<36} {exponent:5.2f}", flush=True)
    return {"sizes": list(sizes), "seconds": seconds, "exponent": exponent}


def update_of(
    policy: Policy, optimizer: Optimizer, *, prompt: int, group: int, reply: int, groups: int
) -> Callable[[], object]:
    """A GRPO update, the optimizer's step included."""
    first, *replies = make_ids(prompt, reply, group)
    ranked = tuple(RankedReply(ids, (-9.0,) * reply, (-1.0) ** i) for i, ids in enumerate(replies))
    return lambda: update(policy, optimizer, [TrainingGroup(first, ranked)] * groups, NUMBERS)


def sample_of(
    policy: Policy, _: Optimizer, *, prompt: int, group: int, reply: int, groups: int
) -> Callable[[], object]:
    """Replies to as many different prompts as there are groups."""
    prompts = make_ids(prompt, prompt, groups)[1:]
    requests = [SampleRequest(ids, tuple(range(g * group, (g + 1) * group))) for g, ids in enumerate(prompts)]
    return lambda: sample(policy, requests, max_tokens=reply, temperature=1.0)


def scenarios(folder: Path, count: int) -> Callable[[], object]:
    """Reading a file of scenarios."""
    path = folder / f"{count}.jsonl"
    row = {"opening": "I can not sleep.", "profile": {"need": "to be heard", "facts": ["It is the third week."]}}
    path.write_text("".join(json.dumps(row | {"id": str(i), "situation": f"Night {i}."}) + "\n" for i in range(count)))
    return lambda: load_scenarios([path], "support")


class Murmur:
    """Says the same thing to everyone."""

    def reply(self, dialogues: Sequence[Dialogue], _: Sequence[int]) -> list[str]:
        """One reply each."""
        return ["I hear you."] * len(dialogues)


def dialogues(_: Path, count: int) -> Callable[[], object]:
    """Playing, selecting and writing down the dialogues of a step; the model is left out."""

    def act() -> None:
        users = load_world("support").users("familiar", evaluation=False)
        played = play(Murmur(), users, users.scenarios(count, 0), turns=6, seed=0)
        select_pivotal(played, setback, share=0.25, per_dialogue=2, floor=0.0, seed=0)
        json.dumps([to_json(dialogue) for dialogue in played])

    return act


def journal(folder: Path, count: int) -> Callable[[], object]:
    """Asking 1,000 new questions and 1,000 old ones in a journal that holds ``count`` answers already."""
    account = Account(
        Journal(folder / f"{count}.sqlite"), "user", ModelSpec(url="http://127.0.0.1/v1", name="m"), Calls()
    )
    model, asked = Journaled(Scripted("m", lambda _: "an answer"), account, print), iter(range(10**9))

    def questions(number: int) -> list[ChatRequest]:
        return [ChatRequest((Message("user", f"question {next(asked)}"),), "test", 0) for _ in range(number)]

    with account.journal.write() as db:
        for request in questions(count):
            account._keep(db, request, ChatAnswer("an answer"))

    def act() -> None:
        some = questions(1000)
        ask(model, some)
        ask(model, some)

    return act


VOLUMES: Mapping[str, tuple[Sequence[int], Callable[[Path, int], Callable[[], object]]]] = {
    "read scenarios": ((2500, 5000, 10000), scenarios),
    "dialogues of a step": ((250, 500, 1000), dialogues),
    "2,000 calls, rows in journal": ((25000, 50000, 100000), journal),
}


if __name__ == "__main__":
    main()
