"""A real Chromium, without a window: for the tests and the benchmark of the report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")


def obstacle() -> str | None:
    """Why no browser can be driven here, and the way out; None where one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is missing: pip install -e '.[view-test]'"
    if executable() is None:
        return "Chromium is missing: apt-get install chromium, or name one in CHROMIUM"
    return None


def executable() -> str | None:
    """The browser named in the environment's CHROMIUM, else the one of the system."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Inside containers the sandbox has no user namespaces to work with; the pages opened are our own.
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
