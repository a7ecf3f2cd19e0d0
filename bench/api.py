"""
Plain JSON requests to the API server, for objects that the product itself never writes.

Nodes, pods, leases, tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import msgspec

from spiderpool.api.kubernetes.core import PartialObject
from spiderpool.kube.kubeconfig import from_kubeconfig
from spiderpool.kube.transport import JSON, Call, Transport


class Api:
    """A connection pool of its own, so that set-up never stands in the way of what is measured."""

    def __init__(self, kubeconfig: Path) -> None:
        """Take the server and the identity of a kubeconfig."""
        access = from_kubeconfig(kubeconfig)
        self._server = access.server
        self._exchange = Transport(
            access, user_agent="spiderpool-bench", limit=100, timeout_s=60, observe=None
        )

    async def __aenter__(self) -> Self:
        """Return itself; the first request connects."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._exchange.close()

    async def text(self, method: str, path: str, body: object = None) -> bytes:
        """Ask and give the answer as it came; errors are those of `spiderpool.kube`."""
        content = "application/merge-patch+json" if method == "PATCH" else JSON
        call = Call(
            method.lower(),
            method,
            PartialObject,
            self._server + path,
            content_type=content,
            name=path,
        )
        return await self._exchange.send(call, None if body is None else msgspec.json.encode(body))

    async def json(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask and decode the answer."""
        answer: dict[str, Any] = msgspec.json.decode(await self.text(method, path, body))
        return answer
