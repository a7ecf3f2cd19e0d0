"""
Takeover from Go Spiderpool, pool by pool: create the records, then mark the pool.

Only marked pools are projected.

Each step can be repeated, so after a crash between two the next leader goes on. Pools that
have nothing to take over are marked too, since a projected status must never be taken for one of Go
Spiderpool's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import ANNO_IMPORTED, FINALIZER
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.controller.pools.legacy_agents import list_go_agents
from spiderpool.controller.pools.legacy_allocations import (
    Allocation,
    Endpoints,
    read_allocations,
    render_import,
    same_holder,
)
from spiderpool.controller.runtime.context import Context, RecordEvent
from spiderpool.controller.runtime.workqueue import WorkQueue
from spiderpool.errors import AlreadyExists, InvalidRequest, NotFound
from spiderpool.kube.cluster import Change
from spiderpool.model.event_reasons import EventReason
from spiderpool.model.pool import Pool

LOOK_AGAIN_S: Final = 5.0
# several pools that are imported one after another share one list of endpoints
ENDPOINTS_FRESH_S: Final = 30.0
CREATES_IN_FLIGHT: Final = 16
ENDPOINTS: Final = "/endpoints"  # a key that no pool can have


class Imports:
    """Imports and marks every pool that is not marked, while no agent of Go Spiderpool runs."""

    def __init__(
        self,
        context: Context,
        record_event: RecordEvent,
        namespace: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            context: informers and door.
            record_event: writes an Event.
            namespace: of the release, where the agents run.
            clock: monotonic seconds.
        """
        self._context = context
        self._record_event = record_event
        self._namespace = namespace
        self._clock = clock
        self._endpoints: Endpoints = {}
        self._endpoints_read: float | None = None
        self.queue = WorkQueue("import", self._reconcile, clock=clock)

    def start(self) -> None:
        """Follow the pools, look at each once, and at the endpoints."""
        self._context.follow(self._context.pools, self._on_pool)
        for pool in self._context.pools:
            self._on_pool(Change.ADDED, None, pool)
        self.queue.add(ENDPOINTS)

    def _on_pool(self, _: Change, __: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        """A pool came or changed."""
        if new is not None and not is_marked(new):
            self.queue.add(new.metadata.name)

    async def _reconcile(self, key: str) -> float | None:
        """Import one pool, or let the imported endpoints go."""
        if key == ENDPOINTS:
            return await self._free_endpoints()
        pool = self._context.pools.named(key)
        if pool is None or is_marked(pool):
            return None
        if agents := await list_go_agents(self._context.cluster, self._namespace):
            self._record_event(
                pool,
                EventReason.IMPORT_WAITS,
                f"pool {key} is not taken over while agents of Go Spiderpool run: "
                f"{', '.join(agents)}",
            )
            return LOOK_AGAIN_S
        await self._import(pool)
        await self._mark(pool)
        return None

    async def _import(self, pool: SpiderIPPool) -> None:
        """Create the records of all allocations of a pool."""
        try:
            parsed, allocations = _read(pool)
        except InvalidRequest as error:
            self._record_event(pool, EventReason.IMPORT_REFUSED, error.message)
            raise
        if not allocations:
            return
        endpoints = await self._read_endpoints()
        for batch in batched(allocations, CREATES_IN_FLIGHT):
            creates = (self._create(pool, parsed, allocation, endpoints) for allocation in batch)
            for problem in await asyncio.gather(*creates, return_exceptions=True):
                if problem is not None:
                    raise problem

    async def _create(
        self, pool: SpiderIPPool, parsed: Pool, allocation: Allocation, endpoints: Endpoints
    ) -> None:
        """Create one record; one that is there already is fine when its holder is the right one."""
        record = render_import(
            parsed, allocation, endpoints.get((allocation.namespace, allocation.name))
        )
        try:
            self._context.records.remember(await self._context.cluster.create(record))
        except AlreadyExists:
            await self._compare(pool, record)

    async def _compare(self, pool: SpiderIPPool, wanted: SpiderIP) -> None:
        """Report an address that somebody else holds; nothing is changed."""
        try:
            found = await self._context.cluster.get(SpiderIP, wanted.metadata.name)
        except NotFound:
            return  # released meanwhile
        if not same_holder(found, wanted):
            theirs, ours = found.spec.holder, wanted.spec.holder
            self._record_event(
                pool,
                EventReason.IMPORT_CONFLICT,
                f"{wanted.spec.ip} was allocated to {ours.namespace}/{ours.name}, but is held by "
                f"{theirs.namespace}/{theirs.name} from pool {found.spec.pool}; restart one of "
                "them",
            )

    async def _mark(self, pool: SpiderIPPool) -> None:
        """Mark a pool as imported, on condition that its status is still the one that was read."""
        body = {
            "metadata": {
                "annotations": {ANNO_IMPORTED: "true"},
                "resourceVersion": pool.metadata.resource_version,
            }
        }
        try:
            self._context.pools.remember(
                await self._context.cluster.patch(SpiderIPPool, pool.metadata.name, body)
            )
        except NotFound:
            return  # deleted meanwhile

    async def _read_endpoints(self) -> Endpoints:
        """Read all endpoints, or what was read a moment ago."""
        now = self._clock()
        if self._endpoints_read is None or now - self._endpoints_read > ENDPOINTS_FRESH_S:
            listing = await self._context.cluster.list_objects(SpiderEndpoint)
            self._endpoints = {endpoint.key: endpoint for endpoint in listing.items}
            self._endpoints_read = now
        return self._endpoints

    async def _free_endpoints(self) -> float | None:
        """
        Take Go Spiderpool's finalizer off all endpoints whose pools are imported.

        Nobody else would.
        """
        if not all(is_marked(pool) for pool in self._context.pools):
            return LOOK_AGAIN_S
        self._endpoints, self._endpoints_read = {}, None
        listing = await self._context.cluster.list_objects(SpiderEndpoint)
        for endpoint in listing.items:
            if FINALIZER in endpoint.metadata.finalizers:
                await self._free_endpoint(endpoint)
        return None

    async def _free_endpoint(self, endpoint: SpiderEndpoint) -> None:
        """Take the finalizer off one endpoint."""
        meta = endpoint.metadata
        rest = [finalizer for finalizer in meta.finalizers if finalizer != FINALIZER]
        body = {"metadata": {"finalizers": rest, "resourceVersion": meta.resource_version}}
        try:
            await self._context.cluster.patch(
                SpiderEndpoint, meta.name, body, namespace=meta.namespace
            )
        except NotFound:
            return  # gone by itself


def _read(pool: SpiderIPPool) -> tuple[Pool, list[Allocation]]:
    """Read a pool and what is to be taken over; `InvalidRequest` says why that is not possible."""
    parsed, allocations = Pool.parse(pool), read_allocations(pool)
    if allocations and parsed.broken is not None:
        raise InvalidRequest(f"pool {parsed.name} is not taken over: {parsed.broken}")
    return parsed, allocations


def is_marked(pool: SpiderIPPool) -> bool:
    """Return whether a pool carries the mark."""
    return ANNO_IMPORTED in pool.metadata.annotations


def batched(items: list[Allocation], size: int) -> Iterator[list[Allocation]]:
    """Cut a list into pieces."""
    return (items[start : start + size] for start in range(0, len(items), size))
