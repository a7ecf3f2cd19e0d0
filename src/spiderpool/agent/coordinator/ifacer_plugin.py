"""
The plugin `ifacer`.

Makes the bond and the VLAN that a network's interfaces stand on, in the node's own namespace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from spiderpool.agent.concurrency.shield import shielded
from spiderpool.agent.node.caller import Peer
from spiderpool.cni.request import Call
from spiderpool.cni.result import Result, render
from spiderpool.datapath.ifacer import (
    InterfaceRequest,
    Step,
    plan_steps,
    read_interface_request,
    undo_steps,
)
from spiderpool.errors import AlreadyExists, CheckFailed, SpiderpoolError
from spiderpool.kernel.node_links import apply_step
from spiderpool.kernel.read_links import read_links
from spiderpool.model.netns_contents import Link

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ifacer:
    """Serves the CNI calls of `ifacer`; one at a time, since two pods may want the same VLAN."""

    read: Callable[[], dict[str, Link]] = read_links
    apply: Callable[[Step], None] = apply_step
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, call: Call, peer: Peer) -> str:
        """
        Serve one call; gives what the executable prints.

        What was made stays, so there is nothing to delete.
        """
        del peer  # the agent is in the node's network namespace
        match call.command:
            case "ADD":
                await self._add(read_interface_request(call.config))
                return render(Result(), call.cni_version)
            case "CHECK":
                await self._check(read_interface_request(call.config))
        return ""

    async def _add(self, interface_request: InterfaceRequest) -> None:
        """Make what is missing. A caller that hangs up does not leave it half done."""
        async with self._lock:
            try:
                await shielded(asyncio.to_thread(self._make, interface_request))
            except AlreadyExists:
                # Somebody else made it after the look: it may be what is wanted.
                await shielded(asyncio.to_thread(self._make, interface_request))

    def _make(self, interface_request: InterfaceRequest) -> None:
        """
        Carry out a plan; when a step fails, take back those before it.

        The next ADD would take half a bond for a whole.
        """
        links = self.read()
        done: list[Step] = []
        for step in plan_steps(interface_request, links):
            try:
                self.apply(step)
            except SpiderpoolError:
                for back in undo_steps(done, step, links):
                    self._undo(back)
                raise
            done.append(step)
            log.info("interface of the node", step=str(step))

    def _undo(self, step: Step) -> None:
        try:
            self.apply(step)
        except SpiderpoolError as error:
            log.warning("part of a failed ADD stays", step=str(step), reason=error.message)

    async def _check(self, interface_request: InterfaceRequest) -> None:
        """Raise `CheckFailed` when something is missing."""
        if missing := plan_steps(interface_request, await asyncio.to_thread(self.read)):
            raise CheckFailed(f"ifacer: not as ADD left it: {missing[0]}")
