"""The health port."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from spiderpool.controller.health import Probe, Probes, all_of, health_app, webhook_probe

Client = TestClient[web.Request, web.Application]


def saying(complaint: str | None) -> Probe:
    """Make a probe with a fixed answer."""

    async def probe() -> str | None:
        return complaint

    return probe


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """Return a replica that has started, lives, and is not ready."""
    probes = Probes(
        startup=saying(None), readiness=saying("no leader is known yet"), liveness=saying(None)
    )
    async with TestClient(TestServer(health_app(probes))) as found:
        yield found


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/v1/runtime/startup", 200, ""),
        ("GET", "/v1/runtime/liveness", 200, ""),
        ("GET", "/v1/runtime/readiness", 500, '"no leader is known yet"'),
        ("PUT", "/v1/ipam/ip", 501, '"operation PUT /v1/ipam/ip has not yet been implemented"'),
        (
            "POST",
            "/v1/ipam/gc_ips",
            501,
            '"operation POST /v1/ipam/gc_ips has not yet been implemented"',
        ),
        (
            "GET",
            "/v1/ipam/status",
            501,
            '"operation GET /v1/ipam/status has not yet been implemented"',
        ),
        ("GET", "/v1/nothing", 404, '{"code":404,"message":"path /v1/nothing was not found"}'),
        (
            "GET",
            "/v1/ipam/ip",
            405,
            '{"code":405,"message":"method GET is not allowed, but [PUT] are"}',
        ),
    ],
)
async def test_answers(client: Client, method: str, path: str, status: int, body: str) -> None:
    """
    Each path answers as documented.

    Source: docs/reference/agent-api.md#the-controllers-ports.
    """
    async with client.request(method, path) as answer:
        assert (status, body) == (answer.status, await answer.text())


async def test_first_complaint_is_told() -> None:
    """Several probes are content together, or one complaint is passed on."""
    assert await all_of(saying(None), saying(None))() is None
    assert "b" == await all_of(saying(None), saying("b"), saying("c"))()
    assert await all_of()() is None


async def test_webhook_that_does_not_answer() -> None:
    """A webhook port that nobody listens on is a complaint that names it."""
    complaint = await webhook_probe(lambda: 1)()

    assert complaint is not None
    assert complaint.startswith("webhook server on port 1 does not answer: ")
