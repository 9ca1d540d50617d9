"""An episode of the ``sotopia`` package as one side lives through it, in our words: what it hears, what it may answer.

The package tells each side its background, then after every turn who did what, as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from rapo import prompts
from rapo.interact.acts import Act, Kind, parse_act, write_act
from rapo.seeds import derive_seed
from rapo.types import Dialogue, Message, Reaction, Scenario

Action = Literal["none", "speak", "non-verbal communication", "action", "leave"]

BEGIN = write_act(Act("non-verbal", "waits for you to begin"))  # who speaks first has heard nothing yet
SILENT = write_act(Act("non-verbal", "says nothing"))
_DONE = re.compile(
    r'.*? (?:said: "(.*?)"?|\[(non-verbal communication|action)\] ?(.*)|(left the conversation))', re.DOTALL
)
_ACTIONS: dict[Kind, Action] = {
    "speak": "speak",
    "non-verbal": "non-verbal communication",
    "action": "action",
    "leave": "leave",
}


@dataclass(slots=True)
class View:
    """What the character ``name`` has met in the episode that began last; one side acts per turn."""

    name: str
    _talk: Dialogue | None = None
    _brief: str = ""
    _heard: list[str] = field(default_factory=list)
    _said: str = ""
    _acted: bool = False

    def begin(self, context: str) -> None:
        """A new episode, with what the package tells this side of it."""
        self._brief = prompts.load("sotopia_agent").fill(name=self.name, context=context.strip())
        self._talk, self._heard, self._said, self._acted = None, [], "", False

    def hear(self, turn: str) -> None:
        """What was done in a turn, as the package tells it; it tells this side's own turns too."""
        if turn.strip() and not self._acted:
            self._heard.append(read_act(turn))
        self._acted = False

    def dialogue(self) -> Dialogue:
        """All of it, up to where this side has to answer.

        What the others did in several turns is one message. The package knows no state, so that it stays at 0.
        """
        heard, self._heard = "\n".join(self._heard), []
        if self._talk is None:
            opening = (Message("system", self._brief), Message("user", heard or BEGIN))
            ident = f"sotopia/{derive_seed(self._brief):x}"
            self._talk = Dialogue(Scenario(ident, "", opening, 0.0))
        else:
            self._talk = self._talk.then(self._said, Reaction(heard or SILENT, 0.0))
        return self._talk

    def answer(self, reply: str) -> None:
        """What this side answered."""
        self._said, self._acted = reply, True


def read_act(turn: str) -> str:
    """A turn as the package tells it (``Bea Lake said: "Hello."``) as a message of ours; other text is spoken."""
    found = _DONE.fullmatch(turn.strip())
    if found is None:
        return turn.strip()
    words, kind, does, left = found.groups()
    if left:
        return write_act(Act("leave"))
    if kind:
        return write_act(Act("action" if kind == "action" else "non-verbal", does))
    return write_act(Act("speak", words))


def to_action(reply: str) -> tuple[Action, str]:
    """A reply as the package's type of action and its argument; no words, but for leaving, do nothing."""
    act = parse_act(reply)
    if not act.text and act.kind != "leave":
        return "none", ""
    return _ACTIONS[act.kind], act.text
