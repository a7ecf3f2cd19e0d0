"""
The unix socket: the original's API and `POST /v1/cni` of our own executable.

The only place of the agent that catches `SpiderpoolError`; what the operations do is theirs.

Source: docs/reference/agent-api.md#socket.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import structlog
from aiohttp import web

from spiderpool.agent.node.caller import Peer, read_peer
from spiderpool.api.agent.socket_bodies import (
    CoordinatorConfigArgs,
    FrameworkError,
    IpamAddArgs,
    IpamBatchDelArgs,
    IpamDelArgs,
    ReleaseForbidden,
    WorkloadEndpoint,
    read_body,
    read_query,
)
from spiderpool.cni.request import Call, CniRequest, parse_call, requested_version
from spiderpool.cni.result import render_error
from spiderpool.errors import InvalidRequest, NotFound, SpiderpoolError, Unsupported

SOCKET_MODE: Final = 0o600  # the executable runs as root; nobody else may take addresses

# Operations of the other listener, by (method, path): the original's schema names them and answers
# 501.
ELSEWHERE: Final = (
    ("GET", "/v1/runtime/startup"),
    ("GET", "/v1/runtime/readiness"),
    ("GET", "/v1/runtime/liveness"),
)

# The original's framework serves its description of the API there; what it says is not documented.
DESCRIPTIONS: Final = frozenset({"/swagger.json", "/v1/docs"})

# What errors of the original's IPAM executable begin with: tools and their users look for it.
PREFIXES: Final = {
    ("spiderpool", "ADD"): "spiderpool IP allocation error: ",
    ("spiderpool", "DEL"): "spiderpool IP release error: ",
}

log = structlog.get_logger(__name__)


Plugin = Callable[[Call, Peer], Awaitable[str]]
"""
Serves the CNI calls of one plugin.

Returns what the executable prints, or raises `SpiderpoolError`.
"""


class Operations(Protocol):
    """What the socket offers, without HTTP."""

    async def healthy(self) -> None:
        """Raise `NotAvailable` unless addresses can be had."""
        ...

    async def add(self, args: IpamAddArgs) -> msgspec.Struct:
        """Allocate a pod's addresses."""
        ...

    async def delete(self, args: IpamDelArgs) -> None:
        """Take back what a container had."""
        ...

    async def delete_conflicting(self, args: IpamBatchDelArgs) -> None:
        """Take back all addresses of a pod, because one is in use on the wire."""
        ...

    async def workload_endpoint(self, namespace: str, name: str) -> WorkloadEndpoint:
        """Return what a pod holds. Raises `NotFound`."""
        ...


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What our executable gets: its exit code and what it prints."""

    exit_code: int
    output: str


Handle = Callable[[web.BaseRequest], Awaitable[web.Response]]
Routes = Mapping[str, Mapping[str, Handle]]


CoordinatorConfig = Callable[[CoordinatorConfigArgs], Awaitable[msgspec.Struct]]
"""Tells the cluster's coordinator settings for a pod."""


def socket_routes(
    operations: Operations, plugins: Mapping[str, Plugin], config: CoordinatorConfig
) -> Routes:
    """Join paths and methods with operations."""

    async def healthy(_: web.BaseRequest) -> web.Response:
        await operations.healthy()
        return web.Response()

    async def add(request: web.BaseRequest) -> web.Response:
        args = read_body(IpamAddArgs, request.content_type, await request.read())
        return json_response(200, await operations.add(args))

    async def delete(request: web.BaseRequest) -> web.Response:
        await operations.delete(read_body(IpamDelArgs, request.content_type, await request.read()))
        return web.Response()

    async def add_many(_: web.BaseRequest) -> web.Response:
        return web.Response()  # the original's stub: success, nothing done

    async def delete_many(request: web.BaseRequest) -> web.Response:
        await operations.delete_conflicting(
            read_body(IpamBatchDelArgs, request.content_type, await request.read())
        )
        return web.Response()

    async def workload_endpoint(request: web.BaseRequest) -> web.Response:
        name, namespace = read_query(dict(request.query), "podName", "podNamespace")
        return json_response(200, await operations.workload_endpoint(namespace, name))

    async def coordinator_config(request: web.BaseRequest) -> web.Response:
        args = read_body(CoordinatorConfigArgs, request.content_type, await request.read())
        return json_response(200, await config(args))

    async def cni(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        with read_peer(connection_of(request)) as peer:
            return json_response(200, await serve_cni(plugins, body, peer))

    return {
        "/v1/cni": {"POST": cni},
        "/v1/ipam/healthy": {"GET": healthy},
        "/v1/ipam/ip": {"POST": add, "DELETE": delete},
        "/v1/ipam/ips": {"POST": add_many, "DELETE": delete_many},
        "/v1/workloadendpoint": {"GET": workload_endpoint},
        # a GET with a body, as the original has it
        "/v1/coordinator/config": {"GET": coordinator_config},
        **not_here(ELSEWHERE),
    }


async def serve_cni(plugins: Mapping[str, Plugin], body: bytes, peer: Peer) -> Answer:
    """Serve one CNI call; a failure becomes a CNI error in the version that was asked for."""
    try:
        request = msgspec.json.decode(body, type=CniRequest)
    except msgspec.DecodeError as error:
        raise FrameworkError(400, f'parsing body body from "" failed, because {error}') from None
    try:
        call = parse_call(request)
        return Answer(0, await find_plugin(plugins, call.plugin)(call, peer))
    except SpiderpoolError as error:
        failure = error
    except Exception as error:  # noqa: BLE001  the caller gets an answer, and the log the trace
        failure = _unexpected(error)
    log.info(
        "CNI call failed",
        plugin=request.plugin,
        command=request.env.get("CNI_COMMAND"),
        reason=failure.message,
    )
    prefix = PREFIXES.get((request.plugin, request.env.get("CNI_COMMAND", "")), "")
    return Answer(1, render_error(failure, requested_version(request), prefix))


def find_plugin(plugins: Mapping[str, Plugin], name: str) -> Plugin:
    """Return the plugin of that name."""
    if name not in plugins:
        raise Unsupported(
            f"CNI plugin {name} is not built in this version; remove it from the configuration"
        )
    return plugins[name]


def connection_of(request: web.BaseRequest) -> socket.socket:
    """Return the connection that a request came by."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None:
        raise FrameworkError(400, "the caller closed its connection")
    return connection  # type: ignore[no-any-return]


def not_here(operations: Iterable[tuple[str, str]]) -> Routes:
    """Make routes that answer 501, for operations (method, path) that another listener has."""

    async def refuse(request: web.BaseRequest) -> web.Response:
        return json_response(
            501, f"operation {request.method} {request.path} has not yet been implemented"
        )

    routes: dict[str, dict[str, Handle]] = {}
    for method, path in operations:
        routes.setdefault(path, {})[method] = refuse
    return routes


def dispatcher(routes: Routes) -> Handle:
    """Make the handler of a listener: routing, and errors in the original's forms."""

    async def handle(request: web.BaseRequest) -> web.Response:
        try:
            return await _route(routes, request)(request)
        except FrameworkError as error:
            return json_response(error.status, error.body)
        except ReleaseForbidden as error:
            return json_response(error.status, error.message)
        except SpiderpoolError as error:
            log.info("call failed", method=request.method, path=request.path, reason=error.message)
            status = 404 if _asks_for_missing(request, error) else 500
            return json_response(status, error.message)
        except Exception as error:  # noqa: BLE001 - as in `serve_cni`
            return json_response(500, _unexpected(error).message)

    return handle


def json_response(status: int, body: Any) -> web.Response:
    """Render a JSON answer."""
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/json"
    )


async def listen_on_socket(handle: Handle, path: Path) -> web.ServerRunner:
    """Open the socket in place of a left-over one; the result's `cleanup` closes it."""
    # Handlers end when the caller hangs up: that is how an ADD learns that nobody waits for it.
    runner = await _runner(handle)
    try:
        _make_room(path)
        await web.UnixSite(runner, str(path)).start()
        _close_to_others(path)
    except OSError as error:
        await runner.cleanup()
        raise InvalidRequest(
            f"cannot listen on socket {path}: {error.strerror or error}; check ipamUnixSocketPath "
            "in the configuration"
        ) from error
    return runner


def _make_room(path: Path) -> None:
    """Make the folder, and remove the socket of a former agent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def _close_to_others(path: Path) -> None:
    path.chmod(SOCKET_MODE)


async def listen_on_port(handle: Handle, port: int) -> web.ServerRunner:
    """Open a TCP port on all addresses, IPv4 and IPv6; the result's `cleanup` closes it."""
    runner = await _runner(handle)
    try:
        await web.TCPSite(runner, None, port, reuse_address=True).start()
    except OSError as error:
        await runner.cleanup()
        raise InvalidRequest(
            f"cannot listen on port {port}: {error.strerror or error}; choose another port"
        ) from error
    return runner


async def _runner(handle: Handle) -> web.ServerRunner:
    runner = web.ServerRunner(web.Server(handle, handler_cancellation=True, access_log=None))
    await runner.setup()
    return runner


def _route(routes: Routes, request: web.BaseRequest) -> Handle:
    if request.path in DESCRIPTIONS:
        raise FrameworkError(
            404, f"path {request.path} was not found: this agent serves no description of its API"
        )
    methods = routes.get(request.path)
    if methods is None:
        raise FrameworkError(404, f"path {request.path} was not found")
    handle = methods.get(request.method)
    if handle is None:
        raise FrameworkError(
            405, f"method {request.method} is not allowed, but [{','.join(sorted(methods))}] are"
        )
    return handle


def _asks_for_missing(request: web.BaseRequest, error: SpiderpoolError) -> bool:
    """Return whether to answer 404: only a look-up has that answer in the original's schema."""
    return request.path == "/v1/workloadendpoint" and isinstance(error, NotFound)


def _unexpected(error: Exception) -> SpiderpoolError:
    log.error("unexpected error", exc_info=error)
    return SpiderpoolError(
        f"spiderpool-agent met an unexpected error: {type(error).__name__}: {error}; its log has "
        "more"
    )
