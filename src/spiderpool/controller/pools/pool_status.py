"""
Pool status: what other tools read, derived from SpiderIPs and written rarely.

The cost of a status write grows with the pool, and every watcher of pools pays for it: so a burst
of allocations makes few writes, at its end if possible, and per event there is no work that grows
with the pool.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from spiderpool.api.crd.group import ANNO_IMPORTED
from spiderpool.api.crd.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.controller.runtime.context import BY_POOL, Context
from spiderpool.controller.runtime.workqueue import WorkQueue
from spiderpool.kube.cluster import Change
from spiderpool.model.pool import Pool
from spiderpool.records.projections import pool_status

SMALL_POOL: Final = 200  # records
SMALL_GAP_S: Final = 1.0
LARGE_GAP_S: Final = 10.0
# a pool that rests for this part of its gap is written without waiting for the gap's end
QUIET_PART: Final = 0.05


@dataclass(frozen=True, slots=True)
class ChangeRate:
    """The changes of a pool that are not written yet: when the first and the last one came."""

    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Written:
    """
    When a pool's status was written last, and when last with many records.

    Minus infinity = never by this leader.
    """

    any: float = -math.inf
    large: float = -math.inf


def write_due_s(records: int, unrest: ChangeRate | None, written: Written) -> float:
    """
    Return when the status may be written: at rest, or after a gap of unrest.

    Never sooner than a gap after the last such write.

    Args:
        records: how many records the pool has now.
        unrest: None = no change came, something else asks for a look.
        written: by this leader.
    """
    gap, last = (
        (SMALL_GAP_S, written.any) if records <= SMALL_POOL else (LARGE_GAP_S, written.large)
    )
    earliest = max(last + gap, written.any + SMALL_GAP_S)
    return (
        earliest
        if unrest is None
        else max(earliest, min(unrest.last + gap * QUIET_PART, unrest.first + gap))
    )


class Projection:
    """Keeps the status of every imported pool equal to its records."""

    def __init__(
        self,
        context: Context,
        *,
        limit: int,
        workers: int = 1,
        resync_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Begin with every pool unwritten.

        Args:
            context: informers and door.
            limit: pools with more records get counts without the map.
            workers: pools written at the same time.
            resync_s: seconds after which a pool is compared again, None = never.
            clock: monotonic seconds.
        """
        self._context = context
        self._limit = limit
        self._resync_s = resync_s
        self._clock = clock
        self._written: dict[str, Written] = {}
        self._unrest: dict[str, ChangeRate] = {}
        self.queue = WorkQueue("pool status", self._reconcile, workers=workers, clock=clock)

    def start(self) -> None:
        """Follow the informers and look at every pool once."""
        self._context.follow(self._context.records, self._on_record)
        self._context.follow(self._context.pools, self._on_pool)
        for pool in self._context.pools:
            self.touch(pool.metadata.name)

    def touch(self, pool: str) -> None:
        """Note that a pool may need a write; costs the same for every pool."""
        now, unrest = self._clock(), self._unrest.get(pool)
        self._unrest[pool] = ChangeRate(unrest.first if unrest else now, now)
        if unrest is None:
            self.queue.add(pool, SMALL_GAP_S * QUIET_PART)

    def _on_record(self, _: Change, old: SpiderIP | None, new: SpiderIP | None) -> None:
        """A record came, changed or went."""
        record = new or old
        if record is not None:
            self.touch(record.spec.pool)

    def _on_pool(self, _: Change, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        """A pool came, changed or went; our own writes come by here too and find nothing to do."""
        pool = new or old
        if pool is not None:
            self.touch(pool.metadata.name)

    async def _reconcile(self, name: str) -> float | None:
        """Write the status of one pool if it is due and differs."""
        pool = self._context.pools.named(name)
        now = self._clock()
        if pool is None or ANNO_IMPORTED not in pool.metadata.annotations:
            self._forget(name)
            return None
        records = self._context.records.by_index(BY_POOL, name)
        written = self._written.get(name, Written())
        due = write_due_s(len(records), self._unrest.get(name), written)
        if due > now:
            return due - now
        self._unrest.pop(name, None)
        status = pool_status(records, Pool.parse(pool), self._limit)
        if status != pool.status:
            self._written[name] = Written(now, now if len(records) > SMALL_POOL else written.large)
            await self._write(pool, status)
        return self._resync_s

    async def _write(self, pool: SpiderIPPool, status: IPPoolStatus) -> None:
        """Write the status on condition that the pool is the one that was looked at."""
        body: dict[str, Any] = {
            "metadata": {"resourceVersion": pool.metadata.resource_version},
            "status": {
                "allocatedIPs": status.allocated_ips,
                "totalIPCount": status.total_ip_count,
                "allocatedIPCount": status.allocated_ip_count,
            },
        }
        written = await self._context.cluster.patch(
            SpiderIPPool, pool.metadata.name, body, subresource="status"
        )
        self._context.pools.remember(written)

    def _forget(self, name: str) -> None:
        """Drop what is known of a pool that is not ours to write."""
        self._written.pop(name, None)
        self._unrest.pop(name, None)
