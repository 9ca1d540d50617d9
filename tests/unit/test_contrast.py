"""The contrast judge: ranks from states, critiques from echoes."""

from __future__ import annotations

import pytest

from rapo.errors import ConfigError
from rapo.hindsight.contrast import ContrastJudge, tied_ranks
from rapo.hindsight.feedback import JudgeRequest, Verdict, tells_hidden
from rapo.types import Message, Reaction


def judged(*shown: tuple[str, str, float], **options: float) -> Verdict | None:
    replies = tuple(reply for reply, _, _ in shown)
    reactions = tuple(Reaction(echo, state, thought="SECRET") for _, echo, state in shown)
    return ContrastJudge(**options).judge([JudgeRequest((Message("user", "hi"),), replies, reactions)])[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "tolerance", "ranks"),
    [
        ((3.0, 5.0, 1.0), 0.1, (2.0, 1.0, 3.0)),
        ((3.0, 3.0, 1.0), 0.0, (1.5, 1.5, 3.0)),  # places 1 and 2: (1 + 2) / 2
        ((0.3, 0.2), 0.1, (1.5, 1.5)),
        # A chain of steps of 0.1: the tie of 1.0 reaches down to 0.9, that of 0.8 to 0.7; 0.6 is alone.
        ((0.6, 0.7, 0.8, 0.9, 1.0), 0.1, (5.0, 3.5, 3.5, 1.5, 1.5)),
        ((2.0, 2.0, 2.0), 0.0, (2.0, 2.0, 2.0)),
    ],
)
def test_ties(states: tuple[float, ...], tolerance: float, ranks: tuple[float, ...]) -> None:
    assert tied_ranks(states, tolerance) == ranks


def test_critiques_quote_the_echo_and_the_best_reply() -> None:
    verdict = judged(("get over it", "that\nhurts", 1.0), ("what happened?", "I lost my job", 4.0))
    assert verdict is not None and verdict.ranks == (2.0, 1.0)
    low, high = verdict.critiques
    assert low == (
        "The user answered: “that hurts”. Better received was the reply “what happened?”: to it the user said "
        "“I lost my job”."
    )
    assert high.startswith("The user answered: “I lost my job”.") and "keep what it does" in high
    assert "SECRET" not in low + high


TOLD = "My brother Anselm lent me 4800 for the shop"


@pytest.mark.parametrize(
    ("best", "told", "ending"),
    [
        # The word of the profile stands in the echo, in the reply too (a lucky guess), or in neither.
        ("what happened?", f"{TOLD}.", "Better received was the reply “what happened?”."),
        ("is it Anselm?", f"Yes. {TOLD}.", "Better received was another reply."),
        ("what happened?", "I lost my job", "“what happened?”: to it the user said “I lost my job”."),
    ],
)
def test_what_one_author_was_told_is_left_out_for_the_others(best: str, told: str, ending: str) -> None:
    request = JudgeRequest(
        (Message("user", "hi"),),
        ("get over it", best),
        (Reaction("that hurts", 1.0), Reaction(told, 4.0)),
        secrets=(TOLD, "called Anselm"),
    )
    (verdict,) = ContrastJudge().judge([request])
    assert verdict is not None and verdict.ranks == (2.0, 1.0)
    low, high = verdict.critiques
    assert low.startswith("The user answered: “that hurts”. ") and low.endswith(ending)
    assert told in high
    assert not tells_hidden(request, verdict.critiques)


def test_critiques_do_not_depend_on_the_order_shown() -> None:
    shown = (("a", "x", 4.0), ("b", "y", 4.0), ("c", "z", 1.0))
    one, two = judged(*shown), judged(*reversed(shown))
    assert one is not None and two is not None
    assert one.critiques == tuple(reversed(two.critiques))


def test_all_alike_is_said() -> None:
    verdict = judged(("a", "x", 2.0), ("b", "", 2.05))
    assert verdict is not None and verdict.ranks == (1.5, 1.5)
    assert all("every reply of this group alike" in critique for critique in verdict.critiques)
    assert verdict.critiques[1].startswith("The user answered: nothing.")


def test_quotes_are_short_and_harmless() -> None:
    verdict = judged(("a", "\x1b[31mx” \x00y" + "z" * 500, 1.0), ("b", "ok", 2.0), quote=20)
    assert verdict is not None
    assert verdict.critiques[0].startswith('The user answered: “x" y' + "z" * 15 + "…”.")  # 4 + 15 + 1 = 20 characters


def test_unusable_group_is_missing() -> None:
    assert judged(("a", "x", float("nan"))) is None
    assert judged() is None


@pytest.mark.parametrize("options", [{"tolerance": -1.0}, {"tolerance": float("nan")}, {"quote": 3}])
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        judged(**options)
