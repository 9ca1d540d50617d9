"""Every prompt is a Markdown file beside this one, with ``{name}`` placeholders."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rapo.errors import DataError
from rapo.types import Message

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as it lies on disk; braces around anything but a lower-case name are plain text."""

    name: str
    text: str

    @property
    def hash(self) -> str:
        """The first 12 hex digits of the text's SHA-256: which wording a run used."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def placeholders(self) -> frozenset[str]:
        """The names that ``fill`` wants."""
        return frozenset(_PLACEHOLDER.findall(self.text))

    def fill(self, **values: str) -> str:
        """The text with every placeholder replaced; raises DataError when a name is missing or unknown."""
        if values.keys() != self.placeholders:
            raise DataError(
                f"prompt {self.name} is filled wrongly", got=sorted(values), expected=str(sorted(self.placeholders))
            )
        # One pass: braces inside a value are never looked at again.
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.text)

    def messages(self, **values: str) -> tuple[Message, Message]:
        """A system and a user message: what stands above and below the line ``---``, filled; errors as of ``fill``."""
        # Cut before it is filled: a line in a value is never taken for the one that parts the two.
        above, _, below = self.text.partition("\n---\n")
        self.fill(**values)
        parts = [Prompt(self.name, part.strip()) for part in (above, below)]
        one, two = (part.fill(**{name: values[name] for name in part.placeholders}) for part in parts)
        return Message("system", one), Message("user", two)


@cache
def load(name: str) -> Prompt:
    """The prompt in ``<name>.md``, without the newline at its end; raises DataError when there is none."""
    known = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.md"))}
    if name not in known:
        raise DataError("no such prompt", got=name, expected=f"one of: {', '.join(known)}")
    return Prompt(name, known[name].read_text(encoding="utf-8").strip())


def names() -> list[str]:
    """The name of every prompt."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.md"))
