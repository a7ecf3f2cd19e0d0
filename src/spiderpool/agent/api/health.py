"""
Port 5710: startup, readiness and liveness for kubelet.

Source: docs/reference/agent-api.md#health-port.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from spiderpool.agent.api.server import Handle, Routes, json_response, not_here

PROBE_TIMEOUT_S: Final = 3.0
HEALTHY_PATH: Final = "/v1/ipam/healthy"

# Operations of the socket: the original's schema names them here too and answers 501.
ELSEWHERE: Final = (
    ("GET", HEALTHY_PATH),
    ("POST", "/v1/ipam/ip"),
    ("DELETE", "/v1/ipam/ip"),
    ("POST", "/v1/ipam/ips"),
    ("DELETE", "/v1/ipam/ips"),
    ("GET", "/v1/workloadendpoint"),
    ("GET", "/v1/coordinator/config"),
)


def health_routes(
    is_started: Callable[[], bool], socket: Path, trouble: Callable[[], str] = lambda: ""
) -> Routes:
    """
    Join the probes' paths with their answers.

    Readiness and liveness ask the socket, as a CNI call would.

    Args:
        is_started: whether the agent serves.
        socket: the path of the unix socket.
        trouble: why the agent cannot go on although its socket answers; empty when it can.
    """

    async def startup(_: web.BaseRequest) -> web.Response:
        return (
            web.Response() if is_started() else json_response(500, "spiderpool-agent is starting")
        )

    return {
        "/v1/runtime/startup": {"GET": startup},
        "/v1/runtime/readiness": {"GET": _ask(socket)},
        "/v1/runtime/liveness": {"GET": _ask(socket, trouble)},
        **not_here(ELSEWHERE),
    }


def _ask(socket: Path, trouble: Callable[[], str] = lambda: "") -> Handle:
    """Make a handler that passes on what the socket says, unless there is trouble."""

    async def handle(_: web.BaseRequest) -> web.Response:
        if reason := trouble():
            return json_response(500, reason)
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(str(socket)), timeout=timeout
                ) as session,
                session.get(f"http://agent{HEALTHY_PATH}") as answer,
            ):
                return web.Response(
                    status=answer.status, body=await answer.read(), content_type="application/json"
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return json_response(
                500, f"socket {socket} does not answer: {error or type(error).__name__}"
            )

    return handle
