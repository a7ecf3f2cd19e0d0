"""
Startup, readiness and liveness on port 5720.

The other operations that the original's schema names are answered with 501.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec
from aiohttp import web

# Returns why not, or None when all is well.
Probe = Callable[[], Awaitable[str | None]]

NOT_IMPLEMENTED: Final = (
    ("PUT", "/v1/ipam/ip"),
    ("POST", "/v1/ipam/gc_ips"),
    ("GET", "/v1/ipam/status"),
)
WEBHOOK_PROBE_TIMEOUT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Probes:
    """What the three probes of kubelet ask."""

    startup: Probe
    readiness: Probe
    liveness: Probe


def health_app(probes: Probes) -> web.Application:
    """Build the application of the health port."""
    app = web.Application(middlewares=[_framework_answers])
    app.router.add_get("/v1/runtime/startup", _probe_handler(probes.startup))
    app.router.add_get("/v1/runtime/readiness", _probe_handler(probes.readiness))
    app.router.add_get("/v1/runtime/liveness", _probe_handler(probes.liveness))
    for method, path in NOT_IMPLEMENTED:
        app.router.add_route(method, path, _not_implemented)
    return app


def webhook_probe(port: Callable[[], int]) -> Probe:
    """
    Make a probe that asks our own webhook port, as the API server would.

    Who signed the certificate does not matter here.
    """

    async def probe() -> str | None:
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_PROBE_TIMEOUT_S)
        url = f"https://localhost:{port()}/webhook-health-check"
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(url, ssl=False) as answer,
            ):
                return (
                    None
                    if answer.status == web.HTTPOk.status_code
                    else f"webhook server answers {answer.status}"
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            return (
                f"webhook server on port {port()} does not answer: {error or type(error).__name__}"
            )

    return probe


def all_of(*probes: Probe) -> Probe:
    """Make a probe that is content when all of these are; the first complaint is told."""

    async def probe() -> str | None:
        for each in probes:
            if (complaint := await each()) is not None:
                return complaint
        return None

    return probe


def _probe_handler(probe: Probe) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Answer 200 or 500 with the reason as a JSON string."""

    async def handle(_: web.Request) -> web.Response:
        complaint = await probe()
        return web.Response() if complaint is None else _json(500, complaint)

    return handle


async def _not_implemented(request: web.Request) -> web.Response:
    """Answer 501 with a JSON string, as the original does."""
    return _json(501, f"operation {request.method} {request.path} has not yet been implemented")


@web.middleware
async def _framework_answers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer unknown paths and methods with the object that the original's framework sends."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _json(404, {"code": 404, "message": f"path {request.path} was not found"})
    except web.HTTPMethodNotAllowed as error:
        allowed = ",".join(sorted(error.allowed_methods - {"HEAD"}))
        return _json(
            405,
            {
                "code": 405,
                "message": f"method {request.method} is not allowed, but [{allowed}] are",
            },
        )


def _json(status: int, body: object) -> web.Response:
    """Render a JSON answer."""
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/json"
    )
