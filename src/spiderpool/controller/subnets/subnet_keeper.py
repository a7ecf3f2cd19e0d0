"""
SpiderSubnets: pools that belong to them are adopted and listed in their status.

A deleted one goes after its pools.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from spiderpool.admission.pools import adopted
from spiderpool.api.crd.group import FINALIZER
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.controller.runtime.context import Context, RecordEvent
from spiderpool.controller.runtime.jsonpatch import diff
from spiderpool.controller.runtime.subnet_lookup import BY_CIDR, fits
from spiderpool.controller.runtime.workqueue import WorkQueue
from spiderpool.controller.subnets.grant_ledger import SubnetLedger, SubnetLedgerEntry
from spiderpool.errors import NotFound, Rejected
from spiderpool.ipam.automatic_pool import controlling_subnet
from spiderpool.ipam.grants_of_pools import settle_grants
from spiderpool.kube.cluster import Change, PatchType
from spiderpool.kube.informer import Informer
from spiderpool.model.event_reasons import EventReason
from spiderpool.model.pool import Pool

OF_CIDR: Final = "pools of cidr"
OF_SUBNET: Final = "pools of subnet"
GATHER_S: Final = 0.1  # pools that come in a burst are looked at together
ORPHAN: Final = "orphan"  # the garbage collector's own finalizer: the pools stay


class SubnetKeeper:
    """Keeps each subnet's status equal to its pools, and lets deleted subnets go."""

    def __init__(
        self,
        context: Context,
        subnets: Informer[SpiderSubnet],
        ledger: SubnetLedger,
        record_event: RecordEvent,
        *,
        automatic: bool,
        workers: int = 1,
        resync_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            context: informers and door.
            subnets: the informer of subnets.
            ledger: their status.
            record_event: writes an Event.
            automatic: whether somebody makes automatic pools: then grants without a pool are theirs
            to drop.
            workers: subnets looked at at the same time.
            resync_s: seconds after which a subnet is looked at again, None = never.
            clock: monotonic seconds.
        """
        self._context = context
        self._subnets = subnets
        self._ledger = ledger
        self._record_event = record_event
        self._automatic = automatic
        self._resync_s = resync_s
        self._parsed: dict[str, tuple[SpiderIPPool, Pool]] = {}
        context.pools.index(OF_CIDR, lambda pool: pool.spec.subnet)
        context.pools.index(OF_SUBNET, _subnet_uid)
        subnets.index(BY_CIDR, lambda subnet: subnet.spec.subnet)
        self.queue = WorkQueue("subnets", self._reconcile, workers=workers, clock=clock)

    def start(self) -> None:
        """Follow the informers and look at every subnet once."""
        self._context.follow(self._subnets, self._on_subnet)
        self._context.follow(self._context.pools, self._on_pool)
        for subnet in self._subnets:
            self.queue.add(subnet.metadata.name)

    def _on_subnet(self, _: Change, __: SpiderSubnet | None, new: SpiderSubnet | None) -> None:
        """A subnet came or changed."""
        if new is not None:
            self.queue.add(new.metadata.name)

    def _on_pool(self, _: Change, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        """A pool came, changed or went: its subnets before and now."""
        if old is not None and new is None:
            self._parsed.pop(old.metadata.name, None)
        if (
            old is not None
            and new is not None
            and (old.spec, old.metadata.owner_references)
            == (new.spec, new.metadata.owner_references)
        ):
            return  # its status only
        for pool in (old, new):
            for subnet in (
                self._subnets.by_index(BY_CIDR, pool.spec.subnet) if pool is not None else ()
            ):
                self.queue.add(subnet.metadata.name, GATHER_S)

    async def _reconcile(self, name: str) -> float | None:
        """Bring one subnet's pools and status together, or let it go."""
        known = self._ledger.look(name)
        if known is None:
            return None
        if not known.subnet.terminating:
            await self._adopt_all(known)
        async with self._ledger.open(name) as entry:
            if entry is None:
                return None
            keep = self._automatic and not entry.subnet.terminating
            grants = settle_grants(
                entry.subnet, [self._read(pool) for pool in self._owned(entry)], keep_unbuilt=keep
            )
            await self._ledger.write(entry, grants)
        if entry.subnet.terminating:
            await self._end(name)
        return self._resync_s

    def _read(self, pool: SpiderIPPool) -> Pool:
        """
        Read a pool, once for each version.

        A subnet's status tells of all its pools, and most are as they were.
        """
        known = self._parsed.get(pool.metadata.name)
        if known is None or known[0] is not pool:
            known = self._parsed[pool.metadata.name] = (pool, Pool.parse(pool))
        return known[1]

    def _owned(self, entry: SubnetLedgerEntry) -> tuple[SpiderIPPool, ...]:
        """Return the pools that a subnet controls."""
        return self._context.pools.by_index(OF_SUBNET, entry.subnet.uid)

    async def _adopt_all(self, entry: SubnetLedgerEntry) -> None:
        """
        Adopt the orphans of the subnet's CIDR.

        Source: docs/reference/automatic-pools.md#pools-that-belong-to-a-subnet.
        """
        for pool in self._context.pools.by_index(OF_CIDR, entry.subnet.text):
            if pool.metadata.deletion_timestamp is None and not any(
                ref.controller for ref in pool.metadata.owner_references
            ):
                await self._adopt(pool, entry)

    async def _adopt(self, pool: SpiderIPPool, entry: SubnetLedgerEntry) -> None:
        """
        Adopt one orphan on condition that it is the one that was looked at.

        One that does not fit is told of.
        """
        name = pool.metadata.name
        if not fits(pool, entry.subnet):
            text = (
                f"pool {name} does not become part of SpiderSubnet {entry.subnet.name}, which "
                "lacks some of its addresses"
            )
            self._record_event(pool, EventReason.NOT_IN_SUBNET, text)
            return
        operations = list(
            diff(msgspec.to_builtins(pool), msgspec.to_builtins(adopted(pool, entry.subnet)))
        )
        unchanged: dict[str, Any] = {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": pool.metadata.resource_version,
        }
        try:
            written = await self._context.cluster.patch(
                SpiderIPPool, name, [unchanged, *operations], patch_type=PatchType.JSON
            )
        except NotFound:
            return  # gone meanwhile
        except Rejected as error:
            self._record_event(
                pool,
                EventReason.NOT_IN_SUBNET,
                f"pool {name} does not become part of SpiderSubnet {entry.subnet.name}: "
                f"{error.message}",
            )
        else:
            self._context.pools.remember(written)

    async def _end(self, name: str) -> None:
        """
        Delete the pools of a subnet that is deleted.

        When all are gone, let it go.

        Source: docs/reference/automatic-pools.md#spidersubnet.
        """
        entry = self._ledger.look(name)
        if (
            entry is None
            or FINALIZER not in entry.obj.metadata.finalizers
            or ORPHAN in entry.obj.metadata.finalizers
        ):
            return
        pools = self._owned(entry)
        for pool in pools:
            if pool.metadata.deletion_timestamp is None:
                await self._delete(pool)
        if not pools and not entry.subnet.grants:
            await self._let_go(entry.obj)

    async def _delete(self, pool: SpiderIPPool) -> None:
        """Delete a pool; it goes when its last address is released."""
        try:
            await self._context.cluster.delete(
                SpiderIPPool, pool.metadata.name, uid=pool.metadata.uid
            )
        except NotFound:
            return

    async def _let_go(self, subnet: SpiderSubnet) -> None:
        """Take our finalizer off, on condition that the subnet is the one that was looked at."""
        meta = subnet.metadata
        rest = [finalizer for finalizer in meta.finalizers if finalizer != FINALIZER]
        body = {"metadata": {"finalizers": rest, "resourceVersion": meta.resource_version}}
        try:
            await self._context.cluster.patch(SpiderSubnet, meta.name, body)
        except NotFound:
            return  # somebody was faster


def _subnet_uid(pool: SpiderIPPool) -> str | None:
    """Return the UID of the subnet that controls a pool."""
    ref = controlling_subnet(pool)
    return None if ref is None else ref.uid
