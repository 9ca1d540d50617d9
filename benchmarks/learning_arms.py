"""What the learning study compares: each arm is the product's training step with other settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from rapo.hindsight.feedback import JudgeRequest, RewardModel, Verdict
from rapo.seeds import derive_seed


@dataclass(frozen=True)
class Arm:
    """Settings on top of a world's recipe.

    Attributes:
        settings: config overrides.
        critiques: a name in ``CRITIQUES``: what becomes of the judge's critiques; ranks stay.
        trains: False for the start policy.
    """

    settings: tuple[str, ...] = ()
    critiques: str = "full"
    trains: bool = True


# Setbacks serve RAPO and not GRPO: the rival has the turns that served it better.
GRPO = ("update.micro=0", "teacher.replay=0", "select.by=change")
MAIN: Mapping[str, Arm] = {
    "SFT": Arm(trains=False),
    "GRPO": Arm(GRPO),
    "GRPO and replay": Arm(("update.micro=0",)),
    "distillation, own tokens": Arm(("update.macro=0", "update.along=own")),
    "distillation, corrections": Arm(("update.macro=0",)),
    "RAPO": Arm(),
    "RAPO, random turns": Arm(("select.by=random",)),
    "RAPO, largest changes": Arm(("select.by=change",)),
    "RAPO, no echoes": Arm(("judge.sees_echoes=false",)),
    "RAPO, all verified": Arm(("correct.verify=1",)),
}
# One setting of RAPO at a time, unless said otherwise; its value in the recipes is the arm RAPO itself.
SWEEPS: Mapping[str, Mapping[str, Arm]] = {
    "lambda": {f"lambda {x}": Arm((f"update.micro={x}",)) for x in ("0.3", "3")},
    "G": {f"G {x}": Arm((f"branch.candidates={x}",)) for x in ("4", "16")},
    "share": {
        "share 0.125": Arm(("select.share=0.125",)),
        "share 0.5": Arm(("select.share=0.5", "select.per_dialogue=2")),
        "share 1": Arm(("select.share=1", "select.per_dialogue=3")),
    },
    "below": {f"below {x}": Arm((f"correct.below={x}",)) for x in ("0.25", "0.5", "1")},
    "teacher": {
        f"teacher {kind}, {words}": Arm((f"teacher.kind={kind}", *changes))
        for kind in ("ema", "live", "frozen")
        for words, changes in {"replay": (), "no replay": ("teacher.replay=0",)}.items()
        if (kind, words) != ("ema", "replay")
    },
    "iterations": {f"iterations {x}": Arm((f"train.iterations={x}",)) for x in ("2", "4")},
    "divergence": {f"divergence {x}": Arm((f"update.divergence={x}",)) for x in ("reverse_kl", "jsd")},
    "critiques": {f"critiques {x}": Arm(critiques=x) for x in ("vague", "shuffled", "none")},
    "KL": {"RAPO, KL 0.1": Arm(("update.kl=0.1",))},
    # The recipes' settings were found with RAPO; these look for better ones for its rival.
    "rival": {
        "GRPO, lr 3e-4": Arm((*GRPO, "update.lr=3e-4")),
        "GRPO, lr 1e-4": Arm((*GRPO, "update.lr=1e-4")),
        "GRPO, KL 0.03": Arm((*GRPO, "update.kl=0.03")),
        "GRPO, KL 0.1": Arm((*GRPO, "update.kl=0.1")),
        "GRPO, KL 0.3": Arm((*GRPO, "update.kl=0.3")),
        "GRPO, KL 0.1, lr 3e-4": Arm((*GRPO, "update.kl=0.1", "update.lr=3e-4")),
        "GRPO, KL 0.3, lr 3e-4": Arm((*GRPO, "update.kl=0.3", "update.lr=3e-4")),
        "GRPO, G 4": Arm((*GRPO, "branch.candidates=4")),
        "GRPO, iterations 2": Arm((*GRPO, "train.iterations=2")),
        "GRPO, share 1": Arm((*GRPO, "select.share=1", "select.per_dialogue=3")),
        "GRPO, setbacks": Arm((*GRPO, "select.by=setback")),
        "GRPO, setbacks, KL 0.3": Arm((*GRPO, "select.by=setback", "update.kl=0.3")),
        "GRPO, replay, KL 0.3": Arm((*GRPO, "teacher.replay=16", "update.kl=0.3")),
    },
}
ARMS: Mapping[str, Arm] = MAIN | {name: arm for sweep in SWEEPS.values() for name, arm in sweep.items()}


class Reworded:
    """A judge whose critiques are changed; its ranks stay."""

    def __init__(self, judge: RewardModel, change: Callable[[list[str]], Sequence[str]]) -> None:
        self.inner, self.change = judge, change

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        """As the inner judge, all critiques of the call changed together."""
        verdicts = self.inner.judge(requests)
        changed = iter(self.change([text for verdict in verdicts if verdict for text in verdict.critiques]))
        return [v and replace(v, critiques=tuple(next(changed) for _ in v.critiques)) for v in verdicts]


def _shuffled(critiques: list[str]) -> list[str]:
    return Random(derive_seed("shuffle", *critiques[:3])).sample(critiques, len(critiques))


# A critique may not be empty: without words, a full stop is what is left.
CRITIQUES: Mapping[str, Callable[[list[str]], Sequence[str]]] = {
    "full": lambda critiques: critiques,
    "vague": lambda critiques: ["This did not help."] * len(critiques),
    "shuffled": _shuffled,
    "none": lambda critiques: ["."] * len(critiques),
}
