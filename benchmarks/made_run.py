"""A run directory of any size without a model, written as a run writes it: for tests and benchmark of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rapo.config import RunConfig
from rapo.evals.results import write_results
from rapo.evals.stats import bootstrap_mean
from rapo.evals.suite import Item, Result
from rapo.optimize.advantage import group_advantage, rank_rewards
from rapo.ranks import mid_ranks
from rapo.records import RunDirectory
from rapo.types import (
    Candidate,
    Completion,
    Correction,
    Dialogue,
    Feedback,
    Group,
    Message,
    PivotalTurn,
    Reaction,
    Scenario,
    Turn,
)

LEXICON = (
    *("I", "you", "we", "they", "my", "your", "not", "never", "often", "still", "today", "since", "because", "when"),
    *("work", "night", "sister", "brother", "boss", "doctor", "money", "house", "train", "letter", "phone", "school"),
    *("feel", "think", "know", "want", "need", "try", "talk", "listen", "stay", "leave", "call", "wait", "sleep"),
    *("hard", "heavy", "tired", "alone", "afraid", "angry", "calm", "better", "worse", "about", "after", "without"),
)


def plain_text(random: Random) -> str:
    """A sentence of 8 to 24 words that means nothing."""
    return " ".join(random.choice(LEXICON) for _ in range(random.randint(8, 24))).capitalize() + "."


@dataclass(frozen=True, slots=True)
class MadeRun:
    """Writes a run of ``steps`` with so many dialogues, groups and candidates; ``text`` makes every text in it."""

    steps: int = 4
    dialogues: int = 6
    groups: int = 3
    candidates: int = 4
    turns: int = 3
    evaluated: int = 5
    seed: int = 0
    text: Callable[[Random], str] = plain_text

    def write(self, path: Path) -> Path:
        """Write everything, a result before and after included."""
        random = Random(self.seed)
        with RunDirectory.create(path, RunConfig.model_validate({"run": {"dir": str(path), "seed": self.seed}})) as run:
            for step in range(1, self.steps + 1):
                self._step(run, step, random)
                run.flush()
        for moment, speaker, lift in (("before", "start", -1.0), ("after", "trained", 2.0)):
            write_results(path / f"evaluation-{moment}.json", [self._result(speaker, lift)])
        return path

    def _step(self, run: RunDirectory, step: int, random: Random) -> None:
        talks = [self._talk(random, f"made/{step}/{i}", -1 + 3 * step / self.steps) for i in range(self.dialogues)]
        change = sum(talk.trajectory[-1] - talk.trajectory[0] for talk in talks) / len(talks)
        numbers = {"state_change": change, "teacher_lift": random.random(), "entropy": 2 / step, "simulator_calls": 9.0}
        run.append("metrics", step, numbers | {f"seconds_{name}": random.random() for name in ("play", "update")})
        for talk in talks:
            run.append("dialogues", step, {"dialogue": talk})
        for talk in talks[: self.groups]:
            run.append("groups", step, self._group(random, talk))

    def _talk(self, random: Random, name: str, drift: float) -> Dialogue:
        profile = {"persona": self.text(random), "facts": [self.text(random)]}
        opening = (Message("user", self.text(random)),)
        dialogue = Dialogue(Scenario(name, self.text(random), opening, start=4.0, profile=profile))
        for _ in range(self.turns):
            state = min(10.0, max(0.0, dialogue.trajectory[-1] + random.gauss(drift / self.turns, 0.8)))
            dialogue = Dialogue(dialogue.scenario, (*dialogue.turns, self._turn(random, state)))
        return dialogue

    def _turn(self, random: Random, state: float) -> Turn:
        return Turn(self.text(random), Reaction(self.text(random), state, self.text(random)))

    def _group(self, random: Random, talk: Dialogue) -> dict[str, Any]:
        at = random.randrange(self.turns)
        before, states = talk.trajectory[at], [random.uniform(0, 10) for _ in range(self.candidates)]
        said = [self._completion(random) for _ in states]
        ranks = mid_ranks([-state + random.gauss(0, 2) for state in states])
        fixed = [self._completion(random) for _ in range(2)]
        group = Group(
            PivotalTurn(talk.upto(at), talk.trajectory[at + 1] - before),
            tuple(Candidate(one, Reaction(self.text(random), s)) for (one, _), s in zip(said, states, strict=True)),
            tuple(Feedback(rank, self.text(random)) for rank in ranks),
            random.random(),
            tuple(
                Correction(i, one, Reaction(self.text(random), random.uniform(0, 10)))
                for i, (one, _) in enumerate(fixed)
            ),
            tuple(tuple(random.sample(range(self.candidates), self.candidates)) for _ in range(3)),
        )
        gaps = [[random.expovariate(4) for _ in pieces] for _, pieces in fixed]
        return {
            "group": group,
            "advantages": group_advantage(rank_rewards(ranks)),
            "divergences": [sum(each) / len(each) for each in gaps],
            "token_divergences": gaps,
            "pieces": {"candidates": [pieces for _, pieces in said], "corrections": [pieces for _, pieces in fixed]},
        }

    def _completion(self, random: Random) -> tuple[Completion, list[str]]:
        text = self.text(random)
        pieces = [text[i : i + 4] for i in range(0, len(text), 4)] or [""]
        logps = tuple(-random.expovariate(2) for _ in pieces)
        return Completion(text, tuple(range(len(pieces))), logps, finished=True), pieces

    def _result(self, speaker: str, drift: float) -> Result:
        random = Random(f"{self.seed} {speaker}")
        talks = [self._talk(random, f"held-out/{i}", drift) for i in range(self.evaluated)]
        items = tuple(Item(t.scenario.id, {"change": t.trajectory[-1] - t.trajectory[0]}, t) for t in talks)
        mean = bootstrap_mean([item.scores["change"] for item in items], seed=0, samples=200)
        return Result("talks", speaker, "strangers", "change", items, {"change": mean})
