"""A speaker of ours as an agent of the ``sotopia`` package, whose episodes and evaluators the published figures are of.

It needs the extra ``sotopia`` in an environment of its own (docs/evaluation/sotopia.md) and, where no Redis server
runs, ``SOTOPIA_STORAGE_BACKEND=local`` before the first import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rapo.errors import ModelError
from rapo.evals.sotopia import RANGES
from rapo.evals.sotopia_view import View, to_action
from rapo.interact.play import Speaker
from rapo.seeds import derive_seed

try:
    from sotopia.agents.base_agent import BaseAgent
    from sotopia.database import AgentProfile, EnvironmentProfile
    from sotopia.envs import ParallelSotopiaEnv
    from sotopia.envs.evaluators import Evaluator, RuleBasedTerminatedEvaluator
    from sotopia.messages import AgentAction, Message, Observation
    from sotopia.server import arun_one_episode
except ImportError as error:
    raise ModelError(
        "the sotopia package cannot be imported",
        got=str(error),
        fix="pip install 'rapo-rl[sotopia]' in an environment of its own (docs/evaluation/sotopia.md)",
    ) from error

TURNS, STALE = 20, 2  # of the published episodes: of both sides together, and in a row without an act
Found = list[tuple[str, tuple[tuple[str, int | float | bool], str]]]


class RapoAgent(BaseAgent[Observation, AgentAction]):
    """A character whose acts a speaker writes, for episodes whose sides take turns (not ``simultaneous`` ones).

    A reply that cannot be had, or has no words, does nothing in that turn. Replies are written one at a time, however
    many episodes run at once.

    Args:
        speaker: a policy or whoever else replies.
        agent_profile: the character.
        model_name: what episode logs call the speaker.
        seed: of the replies; the same episode with the same seed gets the same ones.
    """

    def __init__(self, speaker: Speaker, agent_profile: AgentProfile, *, model_name: str = "rapo", seed: int = 0):
        super().__init__(agent_profile=agent_profile)
        self.model_name = model_name
        self._speaker, self._seed = speaker, seed
        self._view = View(self.agent_name)

    def act(self, obs: Observation) -> AgentAction:
        """The character's next act, or nothing where it is not its turn."""
        self.recv_message("Environment", obs)
        if obs.turn_number == 0:
            self._view.begin(obs.last_turn)
        else:
            self._view.hear(obs.last_turn)
        if list(obs.available_actions) == ["none"]:
            return AgentAction(action_type="none", argument="")
        talk = self._view.dialogue()
        (reply,) = self._speaker.reply([talk], [derive_seed(self._seed, talk.scenario.id, obs.turn_number)])
        self._view.answer(reply or "")
        kind, text = to_action(reply or "")
        return AgentAction(action_type=kind, argument=text)

    async def aact(self, obs: Observation) -> AgentAction:
        """As ``act``."""
        return self.act(obs)


class KeptRatings(Evaluator):
    """An evaluator that also keeps what it finds, for sotopia 0.1.5 leaves the ratings out of its episodes.

    Attributes:
        ratings: by ``agent_1`` or ``agent_2`` and dimension; what the evaluator did not give is absent.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__()
        self._evaluator, self.ratings = evaluator, dict[str, dict[str, float]]()

    @property
    def prompt(self) -> str:
        """The evaluator's."""
        return str(getattr(self._evaluator, "prompt", ""))

    def __call__(self, turn_number: int, messages: list[tuple[str, Message]]) -> Found:
        return self._keep(self._evaluator(turn_number=turn_number, messages=messages))

    async def __acall__(self, turn_number: int, messages: list[tuple[str, Message]]) -> Found:
        return self._keep(await self._evaluator.__acall__(turn_number=turn_number, messages=messages))

    def _keep(self, found: Found) -> Found:
        for who, ((name, value), _) in found:
            if name in RANGES:
                self.ratings.setdefault(who, {})[name] = float(value)
        return found


@dataclass(frozen=True, slots=True)
class Episode:
    """What happened, turn by turn in the package's words, and how each side was rated.

    Attributes:
        turns: ``"Bea Lake said: ..."``, what nobody did left out.
        ratings: of the first and of the second side, by dimension; empty where the evaluator gave none.
    """

    turns: tuple[str, ...]
    ratings: tuple[Mapping[str, float], Mapping[str, float]]


async def run_episode(
    environment: EnvironmentProfile, agents: Sequence[BaseAgent[Observation, AgentAction]], evaluator: Evaluator
) -> Episode:
    """One episode under the published conditions: the sides take turns, 20 at most, then ``evaluator`` rates.

    The package does not raise what goes wrong in its own language models: an agent does nothing then, and a rating is
    absent.
    """
    kept = KeptRatings(evaluator)
    env = ParallelSotopiaEnv(
        env_profile=environment,
        action_order="round-robin",
        evaluators=[RuleBasedTerminatedEvaluator(max_turn_number=TURNS, max_stale_turn=STALE)],
        terminal_evaluators=[kept],
    )
    messages: list[tuple[str, str, Any]] = await arun_one_episode(env, agents)
    acts = [(who, said) for who, to, said in messages if to == "Environment" and said.action_type != "none"]
    first, second = (kept.ratings.get(f"agent_{number}", {}) for number in (1, 2))
    return Episode(tuple(f"{who} {said.to_natural_language()}" for who, said in acts), (first, second))
