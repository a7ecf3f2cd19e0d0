"""
Opening a port for an aiohttp application, with or without TLS.

Certificates are read again when their files change.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog
from aiohttp import web

from spiderpool.errors import InvalidRequest

# cert-manager and `helm upgrade` replace the files while we run; kubelet needs up to a minute to
# show them to us anyway.
CERTIFICATE_LOOK_S: Final = 10.0

log = structlog.get_logger("spiderpool.controller")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where the certificate chain and its key lie."""

    cert: Path
    key: Path

    def stamp(self) -> tuple[int, int, int, int]:
        """
        Return the state of the files.

        A changed stamp means other files (Kubernetes swaps a symbolic link).
        """
        cert, key = self.cert.stat(), self.key.stat()
        return (cert.st_mtime_ns, cert.st_ino, key.st_mtime_ns, key.st_ino)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make new connections use what the files hold now."""
        try:
            context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise InvalidRequest(
                f"cannot use TLS certificate {self.cert} with key {self.key}: {error}"
            ) from error


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Make a TLS context for a server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.load_into(context)
    return context


def ask_clients(context: ssl.SSLContext, authorities: Path) -> None:
    """
    Have clients show certificates of these authorities.

    One without a certificate gets through the handshake, so that health can be asked for.
    """
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(
            f"cannot use the client CA {authorities} of the webhooks: {error}"
        ) from error
    context.verify_mode = ssl.CERT_OPTIONAL


async def follow_certificate(
    certificate: Certificate, context: ssl.SSLContext, every_s: float = CERTIFICATE_LOOK_S
) -> None:
    """
    Load the certificate again whenever its files change.

    Half-written files leave the old one in use.
    """
    seen: object = None
    while True:
        try:
            stamp = certificate.stamp()
            if stamp != seen:
                # A certificate that does not fit its key would leave the context without a key: try
                # on another one.
                server_context(certificate)
                certificate.load_into(context)
                seen = stamp
        except (OSError, InvalidRequest) as error:
            log.warning(
                "TLS certificate cannot be read, the one in memory stays", reason=str(error)
            )
        await asyncio.sleep(every_s)


@dataclass(slots=True)
class Listener:
    """
    An application behind a port.

    `farewell_s`: how long it serves on at its end, asking each caller not to use its connection
    again (RFC 9112, 9.6): a request that meets the closing of its connection is lost.
    """

    app: web.Application
    port: int
    tls: ssl.SSLContext | None = None
    farewell_s: float = 0.0
    _ending: bool = False
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Open the port on all addresses, IPv4 and IPv6; `port` then holds the real one."""
        opened = open_port(self.port)
        self.app.on_response_prepare.append(self._take_leave)
        self._runner = web.AppRunner(self.app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.SockSite(self._runner, opened, ssl_context=self.tls).start()
        self.port = opened.getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take leave of who is connected, then close the port."""
        self._ending = True
        await asyncio.sleep(self.farewell_s)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take_leave(self, _: web.Request, response: web.StreamResponse) -> None:
        if self._ending:
            response.headers["Connection"] = "close"
            response.force_close()


def open_port(port: int) -> socket.socket:
    """
    Open a port for IPv4 and, where the machine has it, IPv6.

    0 = a free one, the same for both.
    """
    dual = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InvalidRequest(f"cannot listen on port {port}: {reason}") from error
