"""A small OpenAI-compatible server on 127.0.0.1 that goes wrong on schedule.

    with FaultServer(reply=lambda body: "text", faults=once("503")) as server:
        ... spec.url = server.url ...
        assert server.count == 2

``python tests/fault_server.py --share 0.3`` runs it as a process of its own: it prints its url, and serves its counts
as JSON at ``/counts``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import sha256
from time import time
from typing import Any, Self

Body = dict[str, Any]
# (how often this very request came before, its body) -> the fault to answer with, or None for a good answer.
Faults = Callable[[int, Body], str | None]

# What goes wrong on the way; a client has to notice.
TRANSPORT = (
    "429",
    "429-after",
    "429-date",
    "500",
    "502",
    "503",
    "reset",
    "hang",
    "drip",
    "slow headers",
    "empty",
    "truncated",
    "huge",
    "malformed",
    "wrong type",
    "not a chat",
)
# What no further attempt can cure.
HOPELESS = ("401", "403", "404", "wrong model", "redirect")
# Well-formed answers that are wrong in what they say.
CONTENT = {
    "wrong count": '{"ranking": [1], "ranks": [1], "critiques": ["one"]}',
    "duplicate ranks": '{"ranking": [1, 1, 1, 1], "ranks": [1, 1, 1, 1], "critiques": ["a", "a", "a", "a"]}',
    "nan": '{"ranking": [NaN, 1], "ranks": [NaN, 1], "state": NaN, "critiques": ["a", "b"]}',
    "whitespace": " \n" * 20_000,
}
ALL = (*TRANSPORT, *HOPELESS, *CONTENT)


def never(_: int, __: Body) -> str | None:
    """No faults."""
    return None


def once(fault: str) -> Faults:
    """Every request meets the fault the first time it comes."""
    return lambda seen, _: fault if seen == 0 else None


def always(fault: str) -> Faults:
    """Every request meets the fault every time."""
    return lambda _, __: fault


def share(part: float, faults: tuple[str, ...], seed: int = 0) -> Faults:
    """A share of the attempts meets one of the faults, drawn anew for every attempt."""
    dice = random.Random(seed)
    return lambda _, __: dice.choice(faults) if dice.random() < part else None


def closed_url() -> str:
    """The url of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def echo(body: Body) -> str:
    """The default answer: the last message, so that every answer can be told from every other."""
    return f"re: {body['messages'][-1]['content']}"


@dataclass(frozen=True)
class Hit:
    """One attempt as the server saw it: its body, the headers (names in lower case) and the fault it met."""

    body: Body
    headers: dict[str, str]
    fault: str | None


@dataclass
class FaultServer:
    """The server, in a thread of its own.

    Attributes:
        reply: the text of a good answer to a request body.
        faults: what goes wrong; may be changed while it runs.
        model: the name it gives itself; None repeats the one asked for.
        schemas: False refuses ``response_format`` with 400.
        delay: seconds a good answer takes, or a function from the request body to them.
        slow: seconds that a hanging or dripping answer stays open.
        retry_after: what ``429-after`` asks for.
        hits: every attempt received in full, in order.
        under_way: attempts that are being answered.
        busiest: most of them at once.
        connections: how many were opened.
    """

    reply: Callable[[Body], str] = echo
    faults: Faults = never
    model: str | None = None
    schemas: bool = True
    delay: float | Callable[[Body], float] = 0.0
    slow: float = 30.0
    retry_after: float = 1.0
    keep_hits: bool = True
    port: int = 0
    hits: list[Hit] = field(default_factory=list)
    fault_counts: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    count: int = 0
    under_way: int = 0
    busiest: int = 0
    connections: int = 0

    @property
    def url(self) -> str:
        """What to put into ``models.NAME.url``."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self.under_way, self._seen = 0, Counter[str]()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._answer(first, headers, raw, writer):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            with contextlib.suppress(Exception):
                writer.close()

    async def _answer(self, first: str, headers: dict[str, str], raw: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may be used again."""
        path = first.split(" ")[1]
        if path.endswith("/counts"):
            twice = sum(n - 1 for n in self.answered.values() if n > 1)
            counts = {"count": self.count, "answered_again": twice, "faults": dict(self.fault_counts)}
            return _write(writer, 200, json.dumps(counts))
        if not path.endswith("/v1/chat/completions"):
            return _write(writer, 404, '{"error": {"message": "no such path"}}')
        body, mark = json.loads(raw), sha256(raw).hexdigest()
        fault = self.faults(self._seen[mark], body)
        self._seen[mark] += 1
        self._note(body, headers, fault)
        self.under_way += 1
        self.busiest = max(self.busiest, self.under_way)
        try:
            if fault is None or fault in CONTENT:
                await asyncio.sleep(self.delay(body) if callable(self.delay) else self.delay)
                if not self.schemas and "response_format" in body:
                    return _write(writer, 400, '{"error": {"message": "response_format is not supported"}}')
                self.answered[mark] += 1
                return _write(writer, 200, json.dumps(self._completion(body, CONTENT.get(fault or ""))))
            return await self._fail(fault, headers, body, writer)
        finally:
            self.under_way -= 1

    def _note(self, body: Body, headers: dict[str, str], fault: str | None) -> None:
        self.count += 1
        self.fault_counts[fault or "none"] += 1
        if self.keep_hits:
            self.hits.append(Hit(body, headers, fault))

    def _completion(self, body: Body, text: str | None = None) -> Body:
        text = self.reply(body) if text is None else text
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": self.model or body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": len(text.split())},
        }

    async def _fail(self, fault: str, headers: dict[str, str], body: Body, writer: asyncio.StreamWriter) -> bool:
        good = json.dumps(self._completion(body))
        # Servers do quote the key they refuse.
        said = json.dumps({"error": {"message": f"{fault}: {headers.get('authorization', 'no key')}"}})
        date = formatdate(time() + self.retry_after, usegmt=True)
        whole: dict[str, tuple[Any, ...]] = {
            "429-after": (429, said, f"Retry-After: {self.retry_after:g}"),
            "429-date": (429, said, f"Retry-After: {date}"),
            "redirect": (307, "", "Location: http://127.0.0.1:9/elsewhere"),
            "empty": (200, ""),
            "malformed": (200, good[:-10]),
            "wrong type": (200, "<html>busy</html>", "", "text/html"),
            "not a chat": (200, '{"object": "list", "data": []}'),
            "wrong model": (200, json.dumps(self._completion(body) | {"model": "another-model"})),
        }
        if fault in {"truncated", "reset", "hang", "drip", "slow headers"}:
            await self._break(fault, good.encode(), writer)
            return False
        if fault == "huge":
            return _write(writer, 200, json.dumps(self._completion(body, "x" * (9 * 2**20))))
        return _write(writer, *(whole[fault] if fault in whole else (int(fault), said)))

    async def _break(self, fault: str, good: bytes, writer: asyncio.StreamWriter) -> None:
        if fault == "reset":
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        elif fault == "hang":
            await asyncio.sleep(self.slow)
        elif fault == "truncated":
            writer.write(_head(200, len(good)) + good[: len(good) // 2])
            await writer.drain()
        else:
            whole = _head(200, len(good)) + good
            # A byte at a time, often enough that no single read is slow.
            start = 0 if fault == "slow headers" else whole.index(b"\r\n\r\n") + 4
            writer.write(whole[:start])
            for place in range(start, len(whole)):
                writer.write(whole[place : place + 1])
                await writer.drain()
                await asyncio.sleep(self.slow / len(whole))


def _head(status: int, length: int, extra: str = "", kind: str = "application/json") -> bytes:
    lines = [
        f"HTTP/1.1 {status} Any",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        *([extra] if extra else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _write(
    writer: asyncio.StreamWriter, status: int, text: str, extra: str = "", kind: str = "application/json"
) -> bool:
    content = text.encode()
    writer.write(_head(status, len(content), extra, kind) + content)
    return True


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.0, help="share of attempts that go wrong")
    parser.add_argument("--slow", type=float, default=30.0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--retry-after", type=float, default=0.05)
    args = parser.parse_args()
    faults = share(args.share, (*TRANSPORT, *CONTENT)) if args.share else never
    server = FaultServer(faults=faults, slow=args.slow, delay=args.delay, retry_after=args.retry_after, keep_hits=False)
    with server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
