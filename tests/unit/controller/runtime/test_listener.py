"""Ports and certificates."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from spiderlab.pki import Issued, issue, make_authority
from spiderpool.controller.health import webhook_probe
from spiderpool.controller.runtime.listener import (
    Certificate,
    Listener,
    follow_certificate,
    server_context,
)
from spiderpool.controller.webhooks.pool_review import ReservedReviewer
from spiderpool.controller.webhooks.server import admission_app
from spiderpool.errors import InvalidRequest
from tests.unit.controller.conftest import FEATURES


@pytest.fixture(scope="module")
def authorities() -> tuple[Issued, Issued]:
    """Return an old and a new authority."""
    return make_authority("old"), make_authority("new")


def write(folder: Path, authority: Issued) -> Certificate:
    """Write a certificate of an authority, and its key."""
    issued = issue(authority, "webhook", serves=("localhost",))
    certificate = Certificate(folder / "tls.crt", folder / "tls.key")
    certificate.cert.write_bytes(issued.pem)
    certificate.key.write_bytes(issued.key_pem)
    return certificate


async def trusts(authority: Issued, port: int) -> bool:
    """Return whether a client of an authority takes what the port shows."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(
                f"https://localhost:{port}/webhook-health-check", ssl=context
            ) as answer:
                return answer.status == 200
        except aiohttp.ClientConnectorCertificateError:
            return False


async def test_certificate_is_loaded_again_when_its_files_change(
    tmp_path: Path, authorities: tuple[Issued, Issued]
) -> None:
    """
    New connections get the new certificate without a restart.

    Files that do not fit each other leave the old one.
    """
    old, new = authorities
    certificate = write(tmp_path, old)
    tls = server_context(certificate)
    follower = asyncio.create_task(follow_certificate(certificate, tls, every_s=0.01))
    async with Listener(admission_app([ReservedReviewer(FEATURES)]), 0, tls) as listener:
        assert await trusts(old, listener.port)
        assert await webhook_probe(lambda: listener.port)() is None
        # its key is still to come
        certificate.cert.write_bytes(issue(new, "webhook", serves=("localhost",)).pem)
        await asyncio.sleep(0.05)
        assert await trusts(old, listener.port)

        write(tmp_path, new)
        async with asyncio.timeout(1):
            while not await trusts(new, listener.port):
                await asyncio.sleep(0.01)
        assert not await trusts(old, listener.port)
    follower.cancel()
    with suppress(asyncio.CancelledError):
        await follower


async def test_taken_port_is_named() -> None:
    """A port that somebody has is an error with its number."""
    async with Listener(web.Application(), 0) as first:
        with pytest.raises(
            InvalidRequest, match=f"cannot listen on port {first.port}: Address already in use"
        ):
            await Listener(web.Application(), first.port).__aenter__()


async def test_missing_certificate_is_named(tmp_path: Path) -> None:
    """A certificate that cannot be read is an error with both paths."""
    certificate = Certificate(tmp_path / "a.crt", tmp_path / "a.key")
    with pytest.raises(
        InvalidRequest,
        match=r"cannot use TLS certificate .*/a.crt with key .*/a.key: .*No such file",
    ):
        server_context(certificate)


async def test_callers_are_told_of_the_end() -> None:
    """A port that is about to close still answers, and asks for the kept connection not to be used again."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    listener = Listener(app, 0, farewell_s=0.5)
    await listener.__aenter__()
    async with aiohttp.ClientSession() as caller:
        before = await caller.get(f"http://127.0.0.1:{listener.port}/")
        ending = asyncio.create_task(listener.__aexit__())
        await asyncio.sleep(0.1)
        after = await caller.get(f"http://127.0.0.1:{listener.port}/")
        await ending
        with pytest.raises(aiohttp.ClientConnectorError):
            await caller.get(f"http://127.0.0.1:{listener.port}/")

    assert (200, "keep-alive") == (before.status, before.headers.get("Connection", "keep-alive"))
    assert (200, "close") == (after.status, after.headers["Connection"])
