"""Real episodes of the ``sotopia`` package, offline: its environment, its rules, our policy as an agent.

Runs where the package is installed (the extra ``sotopia``, in an environment of its own).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fault_server import FaultServer
from rapo.models.scratch import new_policy
from rapo.models.speaker import PolicySpeaker
from rapo.types import Dialogue

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sotopia") is None,
    reason="the sotopia package is not installed: pip install 'rapo-rl[sotopia]' in an environment of its own",
)

SCENARIO = 'Two neighbours at a lake. <p viewer="environment">The boat is STOLEN.</p>'
GOALS = [
    "Borrow the boat (<extra_info>yours SANK</extra_info>)",
    "Keep the boat <strategy_hint>it LEAKS</strategy_hint>",
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module under test. The package chooses where it stores things when it is imported: here, not in Redis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOTOPIA_STORAGE_BACKEND", "local")
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        from rapo.evals import sotopia_agent

        yield sotopia_agent


def profile(package: Any, first: str) -> Any:
    texts = {"occupation": "Pilot", "gender": "Woman", "gender_pronoun": "She/her", "secret": f"{first} cannot SWIM."}
    texts |= {"public_info": f"{first} keeps BEES.", "personality_and_values": f"{first} is PATIENT."}
    return package.AgentProfile(pk=first.lower(), first_name=first, last_name="Lake", age=30, **texts)


def place(package: Any) -> Any:
    return package.EnvironmentProfile(pk="e", codename="boat", scenario=SCENARIO, agent_goals=GOALS, relationship=3)


def scripted(package: Any, profile: Any, *acts: tuple[str, str]) -> Any:
    """An agent that does one act after the other whenever it is its turn, and then nothing."""

    class Partner(package.BaseAgent):
        async def aact(self, obs: Any) -> Any:
            if list(obs.available_actions) == ["none"]:
                return package.AgentAction(action_type="none", argument="")
            kind, text = left.pop(0) if left else ("none", "")
            return package.AgentAction(action_type=kind, argument=text)

    left = list(acts)
    return Partner(agent_profile=profile)


def counting(package: Any, missing: tuple[str, ...] = ()) -> Any:
    """A scripted evaluator: the goal is a point for every act of one's own, 10 at most; the rest is fixed."""

    class Counting(package.Evaluator):
        prompt = "counting"

        def __call__(self, turn_number: int, messages: list[tuple[str, Any]]) -> Any:
            names = list(dict.fromkeys(who for who, _ in messages if who != "Environment"))
            found = []
            for number, name in enumerate(names, start=1):
                acts = sum(who == name and said.action_type != "none" for who, said in messages)
                scores = {"believability": 9, "relationship": -1, "knowledge": 3, "secret": -2, "social_rules": 0}
                scores |= {"financial_and_material_benefits": 1, "goal": min(10, acts)}
                for key in missing:
                    del scores[key]
                found += [(f"agent_{number}", ((key, value), "counted")) for key, value in scores.items()]
            return found

        async def __acall__(self, turn_number: int, messages: list[tuple[str, Any]]) -> Any:
            return self(turn_number, messages)

    return Counting()


class Well:
    """A speaker that begins with a word, so that random weights are never silent; it keeps what it is given."""

    def __init__(self, speaker: PolicySpeaker) -> None:
        self.speaker, self.given = speaker, list[Dialogue]()

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        self.given += dialogues
        return [f"Well, {reply}" for reply in self.speaker.reply(dialogues, seeds)]


class Says:
    def __init__(self, *replies: str | None) -> None:
        self.replies = list(replies)

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        return [self.replies.pop(0)]


@pytest.fixture(scope="module")
def policy() -> PolicySpeaker:
    texts = ["Could I borrow the boat? I will bring it back on Sunday."] * 50
    tiny = new_policy(texts, vocab_size=320, hidden=16, layers=1, heads=2, max_context=4096, seed=0)
    return PolicySpeaker(tiny, None, max_tokens=12, temperature=1.0)


@pytest.mark.parametrize("side", [0, 1])
def test_one_episode_with_a_local_model(package: Any, policy: PolicySpeaker, side: int) -> None:
    """20 turns, taken alternately: 10 acts of each side, so that both goals are rated 10."""
    lines = [("speak", "Hello."), ("non-verbal communication", "nods"), ("action", "ties the rope")]
    lines += [("speak", f"It is {hour} o'clock.") for hour in range(7)]
    names, goals = ("Ada Lake", "Bea Lake"), ("yours SANK", "it LEAKS")

    def episode(speaker: Well) -> Any:
        agents = [scripted(package, profile(package, first), *lines) for first in ("Ada", "Bea")]
        agents[side] = package.RapoAgent(speaker, agents[side].profile, seed=1)
        return asyncio.run(package.run_episode(place(package), agents, counting(package)))

    speaker = Well(policy)
    found = episode(speaker)
    assert [turn[:8] for turn in found.turns] == list(names) * 10
    assert found.turns[1 - side :: 2][:3] == (
        f'{names[1 - side]} said: "Hello."',
        f"{names[1 - side]} [non-verbal communication] nods",
        f"{names[1 - side]} [action] ties the rope",
    )
    assert all(turn.startswith(f'{names[side]} said: "Well,') for turn in found.turns[side::2])
    assert found.ratings[0] == found.ratings[1] and set(found.ratings[side]) == set(package.RANGES)
    assert (found.ratings[side]["goal"], found.ratings[side]["relationship"]) == (10, -1)

    # What the policy was told, and what it heard.
    assert len(speaker.given) == 10
    last = speaker.given[-1]
    brief = last.messages[0].content
    assert f"You are {names[side]}." in brief and goals[side] in brief and goals[1 - side] not in brief
    assert f"{names[side][:3]} cannot SWIM." in brief and f"{names[1 - side][:3]} cannot" not in brief
    assert "STOLEN" not in brief
    heard = [message.content for message in last.messages if message.role == "user"]
    first = ["Hello.", "[non-verbal] nods", "[action] ties the rope", "It is 0 o'clock."]
    assert heard[:4] == (first if side else ["[non-verbal] waits for you to begin", *first[:3]])
    own = [f'{names[side]} said: "{turn.reply.strip()}"' for turn in last.turns]
    assert own == list(found.turns[side::2][:9])
    assert episode(Well(policy)) == found


def test_every_kind_of_act_and_leaving(package: Any) -> None:
    ada, bea = profile(package, "Ada"), profile(package, "Bea")
    ours = package.RapoAgent(Says("Hi.", "[non-verbal] smiles", "[action] pays", None, "[leave] Bye."), ada)
    partner = scripted(package, bea, *[("speak", "Go on.")] * 9)
    episode = asyncio.run(package.run_episode(place(package), [ours, partner], counting(package)))
    assert [turn for turn in episode.turns if turn.startswith("Ada")] == [
        'Ada Lake said: "Hi."',
        "Ada Lake [non-verbal communication] smiles",
        "Ada Lake [action] pays",
        "Ada Lake left the conversation",
    ]
    assert episode.turns[-1] == "Ada Lake left the conversation"  # the package ends it there
    # 3 acts and leaving; Bea answered each of her turns but the last.
    assert (episode.ratings[0]["goal"], episode.ratings[1]["goal"]) == (4, 4)


def test_a_rating_that_is_missing_stays_missing(package: Any) -> None:
    ours = package.RapoAgent(Says("[leave]"), profile(package, "Ada"))
    agents = [ours, scripted(package, profile(package, "Bea"))]
    episode = asyncio.run(package.run_episode(place(package), agents, counting(package, missing=("secret",))))
    assert "secret" not in episode.ratings[0] and episode.ratings[0]["goal"] == 1


def test_the_package_rates_on_our_seven_ranges(package: Any) -> None:
    """The ranges of the installed package's own model of a rating, by what it takes and what it refuses."""
    from sotopia.database import SotopiaDimensions

    assert list(SotopiaDimensions.model_fields) == list(package.RANGES)
    for ends in zip(*package.RANGES.values(), strict=True):
        SotopiaDimensions(**{name: ("", end) for name, end in zip(package.RANGES, ends, strict=True)})
    for name, (low, high) in package.RANGES.items():
        for beyond in (low - 1, high + 1):
            good = {each: ("", bounds[1]) for each, bounds in package.RANGES.items()}
            with pytest.raises(ValueError, match=name):
                SotopiaDimensions(**(good | {name: ("", beyond)}))


def test_the_command_with_partner_and_evaluator_behind_an_endpoint(
    package: Any, policy: PolicySpeaker, tmp_path: Path
) -> None:
    """The package's own agent and evaluator, asked over HTTP: the partner leaves at once, the evaluator knows names."""

    def reply(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        if "Imagine you are" in asked:
            return json.dumps({"action_type": "leave", "argument": ""})
        # The first side is rated at the low ends, the second one at the high ends.
        ends = zip(*package.RANGES.values(), strict=True)
        scores = [{name: ["so", end] for name, end in zip(package.RANGES, each, strict=True)} for each in ends]
        return json.dumps({"evaluations": {"agent_1": scores[0], "agent_2": scores[1]}})

    policy.policy.save(tmp_path / "model")
    rows = {
        "environment_profiles": [
            {
                "env_id": ident,
                "codename": "boat",
                "source": "",
                "scenario": SCENARIO,
                "agent_goals": GOALS,
                "relationship": "3",
                "age_constraint": "[(18, 70), (18, 70)]",
                "occupation_constraint": "nan",
                "agent_constraint": "none",
            }
            for ident in ("e", "f")
        ],
        "agent_profiles": [
            {**profile(package, first).model_dump(exclude={"pk"}), "agent_id": first} for first in ("Ada", "Bea")
        ],
        "env_agent_combo_storages": [
            {"combo_id": ident, "env_id": ident, "agent_ids": ["Ada", "Bea"]} for ident in ("e", "f")
        ],
    }
    for name, some in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    (tmp_path / "env_id_lists.json").write_text(json.dumps({"sotopia_hard": ["f"]}))
    out = tmp_path / "episodes.json"
    with FaultServer(reply=reply) as server:
        llm = f"custom/m@{server.url}"
        script = Path(__file__).parents[2] / "examples" / "sotopia_episode.py"
        command = [sys.executable, script, tmp_path / "model", tmp_path, "--partner", llm, "--evaluator", llm]
        # Its price list is one more thing that litellm would look for on the net.
        env = {**os.environ, "HOME": str(tmp_path), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        more = ["--hard", "--max-tokens", "8", "--json", out]
        ran = subprocess.run([*command, *more], env=env, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(out.read_text())
    assert [(row["environment"], row["side"]) for row in found] == [("f", 0), ("f", 1)]
    assert [row["turns"][-1] for row in found] == ["Bea Lake left the conversation", "Ada Lake left the conversation"]
    assert [row["ratings"]["secret"] for row in found] == [-10, 0]
    # The means of the low and the high ends: goal (0 + 10) / 2, overall (-30 / 7 + 40 / 7) / 2.
    shown = dict(re.findall(r"^(\w+) +(-?[\d.]+)$", ran.stdout, re.MULTILINE))
    assert (shown["goal"], shown["overall"]) == ("5.00", "0.71")
