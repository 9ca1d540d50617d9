"""A talk on a local page: one small HTTP server on the loopback interface, for this machine and this person only.

Every address holds a random token, and requests that name another host or come from another page are refused: a page
open in the same browser can neither read the talk nor write in it.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, ClassVar

from rapo.chat.talk import Talk
from rapo.chat.terminal import NOTICE
from rapo.errors import DataError, RapoError
from rapo.records import to_json

FILES = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
MOST = 100_000  # bytes of a request
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Page:
    """Serves a talk until it is closed.

    Args:
        talk: goes on.
        port: to listen on; 0 takes a free one.

    Attributes:
        url: where the page is, its token in it.
    """

    def __init__(self, talk: Talk, port: int = 0) -> None:
        self.talk, self._lock, self.token = talk, threading.Lock(), secrets.token_urlsafe(16)
        handler = type("Handler", (_Handler,), {"page": self})
        try:
            self._server = _Server(("127.0.0.1", port), handler)
        except OSError as error:
            raise DataError(f"port {port} cannot be used", got=error.strerror, fix="give another --port") from None
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/{self.token}/"

    def serve(self) -> None:
        """Answer requests until ``close`` or Ctrl-C."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def act(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """Do what the page asks for, one thing at a time; the talk afterwards, and what went wrong."""
        acts: dict[str, Callable[[], object]] = {
            "state": lambda: None,
            "say": lambda: self.talk.say(str(given.get("text", ""))),
            "step": self.talk.step,
            "rate": lambda: self.talk.rate(int(given.get("rating", 0)), int(given.get("reply", -1))),
            "undo": self.talk.undo,
            "new": self.talk.new,
            "watch": self._watch,
        }
        problem = ""
        with self._lock:
            try:
                acts[name]()
            except RapoError as error:
                problem = str(error)
            except (TypeError, ValueError, OverflowError):
                problem = "the page sent what cannot be read"
            return self._state() | {"problem": problem}

    def _watch(self) -> None:
        self.talk.new(watch=True)
        self.talk.step()

    def _state(self) -> dict[str, Any]:
        talk = self.talk
        turns = [
            {"reply": turn.reply, "rating": talk.ratings.get(place), **to_json(turn.reaction)}
            for place, turn in enumerate(talk.dialogue.turns)
        ]
        last = talk.messages[-1] if talk.waits_for_user and talk.messages else None
        scenario = talk.dialogue.scenario
        return {
            "model": talk.label,
            "notice": NOTICE,
            "watched": talk.watched,
            "can_watch": talk.users is not None,
            "done": talk.dialogue.done,
            "situation": scenario.situation,
            "scale": to_json(scenario.scale) | {"start": to_json(scenario.start)},
            "opening": [to_json(message) for message in scenario.opening],
            "turns": turns,
            "reply": last.content if last else None,
            "rating": talk.ratings.get(len(turns)),
            "file": str(talk.path) if talk.path.exists() else None,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    page: ClassVar[Page]
    timeout = 30  # seconds that a request may be on its way
    server_version, sys_version = "rapo", ""

    def do_GET(self) -> None:
        found = FILES.get(self._name() or "") if self._name() is not None else None
        if found is None or not self._same_host():
            self._send(HTTPStatus.NOT_FOUND, b"not here", "text/plain")
            return
        text = resources.files("rapo.chat").joinpath(found[0]).read_bytes()
        self._send(HTTPStatus.OK, text, found[1])

    def do_POST(self) -> None:
        name, length = self._name() or "", self.headers.get("Content-Length") or "0"
        origin = self.headers.get("Origin")
        known = name in {"state", "say", "step", "rate", "undo", "new", "watch"}
        fits = re.fullmatch("[0-9]{1,6}", length) and int(length) <= MOST
        if not known or not fits or not self._same_host() or origin not in (None, f"http://{self.page.host}"):
            self._send(HTTPStatus.NOT_FOUND, b"not here", "text/plain")
            return
        try:
            given = json.loads(self.rfile.read(int(length)) or b"{}")
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            self._send(HTTPStatus.BAD_REQUEST, b"no JSON object", "text/plain")
            return
        self._send(HTTPStatus.OK, json.dumps(self.page.act(name, given)).encode(), "application/json")

    def _name(self) -> str | None:
        """What follows the token in the path; None where there is none, or another one."""
        token, found, name = self.path.removeprefix("/").partition("/")
        return name if found and secrets.compare_digest(token.encode(), self.page.token.encode()) else None

    def _same_host(self) -> bool:
        return self.headers.get("Host") == self.page.host

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (HEADERS | {"Content-Type": f"{kind}; charset=utf-8"}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the person's."""
