"""Whether a talk has solved its user's issue: the critic of PPDPP (Deng et al. 2024, arXiv 2311.00262).

A language model is asked after every turn, several times; its answers count -1, -0.5, 0.5 or 1, and the issue is solved
when their mean exceeds 0.5. These numbers, the ten samples and the eight turns are those of the paper's code. Ours
differs in that the answer is JSON, the question has a wording of its own, and the critic reads the user's note on the
situation, where PPDPP names the emotion and the kind of problem. Sampling is as hot as the model's own settings say;
PPDPP samples at temperature 1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapo import prompts
from rapo.models.answers import Object, UnusableError, shape
from rapo.models.chat import ChatModel, ChatRequest
from rapo.models.structured import ask_structured
from rapo.prompts.quoting import data, rows
from rapo.seeds import derive_seed
from rapo.types import Dialogue

SCORES = {"worse": -1.0, "same": -0.5, "better": 0.5, "solved": 1.0}
SOLVED = 0.5


@dataclass(frozen=True, slots=True)
class Critic:
    """Judges talks by what was said in them.

    Attributes:
        model: who is asked.
        seed: keys the samples.
        samples: verdicts per talk.
    """

    model: ChatModel
    seed: int
    samples: int = 10

    def __call__(self, dialogues: Sequence[Dialogue]) -> list[float | None]:
        """The mean score (-1 to 1) of each talk over its usable verdicts; None where there is none.

        Raises:
            EndpointError, BudgetError: the model cannot go on.
        """
        requests = [self._request(dialogue, sample) for dialogue in dialogues for sample in range(self.samples)]
        scores, _ = ask_structured(self.model, requests, lambda _, value: _score(value))
        found = [scores[start : start + self.samples] for start in range(0, len(scores), self.samples)]
        return [_mean([score for score in each if score is not None]) for each in found]

    def _request(self, dialogue: Dialogue, sample: int) -> ChatRequest:
        scenario = dialogue.scenario
        who = {"system": "brief", "assistant": "author", "user": "user"}
        talk = [{"who": who[message.role], "text": message.content} for message in dialogue.messages]
        profile = {"situation": scenario.situation, **scenario.profile}
        messages = prompts.load("critic_support").messages(profile=data(profile), talk=rows(talk))
        seed = derive_seed(self.seed, "critic", scenario.id, len(dialogue.turns), sample)
        return ChatRequest(messages, "critic", seed, shape(verdict={"type": "string", "enum": list(SCORES)}))


def _score(value: Object) -> float:
    verdict = value.get("verdict")
    if not isinstance(verdict, str) or verdict.strip().lower() not in SCORES:
        raise UnusableError(f'"verdict" must be one of: {", ".join(SCORES)}.')
    return SCORES[verdict.strip().lower()]


def _mean(scores: Sequence[float]) -> float | None:
    return sum(scores) / len(scores) if scores else None
