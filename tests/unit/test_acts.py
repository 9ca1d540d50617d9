"""Acts as text, there and back."""

from __future__ import annotations

import pytest

from rapo.interact.acts import Act, parse_act, write_act


@pytest.mark.parametrize(
    ("text", "act"),
    [
        ("I can do 40.", Act("speak", "I can do 40.")),
        ("[non-verbal] nods", Act("non-verbal", "nods")),
        (" [Action]  hands over the keys ", Act("action", "hands over the keys")),
        ("[leave]", Act("leave")),
        ("[LEAVE] Good bye.", Act("leave", "Good bye.")),
        ("[speak] [leave] is what I would do", Act("speak", "[leave] is what I would do")),
        ("I will not [leave]", Act("speak", "I will not [leave]")),
        ("[leaves]", Act("speak", "[leaves]")),
        ("[smiles] hi", Act("speak", "[smiles] hi")),
        ("", Act("speak")),
    ],
)
def test_there_and_back(text: str, act: Act) -> None:
    assert parse_act(text) == act
    assert parse_act(write_act(act)) == act


def test_plain_text_stays_plain() -> None:
    assert write_act(Act("speak", "I can do 40.")) == "I can do 40."
    assert write_act(Act("speak", "[leave] it")) == "[speak] [leave] it"
    assert write_act(Act("leave")) == "[leave]"
