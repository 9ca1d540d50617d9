"""A language model behind an OpenAI-compatible endpoint, asked as if money and nights depended on it.

Every attempt has one deadline for everything, whatever the server drips; it is in the ledger before it is sent, and its
answer is in the journal before anybody sees it. Failed attempts are repeated within limits per call and per run. An
endpoint that is asked too fast is asked more slowly, at no call's expense. After many failures in a row it gets rests,
and a harmless question tells whether it is down, which ends the run, or whether the calls are to blame, which end
without an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import httpx2

from rapo.models import wire
from rapo.models.chat import ChatAnswer, ChatRequest
from rapo.models.ledger import Account
from rapo.models.retry import backoff, retry_after
from rapo.models.server import Server
from rapo.models.wire import Reply, Verdict
from rapo.types import Message

_LONGEST_DETAIL = 300
# Asked where a failure may be the fault of what a call says: nothing in this can be.
_PROBE = ChatRequest((Message("user", "Say hello."),), "probe", 0)


class Endpoint:
    """The model of ``server``, asked at the expense of ``account``; from several threads at once, if need be.

    An answer is text as it came: what it says is for the caller to judge.

    Attributes:
        concurrency: how many calls are under way at once, at most, whoever asks.
    """

    def __init__(self, server: Server, account: Account) -> None:
        self.server, self.account = server, account
        self.name, self.concurrency = account.spec.name, server.spec.concurrency

    def answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, ChatAnswer | None]]:
        """Every request's answer as it arrives; None where all attempts failed or the request itself is refused.

        When the run has to stop, attempts under way are still waited for, stored and given out: they are paid for.
        That holds for everything asked through one journal at that moment, whatever it was that failed.

        Raises:
            EndpointError: key refused, model or address unknown, another model answers, or nothing for too long.
            BudgetError: the next attempt could exceed the budget.
            RunError: the journal cannot be written.
        """
        yield from self.server.background.stream(partial(self._serve, requests))

    async def _serve(
        self, requests: Sequence[ChatRequest], emit: Callable[[tuple[int, ChatAnswer | None]], None]
    ) -> None:
        """Ask everything; each answer is stored, then emitted."""
        calls, left = iter(enumerate(requests)), set(range(len(requests)))

        async def work() -> None:
            for place, request in calls:
                try:
                    async with self.server.line() as line:
                        answer = await _Call(self.server, self.account, line, request).answer()
                # Also what no one foresaw: the others are paid for, and end in the journal.
                except Exception as error:
                    stop.order(error)
                    return
                left.remove(place)
                emit((place, answer))

        with self.account.journal.stop as stop:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.concurrency, len(requests))):
                    group.create_task(work())
            if left:
                stop.check()


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

    server: Server
    account: Account
    line: httpx2.AsyncClient
    request: ChatRequest
    begun: bool = False

    async def answer(self) -> ChatAnswer | None:
        """Attempt until there is an answer, or no hope of one; both are in the journal."""
        server, spec, failures = self.server, self.server.spec, 0
        self.account.journal.retries.begin()
        schema = server.schemas and self.request.schema is not None
        asked = schema
        while True:
            reply = await self._guarded(self.request, schema=schema)
            if reply.verdict is Verdict.ANSWERED:
                if asked and not schema and server.schemas:
                    server.schemas = False
                    server.tell("schema", "takes no JSON schema: it is asked for JSON in words only")
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
                if failures >= spec.attempts + server.breaker.open or not self._may_retry():
                    break
                pause = max(backoff(failures, server.timing), retry_after(reply.after, server.timing))
                await server.timing.rest(pause, self.account.journal.stop.check)
        self.account.give_up(self.request)
        return None

    def _may_retry(self) -> bool:
        return self.account.journal.retries.take(self.account.calls.retries)

    async def _refused(self, reply: Reply) -> None:
        """Take note of a refusal; raise EndpointError where it is not for what the request says."""
        server = self.server
        server.refusals += 1
        many = not server.accepts and server.refusals >= self.account.calls.breaker
        if reply.status == 403 or many:
            probe = await self._guarded(_PROBE, schema=False)
            if probe.verdict is Verdict.REFUSED:
                raise server.hopeless(reply)
        server.tell("refused", f"refuses a request, which stays without an answer: {reply.detail}")

    async def _guarded(self, request: ChatRequest, *, schema: bool) -> Reply:
        """One attempt that did not come too fast."""
        server, check = self.server, self.account.journal.stop.check
        while True:
            async with server.pace.turn(check):
                reply = await self._once_up(request, schema)
                while reply.verdict is Verdict.WAIT and await server.pace.keeps(check):
                    reply = await self._once_up(request, schema)
            if reply.verdict is not Verdict.WAIT:
                return reply

    async def _once_up(self, request: ChatRequest, schema: bool) -> Reply:
        """One attempt once the endpoint is up, which only the question that no call can spoil tells."""
        while await self.server.breaker.enter(self.account.journal.stop.check):
            await self._heard(_PROBE, schema=False, probe=True)
        return await self._heard(request, schema=schema, probe=False)

    async def _heard(self, request: ChatRequest, *, schema: bool, probe: bool) -> Reply:
        """One attempt; breaker and pace hear how it ended."""
        server, began = self.server, self.server.timing.now()
        try:
            reply = await self._attempt(request, schema)
            if reply.verdict is Verdict.HOPELESS:
                raise server.hopeless(reply)
        except BaseException:
            server.breaker.leave(probe)
            raise
        rest, absent = retry_after(reply.after, server.timing), reply.outcome == "unreachable"
        if reply.verdict in (Verdict.ANSWERED, Verdict.REFUSED):
            server.breaker.succeed(probe)
            server.pace.speed_up()
            server.accepts = server.accepts or reply.verdict is Verdict.ANSWERED
            return reply
        # An endpoint that is down and says "too fast" to the only question it is asked stays down.
        if reply.verdict is Verdict.WAIT and not probe:
            if (seconds := server.pace.slow_down(began, rest)) is not None:
                raise server.limiting(seconds, reply)
            server.tell("pace", f"is asked more slowly, as it wants: {reply.detail}")
            return reply
        if (seconds := server.breaker.fail(probe, rest, absent=absent)) is not None:
            raise server.down(seconds, reply)
        return reply

    async def _attempt(self, request: ChatRequest, schema: bool) -> Reply:
        """One HTTP request, in the ledger before and after."""
        account, content = self.account, wire.body(self.server.spec, request, schema=schema)
        # Before the ledger: without a key nothing is sent.
        self.server.key()
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
        server, spec = self.server, self.server.spec
        try:
            async with (
                asyncio.timeout(spec.timeout),
                self.line.stream("POST", server.address, content=content, auth=_Bearer(server.key)) as response,
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
        answer = reply.answer and replace(reply.answer, text=self.server.redact(reply.answer.text))
        # Cut last: the first half of a key would not be known for one.
        return replace(reply, answer=answer, detail=self.server.redact(reply.detail)[:_LONGEST_DETAIL])
