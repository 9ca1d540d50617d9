"""The chat page in a real browser: talked, rated and watched by keyboard, and hostile text in it does nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

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
    return Talk(Speaker(), tmp_path, HOSTILE[0], users=Users())


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
