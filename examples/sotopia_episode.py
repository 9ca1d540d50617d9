"""Episodes of the sotopia package with a model of ours as one of the characters, under the published conditions.

In an environment with ``rapo-rl[sotopia]`` (docs/evaluation/sotopia.md):

    python examples/sotopia_episode.py MODEL data/sotopia --partner gpt-4o --evaluator gpt-4o --hard

MODEL is a folder or hub id. Partner and evaluator are the package's own, named as it names models:
``custom/NAME@http://127.0.0.1:8000/v1`` is an endpoint of yours.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path
from statistics import fmean

os.environ.setdefault("SOTOPIA_STORAGE_BACKEND", "local")  # read once, when the package is imported

from sotopia.agents import LLMAgent
from sotopia.database import AgentProfile, EnvironmentProfile, SotopiaDimensions
from sotopia.envs.evaluators import EpisodeLLMEvaluator, EvaluationForAgents

from rapo.evals.sotopia import RANGES
from rapo.evals.sotopia_agent import RapoAgent, run_episode
from rapo.models.policy import Policy
from rapo.models.speaker import PolicySpeaker

TOLD = ("codename", "source", "scenario", "agent_goals", "relationship", "age_constraint")


def combinations(folder: Path, hard: bool) -> list[tuple[EnvironmentProfile, tuple[AgentProfile, AgentProfile]]]:
    """The combinations of the published files, in their order."""
    rows = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines() if line.strip()]
        for name in ("environment_profiles", "agent_profiles", "env_agent_combo_storages")
    }
    environments = {
        row["env_id"]: EnvironmentProfile(pk=row["env_id"], **{key: row[key] for key in TOLD})
        for row in rows["environment_profiles"]
    }
    characters = {row["agent_id"]: AgentProfile(pk=row["agent_id"], **row) for row in rows["agent_profiles"]}
    wanted = json.loads((folder / "env_id_lists.json").read_text())["sotopia_hard"] if hard else environments
    return [
        (environments[row["env_id"]], tuple(characters[each] for each in row["agent_ids"]))
        for row in rows["env_agent_combo_storages"]
        if row["env_id"] in wanted
    ]


async def play(args: argparse.Namespace) -> list[dict]:
    """One row per episode: where, the side of ours, what was done, and our ratings ({} where there are none)."""
    policy = Policy.load(args.model)
    speaker = PolicySpeaker(policy, args.system_prompt, args.max_tokens, args.temperature)
    evaluation = EvaluationForAgents[SotopiaDimensions]
    found = []
    for environment, (one, two) in combinations(args.data, args.hard)[: args.episodes]:
        for side in (0, 1):
            agents = [LLMAgent(agent_profile=each, model_name=args.partner) for each in (one, two)]
            agents[side] = RapoAgent(speaker, (one, two)[side], model_name=args.model, seed=args.seed)
            evaluator = EpisodeLLMEvaluator(args.evaluator, evaluation)
            episode = await run_episode(environment, agents, evaluator)
            row = {"environment": environment.pk, "agents": [one.pk, two.pk], "side": side, "turns": episode.turns}
            found.append({**row, "ratings": dict(episode.ratings[side])})
    return found


def show(rows: list[dict]) -> None:
    """The means over the episodes whose seven ratings are there."""
    rated = [row["ratings"] for row in rows if row["ratings"].keys() == RANGES.keys()]
    print(f"{len(rows)} episodes, {len(rated)} rated")
    for name in RANGES if rated else ():
        print(f"{name:32s} {fmean(each[name] for each in rated):6.2f}")
    if rated:
        print(f"{'overall':32s} {fmean(fmean(each.values()) for each in rated):6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--partner", required=True)
    parser.add_argument("--evaluator", required=True)
    parser.add_argument("--hard", action="store_true", help="the 14 hard environments only")
    parser.add_argument("--episodes", type=int, default=None, help="most combinations; each is played on both sides")
    parser.add_argument("--system-prompt", default=None)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    # Not asyncio.run: on Python 3.11 a logging task of litellm can swallow its cancellation, and that waits for it.
    rows = asyncio.new_event_loop().run_until_complete(play(args))
    show(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
