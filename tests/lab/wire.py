"""
A proxy in front of the API server that kills the agent behind it at the k-th write, at a chosen moment.

Writes pass one at a time, so that "k - 1 writes are committed, the k-th is or is not" is a fact and
no matter of luck.
"""

from __future__ import annotations

import asyncio
import enum
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from tests.lab.kube import _text

T = TypeVar("T")

# Events are news, not state: they are no writes of an ADD
COUNTED: Final = frozenset({"spiderips", "spiderendpoints"})
HOP_BY_HOP: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive"}
)


class Moment(enum.StrEnum):
    """When the agent dies, seen from its k-th write."""

    BEFORE = "before"  # the write never arrives
    AFTER = "after"  # the write is committed, its answer is lost
    LATE = "late"  # the write is on its way, and is committed when the next agent serves
    LAST = "last"  # the same, and it is committed after the call was repeated


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is forwarded."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def write(self) -> str | None:
        """Name a write that counts: method and resource; None for everything else."""
        parts = self.path.partition("?")[0].split("/")
        resource = next((part for part in parts if part in COUNTED), None)
        return f"{self.method} {resource}" if resource and self.method != "GET" else None


class Wire:
    """The way of one agent to the API server, on a port of this machine."""

    def __init__(self, kubeconfig: Path) -> None:
        """Read where the API server is."""
        cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        self._upstream: str = cluster["server"]
        self._tls = ssl.create_default_context(cadata=_text(cluster, "certificate-authority"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._turn = asyncio.Lock()
        self._dead = False  # the agent: what it still had in its sockets is not forwarded any more
        self._kill: Callable[[], None] | None = None
        self._at, self._moment = 0, Moment.BEFORE
        self._held: Request | None = None
        self.writes: list[str] = []
        self.url = ""

    def __enter__(self) -> Self:
        """Open the port."""
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def arm(self, at: int, moment: Moment, kill: Callable[[], None]) -> None:
        """Forget the writes so far, and kill at write number `at`, counted from 1."""
        self._run(self._arm(at, moment, kill))

    def listen(self) -> None:
        """Forget the writes so far, and kill nobody."""
        self._run(self._arm(0, Moment.BEFORE, None))

    def deliver(self) -> None:
        """Forward the write that was on its way when the agent died."""
        assert self._held is not None
        self._run(self._forward_held(self._held))
        self._held = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _arm(self, at: int, moment: Moment, kill: Callable[[], None] | None) -> None:
        self._at, self._moment, self._kill = at, moment, kill
        self._dead = False
        self.writes.clear()

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent", "Accept", "Content-Type"),
        )
        # A watch ends with the agent that asked for it; writes are shielded.
        self._server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(0.1)  # aiohttp closes TLS connections a little later

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP
        }
        asked = Request(request.method, request.raw_path, headers, await request.read())
        if asked.write is None:
            return await self._stream(request, asked)
        answer = await asyncio.shield(self._serve_write(asked))
        if answer is None:
            raise ConnectionResetError("the agent is dead")
        return answer

    async def _serve_write(self, asked: Request) -> web.Response | None:
        """Forward one write in its lock; None when the agent died."""
        async with self._turn:
            if self._dead:
                return None
            self.writes.append(asked.write or "")
            if self._kill is None or len(self.writes) != self._at:
                return await self._forward(asked)
            if self._moment is Moment.AFTER:
                await self._forward(asked)
            elif self._moment is not Moment.BEFORE:
                self._held = asked
            self._kill()
            self._dead, self._kill = True, None
            self._hang_up()
            return None

    def _hang_up(self) -> None:
        """Forget all that the dead agent has asked and not been told."""
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _forward_held(self, asked: Request) -> None:
        async with self._turn:
            await self._forward(asked)

    async def _forward(self, asked: Request) -> web.Response:
        async with self._send(asked) as answer:
            return web.Response(
                status=answer.status, headers=_passed_on(answer), body=await answer.read()
            )

    async def _stream(self, request: web.BaseRequest, asked: Request) -> web.StreamResponse:
        async with self._send(asked) as answer:
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer))
            await response.prepare(request)
            with suppress(ConnectionError):  # the agent died, or has heard enough
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            return response

    def _send(self, asked: Request) -> aiohttp.client._RequestContextManager:
        url = URL(urllib.parse.urljoin(self._upstream, asked.path), encoded=True)
        return self._session.request(
            asked.method, url, headers=asked.headers, data=asked.body or None, allow_redirects=False
        )


def _passed_on(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
