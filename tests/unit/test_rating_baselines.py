"""The baselines of a calibration: right by hand, and never told a rating of the dialogue they are asked about."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need the extra rapo-rl[replay]")

from rapo.evals.rating_baselines import BASELINES, RatedTurn, by_position, by_reply, cross_validated, deal
from rated_talks import rated_talks

TURNS = [
    RatedTurn(talk.key, place, turn.reply, rating)
    for talk in rated_talks(24, 4).talks
    for place, (turn, rating) in enumerate(zip(talk.to_dialogue().turns, talk.ratings[1:], strict=True))
    if rating is not None
]


def test_position_by_hand():
    known = [RatedTurn("a", 0, "", 5.0), RatedTurn("a", 1, "", 1.0), RatedTurn("b", 0, "", 3.0)]
    asked = [RatedTurn("c", 0, "", 1.0), RatedTurn("c", 1, "", 1.0), RatedTurn("c", 7, "", 1.0)]
    # The mean of all is 3, thrown in ten times: (8 + 30) / 12, (1 + 30) / 11, 30 / 10.
    assert by_position(known, asked).tolist() == pytest.approx([38 / 12, 31 / 11, 3.0])


def test_words_that_please_are_found():
    predicted = by_reply(TURNS, [replace(TURNS[0], reply="tell me more"), replace(TURNS[0], reply="simply relax")])
    assert predicted[0] > predicted[1] + 0.5


def test_folds_are_even_seeded_and_whole():
    folds = deal([turn.dialogue for turn in TURNS], 5, seed=1)
    assert sorted(Counter(folds.values()).values()) == [4, 5, 5, 5, 5]
    assert folds == deal([turn.dialogue for turn in reversed(TURNS)], 5, seed=1) != deal(list(folds), 5, seed=2)


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_turn_is_never_predicted_from_its_own_dialogue(name):
    folds = deal([turn.dialogue for turn in TURNS], 3, seed=0)
    before = cross_validated(BASELINES[name], TURNS, folds)
    own = TURNS[0].dialogue
    changed = [replace(turn, rating=6 - turn.rating) if turn.dialogue == own else turn for turn in TURNS]
    after = cross_validated(BASELINES[name], changed, folds)
    mine = np.array([turn.dialogue == own for turn in TURNS])
    assert after[mine].tolist() == before[mine].tolist()
    assert not np.allclose(after[~mine], before[~mine])
