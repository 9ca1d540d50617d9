"""What everyone who asks one endpoint shares: its address and key, its connections, its limits, what is said of it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, urlsplit

import httpx2

from rapo.config.sections import Calls, ModelSpec
from rapo.errors import EndpointError
from rapo.models.background import Background
from rapo.models.pace import Pace
from rapo.models.retry import Breaker, Timing
from rapo.models.wire import Reply

# Servers that need no key are often given a word such as EMPTY, which an answer may well contain.
_SHORTEST_SECRET = 8
# Common servers drop a connection after 5 idle seconds; one that is dropped as it is used costs an attempt.
_IDLE_SECONDS = 3.0


class Server:
    """The endpoint at ``spec.url``, whoever asks it: at most ``spec.concurrency`` calls are under way at once.

    Args:
        spec: address, key and limits.
        calls: when it counts as failing.
        label: the model's name under ``models``, for messages.
        notice: told once about each thing the user should know and that stops nothing.
        timing: clock, sleep and dice.

    Attributes:
        background: the thread in which all calls are made.
        accepts: it has answered.
        refusals: requests it refused.
        schemas: it is asked for answers held to a JSON schema.

    Raises:
        EndpointError: the address cannot be one.
    """

    def __init__(
        self,
        spec: ModelSpec,
        calls: Calls,
        *,
        label: str,
        notice: Callable[[str], None],
        timing: Timing | None = None,
    ) -> None:
        self.spec, self.timing = spec, timing or Timing()
        self.background = Background(f"calls to {label}")
        # Loading the certificates takes longer than a call.
        secure = spec.url is not None and spec.url.startswith("https")
        self._tls = ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._slots, self._lines = asyncio.Semaphore(spec.concurrency), list[httpx2.AsyncClient]()
        self.breaker = Breaker(calls.breaker, calls.patience, self.timing)
        self.pace = Pace(spec.concurrency, calls.patience, self.timing)
        self.accepts, self.refusals, self.schemas = False, 0, spec.json_schema != "off"
        self._label, self._notice, self._noticed = label, notice, set[str]()
        self._url = _usable(spec.url or "", label)
        path = self._url.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self.address = self._url._replace(path=path).geturl()

    def close(self) -> None:
        """End what is under way and the connections; nothing can be asked any more."""
        self.background.close()

    @asynccontextmanager
    async def line(self) -> AsyncIterator[httpx2.AsyncClient]:
        """A connection for one call, in the background, once one of ``concurrency`` is free; it is kept for the next.

        A client of many connections looks at each of them at every call, which takes longer than the call.
        """
        async with self._slots:
            line = self._lines.pop() if self._lines else await self._open()
            try:
                yield line
            finally:
                self._lines.append(line)

    async def _open(self) -> httpx2.AsyncClient:
        return await self.background.opened.enter_async_context(
            httpx2.AsyncClient(
                timeout=None,
                follow_redirects=False,
                # A proxy for the way out of the house knows nothing of this machine's own ports.
                trust_env=not _loopback(self._url.hostname or ""),
                verify=self._tls,
                limits=httpx2.Limits(keepalive_expiry=_IDLE_SECONDS),
                headers={"content-type": "application/json", "accept-encoding": "identity"},
            )
        )

    def key(self) -> str:
        """The key as the environment holds it at this moment; "" where the endpoint takes none."""
        if self.spec.key_env is None:
            return ""
        # A header that is not plain text would be quoted in the HTTP library's complaint.
        if not _sendable(os.environ.get(self.spec.key_env, "").strip()):
            raise EndpointError(
                f"the environment variable {self.spec.key_env} holds no usable key for models.{self._label}",
                expected="a key of plain characters",
                fix=f"set {self.spec.key_env} and go on",
            )
        return os.environ[self.spec.key_env].strip()

    def redact(self, text: str) -> str:
        """``text`` without the key."""
        key = self.key()
        return text.replace(key, "[key]") if len(key) >= _SHORTEST_SECRET else text

    def tell(self, topic: str, text: str) -> None:
        """Give notice of something, once."""
        if topic not in self._noticed:
            self._noticed.add(topic)
            self._notice(f"{self._where()} {''.join(c if c.isprintable() else ' ' for c in text)}")

    def hopeless(self, reply: Reply) -> EndpointError:
        """The error for a reply after which no call can succeed."""
        where, models = self._where(), f"models.{self._label}"
        if reply.outcome == "wrong model":
            fix = f"ask for the right one, or set {models}.name to the name it answers with"
            return EndpointError(
                f"{where} answers as another model", got=reply.detail, expected=self.spec.name, fix=fix
            )
        if reply.outcome == "redirect":
            fix = f"the key goes nowhere else: give the final address as {models}.url"
            return EndpointError(f"{where} does not answer itself", got=reply.detail, expected="an answer", fix=fix)
        key = f"the key in {self.spec.key_env}" if self.spec.key_env else f"{models}.key_env, which is not set"
        fixes = {
            400: f"check the model name {self.spec.name} and what the endpoint says",
            401: f"check {key}",
            403: f"check {key}, and what it may use",
            404: f"check {models}.url (it often ends in /v1) and the model name {self.spec.name}",
        }
        fix = fixes.get(reply.status or 0, f"check {models}.url and {key}")
        return EndpointError(f"{where} refuses to answer", got=reply.detail, fix=fix)

    def down(self, seconds: float, reply: Reply) -> EndpointError:
        """The error for an endpoint that has failed for too long."""
        fix = "start it again and go on with: rapo resume RUN"
        return EndpointError(f"{self._where()} has failed for {seconds:.0f} s", got=reply.detail, fix=fix)

    def limiting(self, seconds: float, reply: Reply) -> EndpointError:
        """The error for an endpoint that has been asked too fast for too long, or whose quota is used up."""
        fix = "wait until it allows calls again, or raise calls.patience; go on with: rapo resume RUN"
        what = f"{self._where()} has let no call through for {seconds:.0f} s"
        return EndpointError(what, got=reply.detail, fix=fix)

    def _where(self) -> str:
        host = self._url.netloc.rpartition("@")[2]
        return f"models.{self._label} at {self._url.scheme}://{host}{self._url.path}"


def _usable(url: str, label: str) -> SplitResult:
    try:
        if httpx2.URL(url).host:
            return urlsplit(url)
    except (httpx2.InvalidURL, ValueError):
        pass
    raise EndpointError(f"models.{label}.url is no address", expected="one such as http://127.0.0.1:8000/v1")


def _sendable(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
