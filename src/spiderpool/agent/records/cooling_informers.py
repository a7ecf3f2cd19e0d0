"""
Which addresses of a full pool cool down on other nodes.

A watch on the pool's Cooling records, as long as ADDs find the pool full.

In the common case, a pool with free addresses, there is no such watch and nothing is read. It shows
a release on any node the moment it happens, so that an ADD that waits need not ask again and again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from spiderpool.agent.records.occupancy import Occupancy
from spiderpool.api.crd.group import LABEL_STATE
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.kube.cluster import Change, Cluster
from spiderpool.kube.informer import Informer
from spiderpool.kube.readers.pool_records import pool_selector

IDLE_S: Final = 30.0  # after the last ADD that found the pool full
MOST: Final = 32  # watches at a time; an ADD in one more full pool asks every two seconds
RETRY_S: Final = 2.0  # for the first list; it is a hint, and the ADD asks again


@dataclass(slots=True)
class _Watch:
    """The watch of one pool, and when it ends unless somebody asks again."""

    informer: Informer[SpiderIP]
    end: asyncio.TimerHandle


class CoolingWatches:
    """Follows the Cooling records of pools that are full, and tells `Occupancy` of them."""

    def __init__(
        self, cluster: Cluster, occupancy: Occupancy, *, node: str, idle_s: float = IDLE_S
    ) -> None:
        """
        Begin with no watch.

        Args:
            cluster: for the watches.
            occupancy: told of what rests.
            node: name of this agent's node, whose own records `occupancy` knows anyway.
            idle_s: how long a watch outlives the last ADD that needed it.
        """
        self._cluster = cluster
        self._occupancy = occupancy
        self._node = node
        self._idle_s = idle_s
        self._watches: dict[str, _Watch] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def follow(self, pool: str) -> None:
        """
        Have a pool's watch for some time from now.

        What rests at this moment is known when this returns.
        """
        loop = asyncio.get_running_loop()
        watch = self._watches.get(pool)
        if watch is None and len(self._watches) >= MOST:
            return
        end = loop.call_later(self._idle_s, self._end, pool)
        if watch is None:
            labels = f"{pool_selector(pool)},{LABEL_STATE}={IPState.COOLING}"
            watch = self._watches[pool] = _Watch(
                Informer(self._cluster, SpiderIP, labels=labels), end
            )
            watch.informer.subscribe(self._note)
            await watch.informer.start()
        else:
            watch.end.cancel()
            watch.end = end
        if not watch.informer.is_synced:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await watch.informer.synced()

    async def stop(self) -> None:
        """End all watches."""
        for pool in tuple(self._watches):
            self._watches[pool].end.cancel()
            self._end(pool)
        await asyncio.gather(*self._ending)

    def _note(self, _change: Change, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if new is not None and new.spec.state is IPState.COOLING:
            self._occupancy.rests(new)
        elif old is not None:
            self._occupancy.rests_no_more(old)

    def _end(self, pool: str) -> None:
        """End a watch; what it told is forgotten, since nobody keeps it up to date any more."""
        watch = self._watches.pop(pool)
        for record in watch.informer:
            if record.spec.holder.node != self._node:
                self._occupancy.rests_no_more(record)
        task = asyncio.create_task(watch.informer.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
