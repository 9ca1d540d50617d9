"""The chat page in a real browser: talked, rated and watched by keyboard, and hostile text in it does nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category

import pytest

from rapo.chat.page import Page as Served
from rapo.chat.talk import Talk
from rapo.types import Dialogue, EchoRequest, Message, Reaction, Scenario

from .test_report_browser import HOSTILE, INTRUDERS, browser, needs_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]
pytestmark = needs_browser
PIECES = cycle([" | ".join(HOSTILE[i::8]) for i in range(8)])


class Speaker:
    """Replies with hostile text."""

    def reply(self, dialogues: Sequence[Dialogue], seeds: Sequence[int]) -> list[str | None]:
        return [next(PIECES) for _ in dialogues]


class Users:
    """They react with hostile text, in everything that the page shows."""

    concurrency = 0

    def scenarios(self, count: int, seed: int) -> list[Scenario]:
        opening = (Message("system", next(PIECES)), Message("user", next(PIECES)))
        return [Scenario("one", next(PIECES), opening, 4.0, profile={"need": "help"})] * count

    def react(self, requests: Sequence[EchoRequest]) -> list[Reaction | None]:
        return [Reaction(next(PIECES), 6.0, thought=next(PIECES)) for _ in requests]


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(Speaker(), tmp_path, HOSTILE[0], users=Users)


@pytest.fixture
def page(browser: Browser, talk: Talk) -> Iterator[Page]:
    """The page of the talk; whatever the browser complains of, or asks of another host, fails the test."""
    served, complaints = Served(talk), list[str]()
    server = threading.Thread(target=served.serve)
    server.start()
    page = browser.new_page()
    page.on("console", lambda message: complaints.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(served.url) else 0)
    try:
        page.goto(served.url)
        page.locator("#text:focus").wait_for()
        yield page
        assert complaints == []
    finally:
        page.close()
        served.close()
        server.join()


def replies(page: Page, count: int) -> None:
    """Wait until there are so many, and the page is not at work."""
    page.locator(".assistant").nth(count - 1).wait_for()
    page.locator("body:not([aria-busy])").wait_for()


def back_to(page: Page, what: str) -> None:
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("what => document.activeElement.matches(what)", what):
            return
    raise AssertionError(f"the keyboard does not come to {what}")


def test_the_keyboard_is_enough(page: Page, talk: Talk) -> None:
    page.keyboard.type("Hello.")
    page.keyboard.press("Enter")
    replies(page, 1)
    page.keyboard.type("One.")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("Two.")
    page.keyboard.press("Enter")
    replies(page, 2)
    assert [message.content for message in talk.messages if message.role == "user"] == ["Hello.", "One.\nTwo."]
    back_to(page, "[aria-label='rate 4 of 5']")
    page.keyboard.press("Enter")
    page.locator("[aria-label='rate 4 of 5'][aria-pressed='true']").wait_for()
    assert talk.ratings == {1: 4}
    assert json.loads(talk.path.read_text())["messages"][-1]["rating"] == 4
    page.locator("#text:focus").wait_for()
    back_to(page, "#watch")
    page.keyboard.press("Space")
    replies(page, 1)
    page.locator("#send:focus").wait_for()
    page.keyboard.press("Enter")
    replies(page, 2)
    assert talk.watched and len(talk.dialogue.turns) == 1


def test_hostile_text_is_shown_and_does_nothing(page: Page, talk: Talk) -> None:
    clean = page.evaluate(INTRUDERS)
    page.locator("#text").fill(" | ".join(HOSTILE[:20]))
    page.keyboard.press("Enter")
    replies(page, 1)
    page.locator("#watch").click()
    page.locator("#send", has_text="Next turn").wait_for()
    for turn in range(1, 5):
        replies(page, turn)
        page.keyboard.press("Enter")
    replies(page, 5)
    whole = page.locator("body").evaluate("body => body.textContent")
    assert [text for text in HOSTILE if visible(text) not in whole] == []
    assert {c for c in whole if not c.isprintable()} <= {"\n", "\t"}
    assert page.evaluate("window.__pwned") is None
    assert page.evaluate(INTRUDERS) == clean


def visible(text: str) -> str:
    """How the page shows a text: a mark for each character that cannot be seen or changes how the rest is read."""
    unseen = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return "".join("\ufffd" if category(c) in unseen and c not in "\n\t" else c for c in text)
