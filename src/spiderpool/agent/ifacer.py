"""The plugin `ifacer`: makes the bond and the VLAN that a network's interfaces stand on, in the node's own namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from spiderpool.agent.server import Peer
from spiderpool.cni.request import Call
from spiderpool.cni.result import Result, render
from spiderpool.errors import CheckFailed
from spiderpool.kernel.nodelinks import apply_step, read_links
from spiderpool.wiring.ifacer import NodeLink, Step, Wish, plan_steps, read_wish

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ifacer:
    """Serves the CNI calls of `ifacer`; one at a time, since two pods may want the same VLAN."""

    read: Callable[[], dict[str, NodeLink]] = read_links
    apply: Callable[[Step], None] = apply_step
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, call: Call, peer: Peer) -> str:
        """Serve one call; gives what the executable prints. What was made stays, so there is nothing to delete."""
        del peer  # the agent is in the node's network namespace
        match call.command:
            case "ADD":
                await self._add(read_wish(call.config))
                return render(Result(), call.cni_version)
            case "CHECK":
                await self._check(read_wish(call.config))
        return ""

    async def _add(self, wish: Wish) -> None:
        """Make what is missing."""
        async with self._turn:
            for step in plan_steps(wish, await asyncio.to_thread(self.read)):
                await asyncio.to_thread(self.apply, step)
                log.info("interface of the node", step=str(step))

    async def _check(self, wish: Wish) -> None:
        """Raise `CheckFailed` when something is missing."""
        if missing := plan_steps(wish, await asyncio.to_thread(self.read)):
            raise CheckFailed(f"ifacer: not as ADD left it: {missing[0]}")
