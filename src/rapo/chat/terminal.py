"""A talk in the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from rapo.chat.talk import Talk
from rapo.errors import ConfigError, DataError, ModelError
from rapo.progress import Terminal
from rapo.show import printable
from rapo.types import Message

HELP = "Enter a message.  /1 ... /5 rates the reply   /undo   /new   /watch a simulated user   /help   /quit"
NOTICE = "Research software: the replies are a language model's, not advice, and no help in an emergency."


@dataclass(slots=True)
class Console:
    """Reads lines and shows what is said.

    Args:
        talk: goes on.
        terminal: where it is shown.
        read: the next line of the person, by its prompt; EOFError ends the talk.
    """

    talk: Talk
    terminal: Terminal
    read: Callable[[str], str] = input

    def run(self, *, watch: bool) -> None:
        """Talk until the person leaves; user errors are shown, and the talk goes on."""
        self.terminal.report(NOTICE, "dim")
        self.terminal.report(HELP, "dim")
        if watch:
            self._do("/watch")
        while True:
            prompt = "(Enter: the next turn) > " if self.talk.watched and not self.talk.dialogue.done else "you > "
            try:
                line = self.read(prompt).strip()
            except (EOFError, KeyboardInterrupt):
                self.terminal.report("")
                break
            if line == "/quit":
                break
            self._do(line)
        if self.talk.path.exists():
            self.terminal.report(f"this talk is in {self.talk.path}; users.files of a replay user reads it", "dim")

    def _do(self, line: str) -> None:
        try:
            self._act(line)
        except (ConfigError, DataError, ModelError) as error:
            self.terminal.warn(printable(str(error)))

    def _act(self, line: str) -> None:
        talk, word = self.talk, line[1:].strip() if line.startswith("/") else None
        if word is None and line:
            self._show("policy", talk.say(line))
        elif word is None and talk.watched and not talk.dialogue.done:
            self._watch()
        elif word and re.fullmatch("-?[0-9]{1,9}", word):
            talk.rate(int(word))
            self.terminal.report(f"rated {int(word)}", "dim")
        elif word == "undo":
            talk.undo()
            self.terminal.report("taken back", "dim")
        elif word in {"new", "watch"}:
            talk.new(watch=word == "watch")
            if word == "watch":
                self.terminal.report(printable(talk.dialogue.scenario.situation), "dim")
                self._opening(talk.dialogue.messages)
                self._show("policy", talk.step())
        else:
            self.terminal.report(HELP, "dim")

    def _opening(self, messages: tuple[Message, ...]) -> None:
        who = {"user": "user", "assistant": "policy", "system": "brief"}
        for message in messages:
            self._show(who[message.role], message.content)

    def _watch(self) -> None:
        reply = self.talk.step()
        echo = self.talk.dialogue.turns[-1].reaction
        thought = f"  [{printable(echo.thought)}]" if echo.thought else ""
        self._show("user", echo.text, f"  ({echo.state:.1f}){thought}")
        if echo.done:
            self.terminal.report("the user ends the talk", "dim")
        else:
            self._show("policy", reply)

    def _show(self, who: str, text: str, more: str = "") -> None:
        line = Text(f"{who}: ", style="bold" if who == "policy" else "cyan")
        line.append(printable(text), style="not bold default")
        line.append(more, style="dim not bold")
        self.terminal.console.print(line)
