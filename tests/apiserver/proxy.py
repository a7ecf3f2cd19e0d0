"""A reverse proxy in front of an API server that refuses, cuts and delays on request."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from spiderpool.kube.transport import Access, abort


class Fault(enum.Enum):
    """What happens to a request."""

    REFUSE = "429 with Retry-After, not forwarded"
    CUT_BEFORE = "the connection ends, the request is not forwarded"
    CUT_AFTER = "the request is carried out, the connection ends without an answer"


RETRY_AFTER_S = 2
REFUSAL = {
    "kind": "Status",
    "apiVersion": "v1",
    "status": "Failure",
    "message": "too many requests, please try again later",
    "reason": "TooManyRequests",
    "code": 429,
}
_VERBS = {"POST": "create", "PUT": "replace", "PATCH": "patch", "DELETE": "delete"}
_DROPPED = {"Content-Length", "Transfer-Encoding", "Connection", "Host", "Authorization"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the proxy sees it."""

    verb: str
    plural: str
    path: str

    @property
    def write(self) -> bool:
        """Return whether it may change something."""
        return self.verb in _VERBS.values()


@dataclass(slots=True)
class _Plan:
    verb: str
    plural: str
    fault: Fault
    times: int


class Proxy:
    """Speaks plain HTTP to its clients and passes everything on with the credentials that it was given."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._plans: list[_Plan] = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._opening: set[asyncio.Task[aiohttp.ClientResponse]] = set()
        self.seen: list[Request] = []
        self.url = ""

    def fail_next(self, verb: str, plural: str, fault: Fault, *, times: int = 1) -> None:
        """Let the next requests of a verb (as the port names it) on a kind fail."""
        self._plans.append(_Plan(verb, plural, fault, times))

    def hold_watch(self) -> None:
        """Pass no news of watches on from now."""
        self._flowing.clear()

    def release_watch(self) -> None:
        """End `hold_watch`."""
        self._flowing.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """Serve on a free port of loopback."""
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        connector = aiohttp.TCPConnector(
            ssl=self._access.tls() if self._access.tls else True, limit=0
        )
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False
        ) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                self.release_watch()
                await runner.cleanup()
                if self._opening:
                    await asyncio.wait(self._opening)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = _parse(request)
        self.seen.append(seen)
        fault = self._take(seen)
        if fault is Fault.REFUSE:
            return web.json_response(
                REFUSAL, status=429, headers={"Retry-After": str(RETRY_AFTER_S)}
            )
        if fault is Fault.CUT_BEFORE:
            return _cut(request)
        headers = {k: v for k, v in request.headers.items() if k not in _DROPPED}
        url = URL(self._access.server + request.raw_path, encoded=True)
        try:
            async with await self._open_request(
                request.method, url, await request.read(), headers
            ) as answer:
                if seen.verb == "watch":
                    return await self._stream(request, answer)
                body = await answer.read()
        except aiohttp.ClientError:
            return _cut(request)
        if fault is Fault.CUT_AFTER:
            return _cut(request)
        return web.Response(body=body, status=answer.status, headers=_kept(answer))

    async def _open_request(
        self, method: str, url: URL, body: bytes, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        """
        Pass a request on and wait for the head of its answer.

        A client that leaves meanwhile must not break into the TLS handshake: asyncio would leave
        the socket open.
        """

        async def send() -> aiohttp.ClientResponse:
            return await self._session.request(method, url, data=body, headers=headers)

        task = asyncio.create_task(send())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_close)
            raise

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=_kept(answer))
        await response.prepare(request)
        try:
            async for chunk in answer.content.iter_any():
                await self._flowing.wait()
                await response.write(chunk)
        finally:
            abort(answer)
        return response

    def _take(self, seen: Request) -> Fault | None:
        for plan in self._plans:
            if (plan.verb, plan.plural) == (seen.verb, seen.plural):
                plan.times -= 1
                if plan.times == 0:
                    self._plans.remove(plan)
                return plan.fault
        return None


def _parse(request: web.Request) -> Request:
    """Read verb and kind from a request; paths are `/api/v1/…` or `/apis/GROUP/VERSION/…`."""
    parts = request.path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    plural = parts[0] if parts else ""
    verb = _VERBS.get(request.method, "get" if len(parts) > 1 else "list")
    return Request("watch" if request.query.get("watch") else verb, plural, request.path)


def _close(task: asyncio.Task[aiohttp.ClientResponse]) -> None:
    """End an exchange that nobody waits for any more."""
    if not task.cancelled() and task.exception() is None:
        abort(task.result())
        task.result().close()


def _cut(request: web.Request) -> web.Response:
    """End the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _kept(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    return {k: v for k, v in answer.headers.items() if k not in _DROPPED}
