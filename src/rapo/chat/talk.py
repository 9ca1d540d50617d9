"""One talk with a policy, kept on disk turn by turn in the format of chat logs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from rapo.errors import DataError
from rapo.interact.play import Speaker
from rapo.interact.users import UserSimulator
from rapo.records import atomic_write, disk_errors
from rapo.seeds import derive_seed
from rapo.types import Dialogue, EchoRequest, Message, Reaction, Scenario

RATINGS = (1, 5)
LEAVES = "[leave]"  # what a user says who rates a reply and goes


@dataclass(slots=True)
class Talk:
    """A talk between a policy and a user, a person or a simulated one.

    Args:
        speaker: writes the replies.
        folder: receives one file per talk, which ``users.files`` of a replay user reads.
        label: what the policy is called.
        seed: of the sampling and of simulated users.
        users: gives the simulated users to watch, each time the same; None where there are none.

    Attributes:
        dialogue: what was said; a person's talk before its first message has no opening.
        ratings: of the replies, by their place.
        path: the file of this talk; it exists once there is a reply.
    """

    speaker: Speaker
    folder: Path
    label: str
    seed: int = 0
    users: Callable[[], UserSimulator] | None = None
    now: Callable[[], datetime] = datetime.now
    dialogue: Dialogue = field(init=False)
    ratings: dict[int, int] = field(init=False)
    path: Path = field(init=False)
    _reply: str = field(init=False)
    _count: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.new()

    def new(self, *, watch: bool = False) -> None:
        """Begin another talk: a person's, or with ``watch`` one of a simulated user, who speaks first."""
        if watch and self.users is None:
            raise DataError("there is no simulated user to watch", fix="give a recipe with --config")
        # First, since there may be none: the talk so far stays as it is then.
        drawn = self.users().scenarios(self._count + 1, derive_seed(self.seed, "watch")) if watch and self.users else ()
        self._count += 1
        self.ratings, self._reply = {}, ""
        self.path = self._free_path()
        scenario = drawn[-1] if drawn else Scenario(f"chat-{self._count}", "", (), math.nan)
        self.dialogue = Dialogue(scenario)

    @property
    def watched(self) -> bool:
        """Whether a simulated user talks."""
        return bool(self.dialogue.scenario.profile) or not math.isnan(self.dialogue.scenario.start)

    @property
    def waits_for_user(self) -> bool:
        """Whether it is the user's turn."""
        return bool(self._reply) or not self.dialogue.scenario.opening

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything said so far, a reply nobody has answered yet included."""
        return (*self.dialogue.messages, *([Message("assistant", self._reply)] if self._reply else []))

    def say(self, text: str) -> str:
        """Say something as the user and return the reply.

        Raises:
            DataError: nothing was said, the talk is a simulated user's, or it has grown too long for the policy.
            ModelError: the first message is too long for it.
            EndpointError, BudgetError: a model behind an endpoint cannot go on.
        """
        # Bytes that are no UTF-8 come as halves of characters, which no model reads.
        text = text.strip().encode("utf-8", "replace").decode("utf-8")
        if not text:
            raise DataError("nothing was said", expected="a message")
        if self.watched:
            raise DataError("a simulated user is talking", fix="begin a talk of your own")
        if self._reply:
            said = self.dialogue.then(self._reply, Reaction(text, math.nan))
        else:
            said = Dialogue(Scenario(self.dialogue.scenario.id, "", (Message("user", text),), math.nan))
        return self._answer(said)

    def step(self) -> str:
        """Let the simulated user react to the last reply, if there is one, and return the policy's next reply.

        Raises as :meth:`say`, and DataError when the user has ended the talk or gives no reaction.
        """
        if self.users is None or not self.watched:
            raise DataError("no simulated user is talking", fix="begin by watching one")
        if self.dialogue.done:
            raise DataError("the user has ended the talk", fix="begin another one")
        if not self._reply:
            return self._answer(self.dialogue)
        seed = derive_seed(self.seed, self.dialogue.scenario.id, len(self.dialogue.turns), "echo")
        (reaction,) = self.users().react([EchoRequest(self.dialogue, self._reply, seed)])
        if reaction is None:
            raise DataError("the simulated user gave no reaction", fix="try again, or look at the endpoint: rapo check")
        said = self.dialogue.then(self._reply, reaction)
        if reaction.done:
            self.dialogue, self._reply = said, ""
            self._save()
            return ""
        return self._answer(said)

    def rate(self, rating: int, reply: int | None = None) -> None:
        """Rate a reply by its place, the last one by default; raises DataError for what is no rating or no reply."""
        low, high = RATINGS
        if not low <= rating <= high:
            raise DataError("this is no rating", got=rating, expected=f"{low} (worst) to {high} (best)")
        count = len(self.dialogue.turns) + bool(self._reply)
        place = count - 1 if reply is None else reply
        if not 0 <= place < count:
            raise DataError("there is no such reply to rate", got=place, expected=f"one of {count} replies")
        self.ratings[place] = rating
        self._save()

    def undo(self) -> None:
        """Take back the last message and its reply; raises DataError when there is none."""
        if not self._reply:
            raise DataError("there is nothing to take back")
        turns = len(self.dialogue.turns)
        self.ratings.pop(turns, None)
        if turns:
            self._reply = self.dialogue.turns[-1].reply
            self.dialogue = self.dialogue.upto(turns - 1)
        else:
            kept = self.dialogue.scenario if self.watched else Scenario(self.dialogue.scenario.id, "", (), math.nan)
            self.dialogue, self._reply = Dialogue(kept), ""
        self._save()

    def _answer(self, said: Dialogue) -> str:
        seed = derive_seed(self.seed, said.scenario.id, len(said.turns), "reply")
        (reply,) = self.speaker.reply([said], [seed])
        if reply is None:
            raise DataError("there is no reply: the talk has grown too long for the model, or it did not answer")
        self.dialogue, self._reply = said, reply
        self._save()
        return reply

    def _save(self) -> None:
        if not self.dialogue.scenario.opening:
            self.path.unlink(missing_ok=True)
            return
        row = {"id": self.path.stem, "model": self.label, "simulated": self.watched, "messages": self._rows()}
        if situation := self.dialogue.scenario.situation:
            row["situation"] = situation
        with disk_errors(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path, json.dumps(row) + "\n")

    def _rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = [{"role": m.role, "content": m.content} for m in self.messages]
        replies = [place for place, row in enumerate(rows) if row["role"] == "assistant"]
        # Replies of the opening were not this policy's.
        replies = replies[len(replies) - len(self.dialogue.turns) - bool(self._reply) :]
        for reply, rating in self.ratings.items():
            if replies[reply] + 1 == len(rows):
                rows.append({"role": "user", "content": LEAVES})
            rows[replies[reply] + 1]["rating"] = rating
        return rows

    def _free_path(self) -> Path:
        stem = self.now().strftime("%Y-%m-%dT%H-%M-%S")
        names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
        return next(path for name in names if not (path := self.folder / f"{name}.jsonl").exists())
