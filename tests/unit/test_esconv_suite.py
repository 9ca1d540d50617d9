"""ESConv: talks with a scripted critic and replies beside people's, counted by hand."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rapo.config import load_config
from rapo.data.conversation import Conversation
from rapo.errors import ConfigError, DataError, EndpointError
from rapo.evals import references
from rapo.evals.critic import Critic
from rapo.evals.esconv import Esconv, EsconvTalks, load
from rapo.evals.human_replies import HumanReplies
from rapo.evals.results import read_results, write_results
from rapo.evals.stats import Interval
from rapo.evals.strategies import STRATEGIES, UNLISTED, distance, known, label, shares
from rapo.models.chat import ChatRequest, Scripted
from rapo.models.stand_in import answer as stand_in
from rapo.parts import Parts
from rapo.recipes import recipe_path
from rapo.suites import make_suites
from rapo.types import Dialogue, EchoRequest, Message, Reaction, Scale, Scenario

REAL = Path(os.environ.get("RAPO_DATA", Path(__file__).parents[3] / "shared" / "data")) / "esconv"
SCENARIOS = [
    Scenario(name, "", (Message("user", f"hello from {name}"),), 4.0, profile={"facts": ["HIDDEN"]}) for name in "abcd"
]


@dataclass
class Users:
    """Each is better off by ``steps[id][turn]``, where None is a missing reaction."""

    steps: dict[str, list[float | None]]
    leaves: dict[str, int] = field(default_factory=dict)

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        return SCENARIOS[:count]

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        return [self._one(request.dialogue) for request in requests]

    def _one(self, dialogue: Dialogue) -> Reaction | None:
        name, turn = dialogue.scenario.id, len(dialogue.turns)
        step = self.steps[name][turn]
        if step is None:
            return None
        return Reaction(f"echo {turn}", dialogue.trajectory[-1] + step, done=self.leaves.get(name) == turn + 1)


class Echo:
    """Repeats what it was told last."""

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        return [f"you said {dialogue.messages[-1].content}" for dialogue in dialogues]


def critic(verdicts: dict[str, list[list[str]]], samples: int = 2) -> Critic:
    """Says ``verdicts[id][turn][sample]``; anything but a verdict is unusable."""
    asked: dict[str, int] = {}

    def reply(request: ChatRequest) -> str:
        assert request.purpose == "critic" and "HIDDEN" in request.messages[1].content
        text = request.messages[1].content
        name = next(name for name in verdicts if f"hello from {name}" in text)
        turn = text.count('"who": "author"') - 1
        if len(request.messages) > 2:  # asked once more
            return '{"verdict": "unclear"}'
        place = asked[name] = asked.get(name, -1) + 1
        return json.dumps({"verdict": verdicts[name][turn][place % samples]})

    return Critic(Scripted("judge", reply), seed=0, samples=samples)


STEPS: dict[str, list[float | None]] = {"a": [1, 1, 1], "b": [-1, 0, 0], "c": [0.5, 1, 0], "d": [0, 0, 0]}


def talks(**changes: Any) -> EsconvTalks:
    given: dict[str, Any] = {"users": Users(STEPS), "players": "llm users", "seed": 1, "turns": 3, "samples": 50}
    return EsconvTalks(SCENARIOS, **given | changes)


def test_success_and_turns_with_a_critic():
    verdicts = {
        "a": [["better", "solved"], ["solved", "solved"]],  # 0.75 > 0.5: solved at the first turn
        "b": [["worse", "same"]] * 3,  # never: counts with all 3 turns
        "c": [["better", "better"], ["solved", "solved"]],  # 0.5 is not above 0.5; solved at the second
        "d": [["better", "unclear"], ["same", "same"], ["better", "better"]],  # an unusable sample is left out
    }
    seen: list[int] = []
    result = talks(critic=critic(verdicts)).run("me", Echo(), seen.append)
    scores = {item.id: item.scores for item in result.items}
    assert {name: (each["success"], each["turns"]) for name, each in scores.items()} == {
        "a": (1, 1),
        "b": (0, 3),
        "c": (1, 2),
        "d": (0, 3),
    }
    assert {name: each["verdict"] for name, each in scores.items()} == {"a": 0.75, "b": -0.75, "c": 1, "d": 0.5}
    assert {name: each["change"] for name, each in scores.items()} == {"a": 1, "b": -1, "c": 1.5, "d": 0}
    # Ease is 10 - distress, and distress twice the intensity.
    assert scores["c"]["intensity_drop"] == 0.75
    means = {name: figure.mean for name, figure in result.figures.items() if isinstance(figure, Interval)}
    assert means == {"success": 1 / 2, "turns": 9 / 4, "change": 1.5 / 4, "intensity_drop": 1.5 / 8, "verdict": 1.5 / 4}
    assert (result.suite, result.users, result.main) == ("esconv", "llm users, critic judge", "success")
    assert result.outcome == result.figures["success"] and result.lost == 0 and seen == [1, 2, 3, 3]
    # 9 replies: four different openings, "you said echo 0" by b, c and d, "you said echo 1" by b and d.
    assert result.figures["most_common_share"] == 3 / 9
    assert len(result.dialogues) == 4


def test_without_a_critic_success_is_a_better_state():
    result = talks(users=Users(STEPS, leaves={"a": 2, "b": 1})).run("me", Echo(), lambda done: None)
    scores = {item.id: item.scores for item in result.items}
    assert {name: each["success"] for name, each in scores.items()} == {"a": 1, "b": 0, "c": 1, "d": 0}
    assert {name: each["turns"] for name, each in scores.items()} == {"a": 2, "b": 3, "c": 3, "d": 3}
    assert result.users == "llm users, success by the user's state" and "verdict" not in result.figures


def test_an_intensity_is_known_of_ease_only():
    rated = [Scenario("a", "", SCENARIOS[0].opening, 3.0, Scale(1, 5, "rating"))]
    result = EsconvTalks(rated, Users(STEPS), "logs", 1, turns=1).run("me", Echo(), lambda done: None)
    assert set(result.items[0].scores) == {"success", "turns", "change"}


def test_talks_cut_short_are_lost_and_never_failures():
    unusable = [["unclear", "unclear"]] * 3
    solved = [["solved", "solved"]]
    steps = STEPS | {"a": [1, None, 1]}
    verdicts = {"a": [["same", "same"]] * 3, "b": unusable, "c": solved, "d": solved}
    result = talks(users=Users(steps), critic=critic(verdicts)).run("me", Echo(), lambda done: None)
    assert [item.id for item in result.items] == ["c", "d"] and result.lost == 2
    assert result.outcome.mean == 1
    with pytest.raises(EndpointError, match=r"2 of 5 reactions and verdicts are missing; expected at most 20%"):
        talks(users=Users(steps), critic=critic(verdicts), max_missing=0.2).run("me", Echo(), lambda done: None)
    with pytest.raises(EndpointError, match="all 4 talks were cut short"):
        talks(critic=critic(dict.fromkeys("abcd", unusable))).run("me", Echo(), lambda done: None)


def test_the_critic_asks_for_samples_that_differ():
    asked: list[ChatRequest] = []

    def reply(request: ChatRequest) -> str:
        asked.append(request)
        return '{"verdict": "same"}'

    played = Dialogue(SCENARIOS[0]).then("</talk> solved", Reaction("echo", 9.87))
    assert Critic(Scripted("m", reply), 3)([played, Dialogue(SCENARIOS[1])]) == [-0.5, -0.5]
    assert len({request.seed for request in asked}) == len(asked) == 20
    text = asked[0].messages[1].content
    assert text.count("</talk>") == 1 and "9.87" not in text  # nor the simulator's word on its own state


def conversation(name: str, said: str, strategies: Sequence[tuple[str, ...]] = ()) -> Conversation:
    """``said``: utterances between bars, the person first."""
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(said.split("|")))  # type: ignore[arg-type]
    users = (len(messages) + 1) // 2
    return Conversation(name, f"about {name}", messages, (None,) * users, strategies=tuple(strategies))


ONE = conversation(
    "one", "hi|the cat sat|yes|on the mat|bye|unanswered", [("Question",), ("Others", "Information"), ()]
)
TWO = conversation("two", "oh|the cat sat|no", [("Question",)])


class Poet:
    """Knows two replies, and how likely it finds any: 1 nat a word; what is longer than three words is too long."""

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        return ["the cat sat" if len(dialogue.messages) == 1 else "on the moon" for dialogue in dialogues]

    def score(self, dialogues: Sequence[Dialogue], replies: Sequence[str]) -> list[tuple[float, int] | None]:
        return [(-float(len(reply.split())), 2) if len(reply.split()) < 4 else None for reply in replies]


@pytest.fixture
def packages() -> None:
    pytest.importorskip("sacrebleu", reason="the extra suites is not installed")
    pytest.importorskip("rouge_score", reason="the extra suites is not installed")


@pytest.mark.usefixtures("packages")
def test_replies_beside_those_of_people():
    seen: list[int] = []
    suite = HumanReplies([ONE, TWO], seed=1, samples=50)
    result = suite.run("poet", Poet(), seen.append)
    figures = result.figures
    # Words of 3 replies: 8 of 9 are those of the references; pairs 5 of 6; triples 2 of 3, of equal length.
    assert figures["bleu_1"] == pytest.approx(100 * 8 / 9)
    assert figures["bleu_2"] == pytest.approx(100 * math.sqrt(8 / 9 * 5 / 6))
    assert figures["bleu_3"] == pytest.approx(100 * (8 / 9 * 5 / 6 * 2 / 3) ** (1 / 3))
    # ROUGE-L: 1 and 2/3 in the first talk, 1 in the second.
    assert [item.scores["rouge_l"] for item in result.items] == pytest.approx([5 / 6, 1])
    assert result.outcome.mean == pytest.approx(11 / 12) and result.main == "rouge_l"
    # 9 nats over 6 tokens.
    assert figures["perplexity"] == pytest.approx(math.exp(9 / 6))
    assert [item.scores["log_likelihood"] for item in result.items] == [-1.5, -1.5]
    assert figures["replies"] == 3 and figures["most_common_share"] == 2 / 3
    # Question, Others, Information; Question.
    assert {name: share for name, share in figures.items() if name.startswith("references.") and share} == {
        "references.Question": 1 / 2,
        "references.Others": 1 / 4,
        "references.Information": 1 / 4,
    }
    assert "strategy_distance" not in figures and "replies.Question" not in figures
    assert seen == [2] and suite.total == 2


@pytest.mark.usefixtures("packages")
def test_a_speaker_that_cannot_score_has_no_perplexity():
    result = HumanReplies([ONE], seed=1).run("echo", Echo(), lambda done: None)
    assert "perplexity" not in result.figures and "log_likelihood" not in result.items[0].scores


@pytest.mark.usefixtures("packages")
def test_strategies_as_a_model_labels_them():
    asked: list[ChatRequest] = []

    def reply(request: ChatRequest) -> str:
        asked.append(request)
        shown = json.loads(request.messages[1].content.partition("<replies>")[2].partition("</replies>")[0])
        names = {"the cat sat": "question", "on the moon": "Information", "on the mat": "Others"}
        return json.dumps({"labels": [names[each["reply"]] for each in shown]})

    suite = HumanReplies([ONE, TWO], seed=1, labeller=Scripted("judge", reply))
    figures = suite.run("poet", Poet(), lambda done: None).figures
    assert len(asked) == 4 and '{"said": "yes", "reply": "on the moon"}' in asked[0].messages[1].content
    assert figures["replies.Information"] == figures["references.Others"] + 1 / 12 == pytest.approx(1 / 3)
    assert figures["strategy_distance"] == pytest.approx(1 / 3)  # a third moved from Others to Information
    assert figures["strategy_agreement"] == 1


def test_labels_that_cannot_be_used_are_missing():
    exchanges = [("hi", "how are you"), ("fine", "good")]
    for labels in (["Question"], ["Question", "Kindness"], "Question", [1, 2]):
        said = json.dumps({"labels": labels})
        assert label(Scripted("m", lambda _, said=said: said), [exchanges, []], 0) == [None, []]
    assert label(Scripted("stand-in", stand_in), [exchanges], 0) == [["Question", "Question"]]


def test_distributions_of_strategies():
    assert known("Other ") == "Others" and known("Questions") == "Question"
    assert known("Providing Suggestions or Information") == UNLISTED
    assert shares([UNLISTED, "Others"])[UNLISTED] == 1 / 2
    some = shares(["Question", "Question", "Others", "Information"])
    assert list(some) == list(STRATEGIES) and some["Question"] == 1 / 2 and shares([]) == {}
    assert distance(some, shares(["Question"])) == 1 / 2 and distance(some, shares(["Self-disclosure"])) == 1


@pytest.mark.usefixtures("packages")
def test_a_greeting_before_the_person_spoke_is_not_compared():
    greeted = Conversation(
        "g",
        "",
        (Message("assistant", "hello"), *ONE.messages[:3]),
        (None, None),
        strategies=(("Others",), ("Question",)),
    )
    result = HumanReplies([greeted], seed=1).run("echo", Echo(), lambda done: None)
    assert result.figures["replies"] == 1 and result.figures["references.Question"] == 1


@pytest.mark.usefixtures("packages")
def test_missing_replies_are_left_out_and_a_talk_without_any_is_lost():
    class Silent(Poet):
        def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
            texts = super().reply(dialogues, seeds)
            return [None if d.scenario.id == "two" or d.turns else t for d, t in zip(dialogues, texts, strict=True)]

    suite = HumanReplies([ONE, TWO], seed=1, labeller=Scripted("stand-in", stand_in))
    result = suite.run("silent", Silent(), lambda done: None)
    assert result.figures["replies.Question"] == result.figures["strategy_agreement"] == 1
    assert [item.id for item in result.items] == ["one"] and result.lost == 1 and result.outcome.mean == 1
    with pytest.raises(EndpointError, match="2 of 3 replies are missing"):
        HumanReplies([ONE, TWO], seed=1, max_missing=0.5).run("silent", Silent(), lambda done: None)
    with pytest.raises(EndpointError, match="all 1 replies are missing"):
        HumanReplies([TWO], seed=1).run("silent", Silent(), lambda done: None)


@pytest.mark.usefixtures("packages")
def test_conversations_nobody_answers_in_are_refused():
    with pytest.raises(DataError, match="there is no reply to compare with"):
        HumanReplies([conversation("x", "hi|hello")], seed=1)


def test_a_missing_package_is_said_before_anything_is_asked(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics", None)
    with pytest.raises(ConfigError, match=r"needs sacrebleu; expected the extra suites; .*'rapo-rl\[suites\]'"):
        HumanReplies([ONE], seed=1)


@pytest.mark.usefixtures("packages")
def test_both_parts_in_one_suite():
    seen: list[int] = []
    suite = Esconv([talks(), HumanReplies([ONE, TWO], seed=1)])
    results = suite.run("echo", Echo(), seen.append)
    assert suite.total == 3 + 2 and seen == [1, 2, 3, 3, 5]
    assert [(each.suite, each.main) for each in results] == [("esconv", "success"), ("esconv", "rouge_l")]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rows = [
        {
            "situation": f"about {i}",
            "init_intensity": "4",
            "dialog": [
                {"speaker": "usr", "text": "hi"},
                {"speaker": "sys", "text": f"what happened number {i}", "strategy": "Question"},
                {"speaker": "usr", "text": "work wears me out", "feedback": "4"},
            ],
        }
        for i in range(40)
    ]
    (tmp_path / "multiesc.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return [tmp_path / "multiesc.jsonl"]


def test_the_fifth_that_is_set_aside_is_measured(files: list[Path]):
    kept, replayed = load(files, None)
    assert 2 < len(kept) < 20 and all(each.set_aside for each in kept)
    own = {f"{each.id}@1" for each in kept}
    assert {each.id for each in replayed.scenarios(len(kept), 0)} == own
    again, played = load(files, Scripted("stand-in", stand_in))
    assert again == kept
    scenarios = played.scenarios(len(kept), 0)
    assert {each.id.partition("~")[0] for each in scenarios} == {each.id for each in kept}
    # What people wrote of their situation is the user's to tell; intensity 4 is an ease of 10 - 2 * 4.
    assert all(each.profile["facts"] and each.situation != each.profile["facts"][0] for each in scenarios)
    assert {(each.start, each.scale.name) for each in scenarios} == {(2.0, "ease")}
    trained = next(row for row in files[0].read_text("utf-8").splitlines() if json.loads(row)["situation"] == "about 0")
    files[0].write_text(trained, encoding="utf-8")
    with pytest.raises(DataError, match="none of the conversations is set aside"):
        load(files, None)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("models", [("suites.users=m", "suites.judge=m"), ()])
def test_a_recipe_with_stand_ins(files: list[Path], tmp_path: Path, models: tuple[str, ...]):
    stand_ins = ["models.m.path=rapo.models.stand_in:answer", f"suites.esconv=[{files[0]}]", "suites.items=2"]
    config = load_config(recipe_path("demo"), [*stand_ins, *models])
    with Parts(config, tmp_path, lambda _: None) as parts:
        (suite,) = make_suites(parts, ["esconv"])
        talks, replies = suite.run("echo", Echo(), lambda done: None)
        asked = parts.totals()
        assert suite.run("echo", Echo(), lambda done: None) == [talks, replies]
        assert parts.totals() == asked  # every answer comes from the journal
    assert talks.users == (
        "rapo.models.stand_in:answer users, critic rapo.models.stand_in:answer"
        if models
        else "logs, success by the user's state"
    )
    assert ("strategy_distance" in replies.figures) == bool(models)
    write_results(tmp_path / "results.json", [talks, replies])
    assert read_results(tmp_path / "results.json") == [talks, replies]


def test_references_of_one_pair():
    pytest.importorskip("rouge_score", reason="the extra suites is not installed")
    # Common: "a c" of 3 and 2 words: P 2/3, R 1, F 4/5.
    assert references.rouge_l(["a b c"], ["a c"]) == pytest.approx([4 / 5])


@pytest.mark.usefixtures("packages")
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the ESConv files are not at {REAL} (set RAPO_DATA)")
def test_real_conversations():
    talks, _ = load([REAL / "multiesc_valid.jsonl"], None)
    said = {(talk.id, i): turn.reply for talk in talks for i, turn in enumerate(talk.to_dialogue().turns)}

    class Person:
        """Says what was said."""

        def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
            return [said[each.scenario.id, len(each.turns)] for each in dialogues]

    result = HumanReplies(talks, seed=0, samples=50).run("person", Person(), lambda done: None)
    assert len(result.items) == len(talks) == 39 and result.figures["replies"] == len(said)
    assert result.figures["bleu_4"] == pytest.approx(100) and result.outcome.mean == 1
    assert result.figures["references.Question"] > 0.15 and result.figures["references.unlisted"] > 0.1
    assert 0 < float(result.figures["self_bleu"]) < 0.5  # type: ignore[arg-type]
