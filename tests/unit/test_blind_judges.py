"""The embedded judges without echoes: what replies alone can tell, and nothing of the user's mind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rapo.hindsight.feedback import JudgeRequest, Verdict
from rapo.types import Message
from rapo.worlds import load_world

SEEKER = "The breakup came out of nowhere and my sister takes the other side. It is the loneliness that gets to me. "
SUPPORT = (
    "It makes sense to feel this way about the breakup.",  # the move that is asked for, with a fact that was told
    "It makes sense to feel this way.",  # without one
    "How do you live with the loneliness?",  # another move
    "I understand how you feel. It is not your fault that the guilt is there.",  # stock, and a fact nobody told
    "breakup the the of feel",
)
BRIEF = "You sell the bike, never below 100. You may settle for 160. First say 180."
PARTNER = "It is about the bike. I would buy at 120. Is the chain all right?"
BARGAIN = (
    "I can answer for the chain. I say 180.",
    "I can answer for the chain.",  # no price
    "Good, agreed at 120.",  # before the last word
    "I say 300.",  # above the brief's own first price, and no answer
    "180 180 the the",
)


def support(cue: str) -> JudgeRequest:
    return JudgeRequest((Message("user", SEEKER + cue),), SUPPORT)


def verdict(world: str, request: JudgeRequest) -> Verdict:
    found = load_world(world).judge().judge([request])[0]
    assert found is not None
    return found


def test_support_ranks_by_what_the_last_words_ask_for_and_by_visible_faults() -> None:
    # Faults less fit: 0 - 2; vague: 1 - 1; missed: 1 - 0; invented, stock and vague: 3 - 1.
    assert verdict("support", support("Maybe I am just weak.")).ranks == (1, 2, 3, 4, 5)


def test_support_cannot_tell_moves_apart_where_no_need_shows() -> None:
    # Asking about something told is then as good as reassuring about it.
    assert verdict("support", support("Everything is heavy.")).ranks == (1, 3, 1, 4, 5)


def test_bargaining_ranks_by_the_cue_and_the_prices_in_sight() -> None:
    request = JudgeRequest((Message("system", BRIEF), Message("user", PARTNER)), BARGAIN)
    # 0 - 2; no price: 1 - 1; early and missed: 2; extreme and missed: 2; lost.
    assert verdict("bargaining", request).ranks == (1, 2, 3, 3, 5)


@pytest.mark.parametrize("world", ["support", "bargaining"])
def test_the_hidden_profile_decides_nothing(world: str) -> None:
    users = load_world(world).users("familiar")
    judge, asked, other = load_world(world).judge(), [], []
    for scenario in users.scenarios(40, 3):
        request = JudgeRequest(scenario.opening, SUPPORT if world == "support" else BARGAIN)
        asked.append(request)
        other.append(replace(request, seed=9, secrets=("hidden",)))
    assert judge.judge(asked) == judge.judge(other)


def test_going_back_behind_ones_own_price_shows_for_a_buyer_too() -> None:
    brief = "You buy the bike, never above 200. You may settle for 150. First say 110."
    before = (Message("system", brief), Message("user", "So, the bike. I sell it at 180. Is the chain all right?"))
    talk = (
        *before,
        Message("assistant", "I say 130."),
        Message("user", "No. I sell it at 180. Is the chain all right?"),
    )
    ranks = verdict(
        "bargaining",
        JudgeRequest(
            talk, ("We can test the chain first. For me, say 130.", "We can test the chain first. For me, say 120.")
        ),
    ).ranks
    assert ranks == (1, 2)


@pytest.mark.parametrize(("world", "cue"), [("support", "Maybe I am just weak."), ("bargaining", "")])
def test_critiques_name_what_is_wrong_and_praise_what_is_not(world: str, cue: str) -> None:
    request = support(cue)
    if world == "bargaining":
        request = JudgeRequest((Message("system", BRIEF), Message("user", PARTNER)), BARGAIN)
    critiques = verdict(world, request).critiques
    assert "keep it like this" in critiques[0] or "That is what" in critiques[0]
    assert "followed" in critiques[4] or "hang together" in critiques[4]
    wanted = {"support": ("reassure", "feeling is okay", "blame themselves"), "bargaining": ("doubt a part", "worry")}
    assert all(any(words in each for words in wanted[world]) for each in critiques[1:])
