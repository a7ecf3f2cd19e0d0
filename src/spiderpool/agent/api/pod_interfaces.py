"""
`GET /v1/interfaces` on the health port.

What the pods of this node have, as the kernel says (decision 0012).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from spiderpool.agent.api.server import Routes, json_response
from spiderpool.api.agent.interfaces import InUseNamespace, NodeInterfaces
from spiderpool.api.kubernetes.core import Pod
from spiderpool.kernel.pod_namespaces import read_pod_namespaces
from spiderpool.model.pod import runtime_uids

PATH = "/v1/interfaces"

Look = Callable[[dict[str, str]], Awaitable[tuple[InUseNamespace, ...]]]
"""Looks into the namespaces of pods, as `kernel.pod_namespaces.read_pod_namespaces` does."""


def interface_routes(
    node: str, pods: Callable[[], Iterable[Pod]], look: Look = read_pod_namespaces
) -> Routes:
    """
    Make the route.

    Args:
        node: name of this agent's node.
        pods: gives the pods of this node as they are now.
        look: into the kernel.
    """
    return {PATH: {"GET": _Interfaces(node, pods, look).handle}}


class _Interfaces:
    """Looks once for all who ask at the same time: anybody who reaches the port may ask."""

    def __init__(self, node: str, pods: Callable[[], Iterable[Pod]], look: Look) -> None:
        self._node = node
        self._pods = pods
        self._look_into = look
        self._flight: asyncio.Task[NodeInterfaces] | None = None

    async def handle(self, _: web.BaseRequest) -> web.Response:
        """Answer."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._look())
            self._flight.add_done_callback(self._landed)
        return json_response(200, await asyncio.shield(self._flight))

    def _landed(self, _: asyncio.Task[NodeInterfaces]) -> None:
        self._flight = None

    async def _look(self) -> NodeInterfaces:
        return NodeInterfaces(
            node=self._node, namespaces=await self._look_into(runtime_uids(self._pods()))
        )
