"""A judge that tries to tell every secret: no word of it reaches the policy, the student or the teacher."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Literal

import pytest

from branched import branched
from fake_llm import parse_back
from rapo.hindsight.feedback import JudgeRequest, Verdict, give_feedback
from rapo.hindsight.llm_judge import LLMJudge
from rapo.hindsight.revision import teacher_messages
from rapo.interact.llm_user import LLMUser
from rapo.interact.play import play
from rapo.models.chat import ChatRequest, Scripted
from rapo.types import Completion, Dialogue, Group, Message, PivotalTurn, Scenario

Domain = Literal["support", "negotiation"]
DIALOGUES = 1000


def canary(case: str) -> str:
    return f"Zeb{case}qx"


def scenario(n: int) -> Scenario:
    case = f"{n:04d}"
    profile = {
        "persona": {"name": f"Ada {canary(case)}"},
        "facts": [f"keeps {canary(case)} in the left drawer at home"],
    }
    return Scenario(f"s{case}", "", (Message("user", f"This is case {case}."),), 5.0, profile=profile)


class Policy:
    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str]:
        return ["What happened?"] * len(dialogues)

    def sample(self, dialogues: Sequence[Dialogue], seeds: Sequence[Sequence[int]]) -> list[list[Completion]]:
        return [[Completion(f"Why {i}?", (1,), (0.0,), True) for i, _ in enumerate(some)] for some in seeds]


def user(request: ChatRequest) -> str:
    """Thinks of the secret all the time, and says it aloud once in a while."""
    case = found[1] if (found := re.search(r"case (\d{4})", request.messages[1].content)) else ""
    thought = f"they must not hear of {canary(case)}"
    if request.purpose == "user.appraise":
        return json.dumps({"analysis": thought, "change": 0, "state": 5, "thought": thought, "done": False})
    return json.dumps({"text": f"It is {canary(case)}." if request.seed % 20 == 0 else "I would rather not say."})


def judge(request: ChatRequest) -> str:
    """Guesses the secret, which it was not shown, and tells it in half of its answers, in one way or another."""
    case = found[1] if (found := re.search(r"case (\d{4})", request.messages[1].content)) else ""
    random, size = Random(request.seed), len(parse_back(request.messages[1].content))
    secret = canary(case)
    wilds = (
        secret,
        secret.upper(),
        f"{secret[:5]}\u200b{secret[5:]}",
        "".join(chr(ord(char) + 0xFEE0) for char in secret),
        "keeps it in the left drawer at home",
        f'they think "{secret}"',
        json.dumps({"thought": secret}),
    )
    critiques = [f"Ask for less, you hurry them ({i})." for i in range(size)]
    if random.random() < 0.5:
        critiques[random.randrange(size)] = f"Ask about {random.choice(wilds)}!"
    return json.dumps({"ranks": list(range(1, size + 1)), "critiques": critiques, "thought": secret})


def told(case: str, text: str) -> bool:
    """Whether a text tells the secret, however it is written."""
    plain = "".join(re.findall(r"[a-z0-9]", _narrow(text).casefold()))
    return canary(case).casefold() in plain or "theleftdrawerathome" in plain


def _narrow(text: str) -> str:
    return "".join(chr(ord(char) - 0xFEE0) if "！" <= char <= "～" else char for char in text)


class Gossip:
    """A judge of someone's own, which checks nothing."""

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict | None]:
        return [Verdict((1.0,) * len(each.replies), (each.secrets[-1],) * len(each.replies)) for each in requests]


def groups(domain: Domain, count: int) -> list[Group]:
    users = LLMUser([scenario(n) for n in range(count)], [Scripted("user", user)], domain=domain)
    dialogues = play(Policy(), users, users.scenarios(count, 0), turns=2, seed=0)
    assert all(told(each.scenario.id[1:5], each.turns[0].reaction.thought) for each in dialogues)
    pivots = [PivotalTurn(dialogue.upto(1), 1.0) for dialogue in dialogues]
    return branched(Policy(), users, pivots, candidates=3, seed=1)


@pytest.mark.parametrize("domain", ["support", "negotiation"])
def test_no_secret_in_any_prompt(domain: Domain) -> None:
    asked: list[ChatRequest] = []
    model = Scripted("judge", lambda request: asked.append(request) or judge(request))  # type: ignore[func-returns-value]
    llm = LLMJudge(model, domain=domain)
    judged = give_feedback(groups(domain, DIALOGUES), llm, permutations=1, seed=0)
    seen = Counter[str]()
    for group in judged:
        case, context = group.pivot.dialogue.scenario.id[1:5], group.pivot.dialogue.messages
        said = [m.content for m in context if m.role == "user"] + [each.reaction.text for each in group.candidates]
        aloud = any(told(case, text) for text in said)
        policy = [message.content for message in context]
        teacher = [
            message.content
            for candidate, feedback in zip(group.candidates, group.feedback or (), strict=False)
            for message in teacher_messages(context, candidate.completion.text, feedback.critique)
        ]
        seen["aloud"] += aloud
        seen["missing"] += group.feedback is None
        seen["policy"] += any(told(case, text) for text in policy) and not aloud
        seen["teacher"] += any(told(case, text) for text in teacher) and not aloud
    # The judge is shown a secret only where the user told it.
    first = [request for request in asked if len(request.messages) == 2]
    shown = sum(told(str(n), request.messages[1].content) for n, request in zip(_cases(first), first, strict=True))
    assert (seen["policy"], seen["teacher"]) == (0, 0)
    assert shown <= seen["aloud"] and 0.1 * DIALOGUES < seen["aloud"] < 0.3 * DIALOGUES
    # It told in half of its answers, and once more in half of those that were asked for again.
    assert 0.1 * DIALOGUES < seen["missing"] < 0.4 * DIALOGUES and llm.tally.retried > 0.1 * DIALOGUES


def _cases(requests: Sequence[ChatRequest]) -> list[str]:
    return [re.findall(r"case (\d{4})", request.messages[1].content)[0] for request in requests]


def test_no_judge_may_tell() -> None:
    found = give_feedback(groups("support", 100), Gossip(), permutations=2, seed=0)
    assert all(group.feedback is None and len(group.orders) == 2 for group in found)
