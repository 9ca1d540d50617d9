"""What one can do in a negotiation besides speaking, as text (after SOTOPIA's actions).

Plain text is spoken; ``[non-verbal] nods``, ``[action] hands over the keys`` and ``[leave]`` are done. Only the
beginning of a message counts, so one message is one act.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

Kind = Literal["speak", "non-verbal", "action", "leave"]
KINDS: tuple[Kind, ...] = ("speak", "non-verbal", "action", "leave")

_TAG = re.compile(r"\[(speak|non-verbal|action|leave)\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Act:
    """One act; ``text`` is what is said or done, without blanks around it; leaving may go without words."""

    kind: Kind
    text: str = ""


def parse_act(text: str) -> Act:
    """The act that a message is."""
    text = text.strip()
    tag = _TAG.match(text)
    return Act(cast(Kind, tag[1].lower()), text[tag.end() :].strip()) if tag else Act("speak", text)


def write_act(act: Act) -> str:
    """The message of an act: ``parse_act`` gives the act back."""
    text = act.text.strip()
    if act.kind == "speak" and not _TAG.match(text):
        return text
    return f"[{act.kind}] {text}".strip()
