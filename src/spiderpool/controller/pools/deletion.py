"""
Pools that are being deleted.

The finalizer goes when no address is held any more, and until then an Event says who holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from spiderpool.api.crd.group import FINALIZER
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.controller.runtime.context import BY_POOL, Context, RecordEvent
from spiderpool.controller.runtime.workqueue import WorkQueue
from spiderpool.errors import NotFound
from spiderpool.kube.cluster import Change
from spiderpool.kube.readers.pool_records import list_pool_records
from spiderpool.model.event_reasons import EventReason
from spiderpool.model.pool import is_imported

NAMED_PODS: Final = 10
DELETES_IN_FLIGHT: Final = 16
TELL_AGAIN_S: Final = 60.0
# a burst of releases makes one look, since each look costs as much as the pool has records
GATHER_S: Final = 0.5


class PoolKeeper:
    """
    Lets deleted pools go as soon as nobody holds an address of theirs.

    Decides from SpiderIPs, never from status.
    """

    def __init__(
        self,
        context: Context,
        record_event: RecordEvent,
        *,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            context: informers and door.
            record_event: writes an Event.
            workers: pools looked at at the same time.
            clock: monotonic seconds.
        """
        self._context = context
        self._record_event = record_event
        self.queue = WorkQueue("pool deletion", self._reconcile, workers=workers, clock=clock)

    def start(self) -> None:
        """Follow the informers and look at every pool once."""
        self._context.follow(self._context.pools, self._on_pool)
        self._context.follow(self._context.records, self._on_record)
        for pool in self._context.pools:
            self._look_at(pool.metadata.name)

    def _on_pool(self, _: Change, __: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        """A pool changed."""
        if new is not None:
            self._look_at(new.metadata.name)

    def _on_record(self, change: Change, old: SpiderIP | None, new: SpiderIP | None) -> None:
        """A record went or changed: it may have been the last one."""
        record = new or old
        if record is not None and change is not Change.ADDED:
            self._look_at(record.spec.pool)

    def _look_at(self, name: str) -> None:
        """Ask for a pool if it is one that is going; costs the same for every pool."""
        pool = self._context.pools.named(name)
        if pool is not None and is_going(pool):
            self.queue.add(name, GATHER_S)

    async def _reconcile(self, name: str) -> float | None:
        """Let one pool go, or say who holds it."""
        pool = self._context.pools.named(name)
        if pool is None or not is_going(pool) or not is_imported(pool):
            # allocations that wait to be taken over are looked at when the pool is marked
            return None
        records = self._context.records.by_index(BY_POOL, name)
        if not _held(records):
            records = await list_pool_records(
                self._context.cluster, name
            )  # the informer may be late
        if held := _held(records):
            self._record_event(pool, EventReason.POOL_IN_USE, in_use_message(name, held))
            return TELL_AGAIN_S
        await self._drop(records)
        await self._let_go(pool)
        return None

    async def _drop(self, records: Iterable[SpiderIP]) -> None:
        """
        Delete records that nobody holds and that would outlive their pool.

        After a burst of releases there are many.
        """
        rest = list(records)
        while batch := rest[:DELETES_IN_FLIGHT]:
            del rest[:DELETES_IN_FLIGHT]
            for problem in await asyncio.gather(
                *map(self._drop_one, batch), return_exceptions=True
            ):
                if problem is not None:
                    raise problem

    async def _drop_one(self, record: SpiderIP) -> None:
        meta = record.metadata
        with suppress(NotFound):  # it had rested long enough
            await self._context.cluster.delete(
                SpiderIP, meta.name, uid=meta.uid, resource_version=meta.resource_version
            )

    async def _let_go(self, pool: SpiderIPPool) -> None:
        """Take our finalizer off, on condition that the pool is the one that was looked at."""
        meta = pool.metadata
        rest = [finalizer for finalizer in meta.finalizers if finalizer != FINALIZER]
        body = {"metadata": {"finalizers": rest, "resourceVersion": meta.resource_version}}
        try:
            await self._context.cluster.patch(SpiderIPPool, meta.name, body)
        except NotFound:
            return  # somebody was faster


def is_going(pool: SpiderIPPool) -> bool:
    """Return whether a pool is deleted and waits for us."""
    return pool.metadata.deletion_timestamp is not None and FINALIZER in pool.metadata.finalizers


def _held(records: Iterable[SpiderIP]) -> list[SpiderIP]:
    """Keep the records that pods hold; the controller's own claims keep nothing."""
    return [record for record in records if record.held_by_workload]


def in_use_message(name: str, held: list[SpiderIP]) -> str:
    """Say who holds addresses of a pool that is to go."""
    pods = sorted({f"{record.spec.holder.namespace}/{record.spec.holder.name}" for record in held})
    named = ", ".join(pods[:NAMED_PODS])
    more = f" and {len(pods) - NAMED_PODS} more" if len(pods) > NAMED_PODS else ""
    addresses = "1 address is" if len(held) == 1 else f"{len(held)} addresses are"
    return f"pool {name} is deleted when its addresses are free: {addresses} held by {named}{more}"
