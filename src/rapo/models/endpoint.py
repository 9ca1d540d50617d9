"""A language model behind an OpenAI-compatible endpoint, asked as if money and nights depended on it.

Every attempt has one deadline for everything, whatever the server drips; it is in the ledger before it is sent, and its
answer is in the journal before anybody sees it. Failed attempts are repeated within limits per call and per run. After
many failures in a row the endpoint gets rests, and a harmless question tells whether it is down, which ends the run, or
whether the calls are to blame, which end without an answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import SplitResult, urlsplit

import httpx2

from rapo.errors import EndpointError
from rapo.models import wire
from rapo.models.background import stream
from rapo.models.chat import ChatAnswer, ChatRequest
from rapo.models.ledger import Account
from rapo.models.retry import Breaker, Timing, backoff, retry_after
from rapo.models.wire import Reply, Verdict
from rapo.types import Message

# Servers that need no key are often given a word such as EMPTY, which an answer may well contain.
_SHORTEST_SECRET = 8
_LONGEST_DETAIL = 300
# Asked where a failure may be the fault of what a call says: nothing in this can be.
_PROBE = ChatRequest((Message("user", "Say hello."),), "probe", 0)


class Endpoint:
    """The model at ``account.spec.url``.

    At most ``spec.concurrency`` calls of one batch are under way at once. An answer is text as it came: what it says is
    for the caller to judge.

    Args:
        account: model, limits, ledger and journal.
        label: the model's name under ``models``, for messages.
        notice: told once about each thing the user should know and that stops nothing.
        timing: clock, sleep and dice.

    Raises:
        EndpointError: the address cannot be one.
    """

    def __init__(
        self, account: Account, *, label: str, notice: Callable[[str], None], timing: Timing | None = None
    ) -> None:
        self.name = account.spec.name
        self.account, self.spec, self.timing = account, account.spec, timing or Timing()
        self.breaker = Breaker(account.calls.breaker, account.calls.patience, self.timing)
        self.accepts, self.refusals = False, 0
        self.schemas = account.spec.json_schema != "off"
        self._label, self._notice, self._noticed = label, notice, set[str]()
        self._url = _usable(account.spec.url or "", label)
        path = self._url.path.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self.address = self._url._replace(path=path).geturl()
        # Loading the certificates takes longer than a call, and a client is made for every batch.
        secure = self._url.scheme == "https"
        self._tls = ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        """Every request's answer as it arrives; None where all attempts failed or the request itself is refused.

        When the run has to stop, attempts under way are still waited for, stored and given out: they are paid for.

        Raises:
            EndpointError: key refused, model or address unknown, another model answers, or nothing for too long.
            BudgetError: the next attempt could exceed the budget.
            RunError: the journal cannot be written.
        """
        yield from stream(partial(self._serve, requests), f"calls to {self._label}")

    async def _serve(
        self, requests: Sequence[ChatRequest], emit: Callable[[tuple[int, ChatAnswer | None]], None]
    ) -> None:
        """Ask everything, with ``concurrency`` calls side by side; each answer is stored, then emitted."""
        stop, calls = _Stop(), iter(enumerate(requests))
        async with self._client() as client:

            async def work() -> None:
                for place, request in calls:
                    try:
                        emit((place, await _Call(self, client, stop, request).answer()))
                    # Also what no one foresaw: the others are paid for, and end in the journal.
                    except Exception as error:
                        stop.error = stop.error or error
                        return

            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.spec.concurrency, len(requests))):
                    group.create_task(work())
        stop.check()

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            timeout=None,
            follow_redirects=False,
            # A proxy for the way out of the house knows nothing of this machine's own ports.
            trust_env=not _loopback(self._url.hostname or ""),
            verify=self._tls,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=self.spec.concurrency),
            headers={"content-type": "application/json", "accept-encoding": "identity"},
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
            return EndpointError(f"{where} answers as another model", got=reply.detail, expected=self.name, fix=fix)
        if reply.outcome == "redirect":
            fix = f"the key goes nowhere else: give the final address as {models}.url"
            return EndpointError(f"{where} does not answer itself", got=reply.detail, expected="an answer", fix=fix)
        key = f"the key in {self.spec.key_env}" if self.spec.key_env else f"{models}.key_env, which is not set"
        fixes = {
            400: f"check the model name {self.name} and what the endpoint says",
            401: f"check {key}",
            403: f"check {key}, and what it may use",
            404: f"check {models}.url (it often ends in /v1) and the model name {self.name}",
        }
        fix = fixes.get(reply.status or 0, f"check {models}.url and {key}")
        return EndpointError(f"{where} refuses to answer", got=reply.detail, fix=fix)

    def down(self, seconds: float, reply: Reply) -> EndpointError:
        """The error for an endpoint that has failed for too long."""
        fix = "start it again and go on with: rapo resume RUN"
        return EndpointError(f"{self._where()} has failed for {seconds:.0f} s", got=reply.detail, fix=fix)

    def _where(self) -> str:
        host = self._url.netloc.rpartition("@")[2]
        return f"models.{self._label} at {self._url.scheme}://{host}{self._url.path}"


@dataclass(slots=True)
class _Stop:
    """Why no attempt of a batch may start any more."""

    error: Exception | None = None

    def check(self) -> None:
        """Raise the reason, if there is one."""
        if self.error is not None:
            raise self.error


class _Bearer(httpx2.Auth):
    """Puts the key into a request on its way out, so that it is in no variable that a traceback could show."""

    def __init__(self, key: Callable[[], str]) -> None:
        self._key = key

    def auth_flow(self, request: httpx2.Request) -> Iterator[httpx2.Request]:  # type: ignore[override]
        if self._key():
            request.headers["authorization"] = f"Bearer {self._key()}"
        yield request


@dataclass(slots=True)
class _Call:
    """One request and its attempts."""

    endpoint: Endpoint
    client: httpx2.AsyncClient
    stop: _Stop
    request: ChatRequest
    begun: bool = False

    async def answer(self) -> ChatAnswer | None:
        """Attempt until there is an answer, or no hope of one; both are in the journal."""
        end, spec, failures = self.endpoint, self.endpoint.spec, 0
        end.account.journal.retries.calls += 1
        schema = end.schemas and self.request.schema is not None
        asked = schema
        while True:
            reply = await self._guarded(self.request, schema=schema)
            if reply.verdict is Verdict.ANSWERED:
                if asked and not schema and end.schemas:
                    end.schemas = False
                    end.tell("schema", "takes no JSON schema: it is asked for JSON in words only")
                return reply.answer
            if reply.verdict is Verdict.REFUSED:
                if not schema or spec.json_schema == "on" or reply.status == 403:
                    await self._refused(reply)
                    break
                schema = False
            # Where nobody listens, no call is to blame.
            elif reply.outcome != "unreachable":
                failures += 1
                # An endpoint at rest may be the one to blame: one attempt more, once it has answered somebody.
                if failures >= spec.attempts + end.breaker.open or not self._may_retry():
                    break
                pause = max(backoff(failures, end.timing), retry_after(reply.after, end.timing))
                await end.timing.rest(pause, self.stop.check)
        end.account.give_up(self.request)
        return None

    def _may_retry(self) -> bool:
        account = self.endpoint.account
        return account.journal.retries.take(account.calls.retries)

    async def _refused(self, reply: Reply) -> None:
        """Take note of a refusal; raise EndpointError where it is not for what the request says."""
        end = self.endpoint
        end.refusals += 1
        many = not end.accepts and end.refusals >= end.account.calls.breaker
        if reply.status == 403 or many:
            probe = await self._guarded(_PROBE, schema=False)
            if probe.verdict is Verdict.REFUSED:
                raise end.hopeless(reply)
        end.tell("refused", f"refuses a request, which stays without an answer: {reply.detail}")

    async def _guarded(self, request: ChatRequest, *, schema: bool) -> Reply:
        """One attempt once the endpoint is up, which only the question that no call can spoil tells."""
        while await self.endpoint.breaker.enter(self.stop.check):
            await self._heard(_PROBE, schema=False, probe=True)
        return await self._heard(request, schema=schema, probe=False)

    async def _heard(self, request: ChatRequest, *, schema: bool, probe: bool) -> Reply:
        """One attempt; the breaker hears how it ended."""
        end = self.endpoint
        try:
            reply = await self._attempt(request, schema)
            if reply.verdict is Verdict.HOPELESS:
                raise end.hopeless(reply)
        except BaseException:
            end.breaker.leave(probe)
            raise
        if reply.verdict is not Verdict.RETRY:
            end.breaker.succeed(probe)
            end.accepts = end.accepts or reply.verdict is Verdict.ANSWERED
            return reply
        rest, absent = retry_after(reply.after, end.timing), reply.outcome == "unreachable"
        if (seconds := end.breaker.fail(probe, rest, absent=absent)) is not None:
            raise end.down(seconds, reply)
        return reply

    async def _attempt(self, request: ChatRequest, schema: bool) -> Reply:
        """One HTTP request, in the ledger before and after."""
        account, content = self.endpoint.account, wire.body(self.endpoint.spec, request, schema=schema)
        # Before the ledger: without a key nothing is sent.
        self.endpoint.key()
        number = account.start(request, len(content), first=not self.begun)
        self.begun = True
        try:
            reply = self._redacted(await self._exchange(content))
        except BaseException:
            account.finish(number, request, "cancelled")
            raise
        answer = None if request is _PROBE else reply.answer
        account.finish(number, request, reply.outcome, status=reply.status, tokens=reply.tokens, answer=answer)
        return reply

    async def _exchange(self, content: bytes) -> Reply:
        end, spec = self.endpoint, self.endpoint.spec
        try:
            async with (
                asyncio.timeout(spec.timeout),
                self.client.stream("POST", end.address, content=content, auth=_Bearer(end.key)) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > wire.LARGEST_ANSWER:
                        return wire.lost("too large", f"more than {wire.LARGEST_ANSWER} bytes")
                return wire.read(response.status_code, response.headers, bytes(body), spec, len(content))
        except TimeoutError:
            return wire.lost("timeout", f"no complete answer within {spec.timeout:g} s")
        except httpx2.ConnectError as error:
            return replace(wire.lost("unreachable", f"no connection: {error}"), tokens=(0, 0))
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            return wire.lost("broken off", f"a broken connection: {error or type(error).__name__}")

    def _redacted(self, reply: Reply) -> Reply:
        answer = reply.answer and replace(reply.answer, text=self.endpoint.redact(reply.answer.text))
        # Cut last: the first half of a key would not be known for one.
        return replace(reply, answer=answer, detail=self.endpoint.redact(reply.detail)[:_LONGEST_DETAIL])


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
