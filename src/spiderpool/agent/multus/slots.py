"""
How many plugins run at a time.

They run in the agent's control group: after a reboot a node starts all of its pods at once, and
some hundred programs together would take the memory that the agent needs itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

AT_A_TIME: Final = 8
# An ADD may wait long for an address, and a DEL may be what frees one.
ADDS_AT_A_TIME: Final = 6


class Slots:
    """Hands out slots to plugins; who waits gets one in the order of asking."""

    def __init__(self, at_a_time: int = AT_A_TIME, adds: int = ADDS_AT_A_TIME) -> None:
        """
        Begin with all slots free.

        Args:
            at_a_time: of all plugins.
            adds: of plugins that run ADD.
        """
        self._all = asyncio.Semaphore(at_a_time)
        self._adds = asyncio.Semaphore(adds)

    @asynccontextmanager
    async def of(self, command: str) -> AsyncIterator[None]:
        """Have a slot for a plugin that runs a verb, as soon as one is free."""
        async with AsyncExitStack() as stack:
            if command == "ADD":
                await stack.enter_async_context(self._adds)
            await stack.enter_async_context(self._all)
            yield
