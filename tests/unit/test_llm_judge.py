"""The judge made of a language model: what it is shown, what it may answer, what becomes of the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

import pytest

from fake_llm import parse_back
from rapo.hindsight.feedback import JudgeRequest, Verdict, give_feedback, tells_hidden
from rapo.hindsight.llm_judge import LLMJudge
from rapo.models.chat import ChatRequest, Scripted
from rapo.types import Candidate, Completion, Dialogue, Group, Message, PivotalTurn, Reaction, Scenario

SECRET = "the rent for March is already spent on 317 lottery tickets"


def group(replies: Sequence[str] = ("a?", "b.", "c!"), name: str = "s", said: str = "hi") -> Group:
    dialogue = Dialogue(Scenario(name, "", (Message("user", said),), 5.0, profile={"facts": [SECRET]}))
    candidates = tuple(
        Candidate(Completion(text, (1,), (0.0,), True), Reaction(f"echo {text}", float(i), "THOUGHT"))
        for i, text in enumerate(replies)
    )
    return Group(PivotalTurn(dialogue, 1.0), candidates)


class Model:
    """Answers with ``say(request)`` and remembers what it was asked."""

    def __init__(self, say: Callable[[ChatRequest], Any]) -> None:
        self.asked: list[ChatRequest] = []
        self.say = say

    def chat(self) -> Scripted:
        return Scripted("judge", self._reply)

    def _reply(self, request: ChatRequest) -> str | None:
        self.asked.append(request)
        found = self.say(request)
        return found if isinstance(found, str | None) else json.dumps(found)


def entries(ranks: Sequence[Any], critique: str = "ask more") -> list[dict[str, Any]]:
    return [{"id": i, "critique": f"{critique} {i}", "rank": rank} for i, rank in enumerate(ranks, 1)]


def judged(answer: Any, size: int = 3) -> Verdict | None:
    request = JudgeRequest((Message("user", "hi"),), ("x",) * size, (Reaction("y", 1.0),) * size, 3, (SECRET,))
    return LLMJudge(Model(lambda _: answer).chat()).judge([request])[0]


@pytest.mark.parametrize("domain", ["support", "negotiation"])
def test_it_sees_the_group_and_no_secret(domain: Literal["support", "negotiation"]) -> None:
    model = Model(lambda _: {"verdicts": entries((1, 2, 3))})
    (found,) = give_feedback([group()], LLMJudge(model.chat(), domain=domain), permutations=1, seed=0)
    assert found.feedback is not None
    (request,) = model.asked
    text = "\n".join(message.content for message in request.messages)
    assert "lottery" not in text and "THOUGHT" not in text and '"hi"' in text
    shown = [found.candidates[i] for i in found.orders[0]]
    assert parse_back(request.messages[-1].content) == [
        {"id": i, "reply": each.completion.text, "answer": each.reaction.text, "state": each.reaction.state}
        for i, each in enumerate(shown, 1)
    ]
    # The first shown is the best.
    assert [found.feedback[i].rank for i in found.orders[0]] == [1, 2, 3]
    assert [found.feedback[i].critique for i in found.orders[0]] == ["ask more 1", "ask more 2", "ask more 3"]


def test_every_order_of_every_group_has_its_own_seed() -> None:
    model = Model(lambda _: {"verdicts": entries((1, 2, 3))})
    some = [group(name="one"), group(name="two")]
    give_feedback(some, LLMJudge(model.chat()), permutations=3, seed=0)
    seeds = [request.seed for request in model.asked]
    assert len(set(seeds)) == 6
    give_feedback(some[1:], LLMJudge(model.chat()), permutations=3, seed=0)
    assert [request.seed for request in model.asked[6:]] == seeds[3:]


CRITIQUES = ("one", "two", "three")


@pytest.mark.parametrize(
    ("answer", "ranks", "critiques"),
    [
        ({"verdicts": entries((2, 1, 3), "c")}, (2, 1, 3), ("c 1", "c 2", "c 3")),
        ({"verdicts": entries((2, 1, 3), "c")[::-1]}, (2, 1, 3), ("c 1", "c 2", "c 3")),
        ({"items": entries((1, 1, 2), "c")}, (1, 1, 2), ("c 1", "c 2", "c 3")),
        (entries((1, 1, 3), "c"), (1, 1, 3), ("c 1", "c 2", "c 3")),
        ({"ranks": [1, 2, 3], "critiques": CRITIQUES}, (1, 2, 3), CRITIQUES),
        ({"ranks": ["1", 2.0, 3], "critiques": [" one", "two\n", "three"]}, (1, 2, 3), CRITIQUES),
        ({"ids": [3, 1, 2], "ranks": [1, 2, 3], "critiques": ["three", "one", "two"]}, (2, 3, 1), CRITIQUES),
        ({"ranks": [1.5, 1.5, 3], "critiques": CRITIQUES}, (1.5, 1.5, 3), CRITIQUES),
        ({"ranks": [2, 2, 2], "critiques": CRITIQUES}, (2, 2, 2), CRITIQUES),
        ({"ranks": [3, 3, 3], "critiques": CRITIQUES}, (3, 3, 3), CRITIQUES),
        ({"ranks": [1, 2, 3], "critiques": ["a\n\nb", "two", "three"]}, (1, 2, 3), ("a b", "two", "three")),
    ],
)
def test_accepted(answer: Any, ranks: tuple[float, ...], critiques: tuple[str, ...]) -> None:
    assert judged(answer) == Verdict(ranks, critiques)


BROKEN: list[Any] = [
    None,
    "I would rather not.",
    {},
    {"ranks": [1, 2, 3]},
    {"critiques": CRITIQUES},
    {"ranks": [1, 2], "critiques": CRITIQUES},
    {"ranks": [1, 2], "critiques": ["a", "b"]},
    {"ranks": [1, 2, 3, 4], "critiques": [*CRITIQUES, "four"]},
    {"ranks": [0, 1, 2], "critiques": CRITIQUES},
    {"ranks": [1, 2, -3], "critiques": CRITIQUES},
    {"ranks": [1, 2, None], "critiques": CRITIQUES},
    {"ranks": [1, 2, True], "critiques": CRITIQUES},
    {"ranks": [1, 2, "best"], "critiques": CRITIQUES},
    {"ranks": [1, 2, [3]], "critiques": CRITIQUES},
    '{"ranks": [1, 2, 1e999], "critiques": ["a", "b", "c"]}',
    '{"ranks": [1, 2, NaN], "critiques": ["a", "b", "c"]}',
    {"ranks": [8, 7, 9], "critiques": CRITIQUES},  # scores
    {"ranks": [9, 8, 1], "critiques": CRITIQUES},  # scores too: no ranking of three goes beyond 3
    {"ranks": [3, 2, 3], "critiques": CRITIQUES},
    {"ranks": [1, 2, 3], "critiques": ["one", "two", " "]},
    {"ranks": [1, 2, 3], "critiques": ["one", "two", 3]},
    {"ranks": [1, 2, 3], "critiques": ["one", "two", "x" * 1201]},
    {"ranks": [1, 2, 3], "critiques": CRITIQUES, "ids": [1, 2]},
    {"ranks": [1, 2, 3], "critiques": CRITIQUES, "ids": [1, 2, 2]},
    {"verdicts": entries((1, 2))},
    {"verdicts": entries((1, 2, 3, 4))},
    {"verdicts": [*entries((1, 2)), "three"]},
    {"verdicts": [*entries((1, 2)), {"id": 2, "critique": "c", "rank": 3}]},  # 2 twice
    {"verdicts": [*entries((1, 2)), {"id": 0, "critique": "c", "rank": 3}]},
    {"verdicts": [*entries((1, 2)), {"id": 4, "critique": "c", "rank": 3}]},
    {"verdicts": [*entries((1, 2)), {"critique": "c", "rank": 3}]},
    {"verdicts": [*entries((1, 2)), {"id": 3, "rank": 3}]},
    {"verdicts": entries((1, 2, 3)), "items": entries((3, 2, 1))},
    {"ranks": [1, 2, 3], "critiques": ["one", "two", "they spent the rent for March already"]},
    {"ranks": [1, 2, 3], "critiques": ["one", "two", "ask about the 317"]},
]


@pytest.mark.parametrize("answer", BROKEN, ids=range(len(BROKEN)))
def test_rejected(answer: Any) -> None:
    assert judged(answer) is None


def test_mean_places_are_ranks_where_several_are_best() -> None:
    # Three that share the places 1, 2 and 3 have rank 2 each; (2, 2, 3, 4) is no ranking and reads like scores.
    said = ["a", "b", "c", "d"]
    assert judged({"ranks": [2, 2, 4, 2], "critiques": said}, 4) == Verdict((2, 2, 4, 2), tuple(said))
    assert judged({"ranks": [2, 2, 3, 4], "critiques": said}, 4) is None


def test_a_rejected_answer_is_told_why_and_may_be_mended() -> None:
    answers = iter(['{"ranks": [3, 2, 3], "critiques": ["a", "b", "c"]}', json.dumps({"verdicts": entries((1, 2, 3))})])
    model = Model(lambda _: next(answers))
    judge = LLMJudge(model.chat())
    (found,) = give_feedback([group()], judge, permutations=1, seed=0)
    assert found.feedback is not None and judge.tally.retried == 1
    assert 'No "rank" is 1' in model.asked[1].messages[-1].content


@pytest.mark.parametrize("domain", ["support", "negotiation"])
def test_without_echoes_the_prompt_shows_replies_alone(domain: Literal["support", "negotiation"]) -> None:
    model = Model(lambda _: {"verdicts": entries((1, 2, 3))})
    judge = LLMJudge(model.chat(), domain=domain)
    (found,) = give_feedback([group()], judge, permutations=1, seed=0, sees_echoes=False)
    assert found.feedback is not None
    asked = "\n".join(message.content for message in model.asked[0].messages)
    assert "is not known" in asked and all(reply in asked for reply in ("a?", "b.", "c!"))
    assert not any(word in asked for word in ("echo", 'state"', "THOUGHT", '"answer"'))


def test_a_leak_is_told_without_repeating_it() -> None:
    model = Model(lambda _: {"verdicts": entries((1, 2, 3), "they bought 317 lottery tickets")})
    assert LLMJudge(model.chat()).judge(
        [JudgeRequest((Message("user", "hi"),), ("x",) * 3, (Reaction("y", 1.0),) * 3, 3, (SECRET,))]
    ) == [None]
    told = model.asked[1].messages[-1].content
    assert "was not told" in told and "317" not in told


def test_what_the_user_said_aloud_may_be_repeated() -> None:
    model = Model(lambda _: {"verdicts": entries((1, 2, 3), "they bought 317 lottery tickets")})
    (found,) = give_feedback([group(said=SECRET)], LLMJudge(model.chat()), permutations=1, seed=0)
    assert found.feedback is not None


@pytest.mark.parametrize("state", [float("nan"), float("inf")])
def test_a_state_that_is_no_number_is_not_asked_about(state: float) -> None:
    model = Model(lambda _: {"verdicts": entries((1, 2))})
    request = JudgeRequest((Message("user", "hi"),), ("x", "y"), (Reaction("y", 1.0), Reaction("z", state)))
    empty = JudgeRequest((), (), ())
    assert LLMJudge(model.chat()).judge([request, empty]) == [None, None]
    assert model.asked == []


# Ten thousand answers that went wrong somewhere.
SCRAPS = (
    "{",
    "}",
    "[",
    "]",
    '"',
    ",",
    ":",
    "\\",
    "\n",
    "null",
    "NaN",
    "-1",
    "0",
    "1e999",
    "true",
    "1",
    "</think>",
    "```",
)


def mutated(random: Random, size: int) -> str:
    """An answer with up to four errors."""
    ranks = [float(random.randint(1, size)) for _ in range(size)]
    ranks[random.randrange(size)] = 1.0
    answer: Any = {"verdicts": [{"id": i, "critique": f"c {i}", "rank": r} for i, r in enumerate(ranks, 1)]}
    if random.random() < 0.3:
        answer = {"ranks": ranks, "critiques": [f"c {i}" for i in range(size)]}
    text = json.dumps(answer)
    for _ in range(random.randint(0, 4)):
        at, to = sorted(random.randrange(len(text) + 1) for _ in range(2))
        kind = random.random()
        if kind < 0.4:
            text = text[:at] + random.choice(SCRAPS) + text[at:]
        elif kind < 0.6:
            text = text[:at] + text[at + random.randint(1, 3) :]
        elif kind < 0.7:
            text = text[:at] + text[to:]
        elif kind < 0.8:
            text = text[:at] + text[at:to] + text[at:]
        elif kind < 0.9:
            text = text[:at]
        else:
            text = f"<think>{text[at:to]}</think>```json\n{text}\n``` done"
    return text


def test_ten_thousand_mutated_answers() -> None:
    random = Random(0)
    sizes = [random.randint(2, 8) for _ in range(10_000)]
    texts = [mutated(random, size) for size in sizes]
    requests = [
        JudgeRequest((Message("user", "hi"),), ("x",) * size, (Reaction("y", 1.0),) * size, seed)
        for seed, size in enumerate(sizes)
    ]
    # A second try that does not answer: what is accepted is the first.
    judge = LLMJudge(Scripted("judge", lambda asked: texts[asked.seed] if len(asked.messages) == 2 else None))
    verdicts = judge.judge(requests)
    assert judge.tally.missing == verdicts.count(None)
    assert 3_000 < judge.tally.missing < 8_000 and judge.tally.repaired > 400
    for size, verdict in zip(sizes, verdicts, strict=True):
        if verdict is not None:
            assert len(verdict.ranks) == len(verdict.critiques) == size
            assert all(math.isfinite(rank) and rank >= 1 for rank in verdict.ranks)
            assert all(text.strip() for text in verdict.critiques)


def test_what_one_reply_brought_to_light_stays_out_of_the_critique_of_another() -> None:
    context, replies = (Message("user", "I owe money."),), ("To whom?", "How much?", "Cheer up.")
    echoes = (Reaction("To my sister Ada.", 5.0), Reaction("48213, all told.", 5.0), Reaction("No.", 3.0))
    secrets = ("She owes 48213.",)
    request = JudgeRequest(context, replies, echoes, 0, secrets)
    critiques = ["Good.", "Now ask how the 48213 came about.", "Ask how much it is."]
    assert not tells_hidden(request, critiques)
    assert tells_hidden(request, ["Good.", "Good.", "Ask about the 48213."])
