"""
One request and its answer on the wire.

Connections, credentials, time-outs, and what their failures mean.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import aiohttp
from yarl import URL

from spiderpool import errors
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.kube.api_status import read_refusal

# A watch of objects that change carries a bookmark about every minute. Where nothing changes it may
# be silent, as one is whose other end is gone.
SILENCE_S = 150.0
KEEPALIVE_S = 30.0  # well below the 90 s after which the API server closes an idle connection
WATCHES = 64  # at a time: an agent has nine, and one for each full pool, at most 32
JSON = "application/json"

_READS = frozenset({"GET"})
_REPEATED_BY_AIOHTTP = frozenset({"PUT", "DELETE"})

Observe = Callable[[str, str, int, float], None]
"""Called after every request with verb, resource, HTTP code (0 = no answer) and seconds."""


class Credentials(Protocol):
    """Who we are, for the `Authorization` header."""

    async def authorization(self) -> str:
        """Return the header's value."""
        ...

    def refused(self) -> None:
        """Take note of a 401: the next call asks again."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """
    Where the API server is and how to show who we are.

    A certificate of ours in `tls`, or credentials, or neither. `tls` is called for each request:
    the authorities that we trust may change while we run.
    """

    server: str
    tls: Callable[[], ssl.SSLContext] | None = None
    credentials: Credentials | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers of every request, such as those of impersonation."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its verb and name for people and metrics, its method and URL for HTTP."""

    verb: str
    method: str
    kind: type[KubeObject]
    url: str
    accept: str = JSON
    content_type: str = JSON
    name: str = ""

    @property
    def subject(self) -> str:
        """What is asked for, in words."""
        return " ".join(filter(None, (self.verb, self.kind.resource.plural, self.name)))

    @property
    def write(self) -> bool:
        """Return whether it may change something."""
        return self.method not in _READS


class _CutOff(aiohttp.ClientError):
    """A connection that ended under a write."""


class Transport:
    """
    Sends calls over a pool of kept connections; `limit` bounds them.

    Watches have another one: they last, and a call must not wait for one of them to end.
    """

    def __init__(
        self,
        access: Access,
        *,
        user_agent: str,
        limit: int,
        timeout_s: float,
        observe: Observe | None,
    ) -> None:
        """
        Keep the arguments; the first call opens the first connection.

        Args:
            access: the server, whom to trust, and credentials.
            user_agent: what the API server's log calls us.
            limit: connections for calls at a time.
            timeout_s: for a whole call; nine tenths of it at most for the wait for a connection.
            observe: is told of each call and its outcome.
        """
        self._access = access
        self._user_agent = user_agent
        self._limit = limit
        connect_s = min(5.0, timeout_s / 2)
        # `connect` includes the wait for a free connection: what it ends was never sent, what
        # `total` ends may have been.
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_s, connect=timeout_s * 0.9, sock_connect=connect_s
        )
        # As above; a watch that finds no connection free is told so, and tried again later.
        self._stream_timeout = aiohttp.ClientTimeout(
            connect=timeout_s, sock_connect=connect_s, sock_read=SILENCE_S
        )
        self._observe = observe
        self._session: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections; streams end."""
        for session in (self._session, self._streams):
            if session is not None:
                await session.close()

    async def send(self, call: Call, body: bytes | None = None) -> bytes:
        """Send one request and read its answer whole; raises what the port names."""
        async with self._answer(call, self._timeout, body) as answer:
            data = await answer.read()
            self._check(call, answer, data)
            return data

    async def stream(self, call: Call) -> AsyncGenerator[bytes, None]:
        """Yield the lines of an answer, until the server ends it or is silent for `SILENCE_S`."""
        async with self._answer(call, self._stream_timeout, session=self._open_streams()) as answer:
            if answer.status >= HTTPStatus.BAD_REQUEST:
                self._check(call, answer, await answer.read())
            try:
                pieces: list[bytes] = []  # of a line; those of a long one are joined once
                async for chunk in answer.content.iter_any():
                    piece, *others = chunk.split(b"\n")
                    pieces.append(piece)
                    for other in others:
                        yield b"".join(pieces)
                        pieces = [other]
            except aiohttp.SocketTimeoutError:
                # nothing was to be told, or nobody is there any more: the next call shows which
                return
            finally:
                abort(answer)

    @asynccontextmanager
    async def open_socket(
        self, call: Call, protocols: Sequence[str], largest: int
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """
        Open a WebSocket.

        Args:
            call: what is asked for.
            protocols: sub-protocols that we speak, the best first.
            largest: bytes of the longest message that is taken.
        """
        headers = await self._headers(call, None)
        del headers["Accept"]
        try:
            async with self._open_session().ws_connect(
                URL(call.url, encoded=True),
                protocols=protocols,
                headers=headers,
                max_msg_size=largest,
                ssl=self._tls(),
                autoping=True,
            ) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            raise read_refusal(
                call.subject,
                error.status,
                error.message.encode(),
                error.headers or {},
                write=call.write,
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _translate(call, self._access.server, error) from error

    @asynccontextmanager
    async def _answer(
        self,
        call: Call,
        limits: aiohttp.ClientTimeout,
        body: bytes | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = await self._headers(call, body)
        started, code = time.monotonic(), 0
        try:
            async with (session or self._open_session()).request(
                call.method,
                URL(call.url, encoded=True),
                data=body,
                headers=headers,
                timeout=limits,
                ssl=self._tls(),
                allow_redirects=False,
                middlewares=_ONCE if call.method in _REPEATED_BY_AIOHTTP else None,
            ) as answer:
                code = answer.status
                yield answer
        except (aiohttp.ClientError, OSError) as error:  # the time-outs of asyncio are OSErrors
            raise _translate(call, self._access.server, error) from error
        finally:
            if self._observe is not None:
                self._observe(
                    call.verb, call.kind.resource.plural, code, time.monotonic() - started
                )

    async def _headers(self, call: Call, body: bytes | None) -> dict[str, str]:
        headers = {
            "Accept": call.accept,
            "User-Agent": self._user_agent,
            **self._access.headers,
        }
        if body is not None:
            headers["Content-Type"] = call.content_type
        if self._access.credentials is not None:
            said = await self._access.credentials.authorization()
            if said:
                headers["Authorization"] = said
        return headers

    def _check(self, call: Call, answer: aiohttp.ClientResponse, data: bytes) -> None:
        if answer.status < HTTPStatus.BAD_REQUEST:
            return
        if answer.status == HTTPStatus.UNAUTHORIZED and self._access.credentials is not None:
            self._access.credentials.refused()
        raise read_refusal(call.subject, answer.status, data, answer.headers, write=call.write)

    def _tls(self) -> ssl.SSLContext | bool:
        """Return which to trust now; kept connections are told apart by it."""
        return True if self._access.tls is None else self._access.tls()

    def _open_session(self) -> aiohttp.ClientSession:
        """Return the connections of calls."""
        if self._session is None:
            self._session = _new_session(self._limit)
        return self._session

    def _open_streams(self) -> aiohttp.ClientSession:
        """Return the connections of watches."""
        if self._streams is None:
            self._streams = _new_session(WATCHES)
        return self._streams


def _new_session(limit: int) -> aiohttp.ClientSession:
    """
    Make a pool of connections.

    Not before it is needed, because it belongs to the running loop.
    """
    asyncio.get_running_loop().set_exception_handler(overlook_aborted)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit, keepalive_timeout=KEEPALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        # No compression: in a cluster bandwidth is cheaper than the API server's CPU.
        skip_auto_headers=("Accept-Encoding",),
    )


def abort(answer: aiohttp.ClientResponse) -> None:
    """
    End a connection in the middle of its answer.

    The farewell of TLS would take up to 30 s and outlive the loop.
    """
    connection = answer.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def overlook_aborted(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """
    Keep uvloop quiet about what it could not write any more on a connection that `abort` ended.

    All else is told as ever.
    """
    error = context.get("exception")
    if isinstance(error, RuntimeError) and "the handler is closed" in str(error):
        return
    loop.default_exception_handler(context)


async def _once(
    request: aiohttp.ClientRequest,
    handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
) -> aiohttp.ClientResponse:
    """
    Keep aiohttp from sending a PUT or DELETE a second time.

    aiohttp repeats requests that it takes for idempotent when a kept connection turns out to be
    closed. A conditional write that arrived the first time then seems to have lost a race.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _CutOff(str(error)) from error


_ONCE: Sequence[aiohttp.ClientMiddlewareType] = (_once,)


def _translate(call: Call, server: str, error: Exception) -> errors.SpiderpoolError:
    """Return the error to raise: a request never sent differs from one without an answer."""
    message = f"{call.subject}: {server}: {str(error) or 'no answer in time'}"
    never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return (
        errors.UnknownOutcome(message)
        if call.write and not never_sent
        else errors.Unreachable(message)
    )
