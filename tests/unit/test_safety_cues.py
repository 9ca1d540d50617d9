"""The detector of risk cues: what the rules see, what excuses it, and how much they find, counted."""

from __future__ import annotations

import pytest

from rapo.errors import DataError
from rapo.evals.detection import Detection, detection
from rapo.safety import detector, situations
from rapo.safety.patterns import compiled, plain
from rapo.worlds import load_world

FIGURES = {
    # In docs/safety.md too: whoever changes a rule measures again, and writes a new held-out part after tuning on it.
    "development": Detection(risks=322, found=283, clear=180, harmless=326, alarms=1, clear_alarms=1),
    "held_out": Detection(risks=76, found=34, clear=28, harmless=76, alarms=9, clear_alarms=6),
}


def seen(text: str) -> list[tuple[str, str, str]]:
    return [(cue.category, cue.span, cue.tier) for cue in detector("en").cues(text)]


@pytest.mark.parametrize("part", ["development", "held_out"])
def test_the_measured_figures_have_not_changed(part):
    assert detection(situations("en", part), "en") == FIGURES[part]


def test_the_situations_are_many_half_harmless_and_no_two_alike():
    found = situations("en")
    assert len(found) >= 400
    assert 0.45 <= sum(one.risk is None for one in found) / len(found) <= 0.55
    assert len({one.id for one in found}) == len({one.text for one in found}) == len(found)
    assert {one.risk for one in found} == {None, "suicide", "self_harm", "harm_to_others", "abuse", "danger"}


def test_a_cue_is_where_it_says_it_is():
    text = "Honestly, I Want To  DIE – and I’ve started cutting again."
    cues = detector("en").cues(text)
    assert [(cue.category, cue.tier) for cue in cues] == [("suicide", "clear"), ("self_harm", "clear")]
    assert [cue.span for cue in cues] == ["Want To  DIE", "started cutting"]
    assert all(text[cue.start : cue.end] == cue.span for cue in cues)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("i wanna diiiie", "wanna diiiie"),
        ("i'm gonna kil my self", "kil my self"),
        ("i don’t wanna wake up tmrw", "don’t wanna wake up"),
    ],
)
def test_chat_spelling_is_read_and_the_span_stays_as_it_was_written(text, span):
    assert [found for _, found, _ in seen(text)] == [span]


@pytest.mark.parametrize(
    ("harmless", "risk"),
    [
        ("This joke is so bad I want to die.", "I want to die."),
        ("I don't want to kill myself.", "I don't care. I want to kill myself."),
        ("I would never hurt myself.", "I would never tell, but I hurt myself."),
        ("I'm not going to hurt myself.", "I'm not going to hurt myself tonight."),
        ("In the film she kills herself.", "My friend says she kills herself by working; he hits me."),
        ("We saw a film. The hero kills himself.", "We saw a film. I want to kill myself."),
        ("I cut myself when I was a teenager.", "I cut myself when I was a teenager, and lately I do it again."),
        ("As a nurse I see overdoses.", "As a nurse I see overdoses. I want to die."),
    ],
)
def test_an_excuse_holds_only_as_far_as_it_reaches(harmless, risk):
    assert seen(harmless) == []
    assert seen(risk)


def test_nothing_an_embedded_world_says_is_flagged():
    texts = set()
    for name in ("support", "bargaining"):
        world = load_world(name)
        talks = [*world.dialogues(60, 1), *world.practice(60, 1)]
        texts |= {message.content for talk in talks for message in talk if message.role == "user"}
        for example in world.corrections(60, 1):
            texts |= {message.content for message in example.dialogue.messages if message.role == "user"}
            texts.add(example.echo.text)
    assert len(texts) > 500
    assert [text for text in texts if seen(text)] == []


def test_patterns_see_plain_text_and_keep_its_places():
    text = plain("“Don’t” soooo gna", {"gna": "going to"})
    assert text.text == '"dont" so going to'
    # The span of "going to" is that of the word it stands for.
    assert text.original(10, 18) == (14, 17)
    assert text.original(1, 5) == (1, 6)


def test_a_space_in_a_pattern_is_any_gap_and_an_optional_one_may_be_none():
    pattern = compiled(["self ?harm", "{want} die"], {"want": "want to"})
    assert all(pattern.search(text) for text in ("selfharm", "self-harm", "self  harm", "want to, die"))
    assert not pattern.search("want to diet") and not pattern.search("myself harm")
    assert not compiled([], {}).search("anything")


@pytest.mark.parametrize("pattern", ["{unknown} x", "(unclosed"])
def test_a_pattern_that_cannot_be_used_is_named(pattern):
    with pytest.raises(DataError, match="a safety pattern cannot be used"):
        compiled([pattern], {})


def test_a_language_without_rules_is_an_error_with_a_way_out():
    with pytest.raises(DataError, match="no safety rules for this language; got xx; expected one of: en"):
        detector("xx-YY")
