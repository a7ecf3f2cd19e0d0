"""
What each SpiderSubnet has given to which pool: the leader's write-ahead record.

One change of a subnet at a time, decided on the latest state that is known, written on condition
that it is still that one.

Source: docs/decisions/0010-automatic-pools.md.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetStatus
from spiderpool.errors import Conflict, NotFound
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.informer import Informer
from spiderpool.kube.readers.reserved import ReservedAddresses
from spiderpool.model.subnet import Grants, Subnet, subnet_status


@dataclass(frozen=True, slots=True)
class SubnetLedgerEntry:
    """One subnet, for as long as nobody else of this process changes it."""

    obj: SpiderSubnet
    subnet: Subnet


class SubnetLedger:
    """Opens the ledger entries of subnets, one reader each, and writes them."""

    def __init__(
        self,
        cluster: Cluster,
        subnets: Informer[SpiderSubnet],
        reserved: Informer[SpiderReservedIP],
    ) -> None:
        """
        Begin with all entries closed.

        Args:
            cluster: the door.
            subnets: the informer of subnets; own writes are remembered there.
            reserved: the informer of reserved addresses.
        """
        self._cluster = cluster
        self._subnets = subnets
        self._reserved = ReservedAddresses(reserved)
        self._pod_locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._read: dict[str, SubnetLedgerEntry] = {}

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[SubnetLedgerEntry | None]:
        """Have a subnet for oneself; None when there is none of that name."""
        async with self._pod_locks[name]:
            yield self.look(name)

    def look(self, name: str) -> SubnetLedgerEntry | None:
        """Read a subnet as the informer has it; parsed once for each version."""
        obj = self._subnets.named(name)
        if obj is None:
            self._read.pop(name, None)
            return None
        known = self._read.get(name)
        if known is None or known.obj is not obj:
            known = self._read[name] = SubnetLedgerEntry(obj, Subnet.parse(obj))
        return known

    def all(self) -> list[SubnetLedgerEntry]:
        """Read all subnets."""
        ledger = [self.look(obj.metadata.name) for obj in self._subnets]
        return [entry for entry in ledger if entry is not None]

    async def write(self, entry: SubnetLedgerEntry, grants: Grants) -> None:
        """
        Write the status of a subnet if it differs.

        Raises `Conflict` when the subnet changed since.
        """
        status = subnet_status(grants, entry.subnet.total)
        if status == entry.obj.status:
            return
        name = entry.obj.metadata.name
        try:
            written = await self._cluster.patch(
                SpiderSubnet, name, _status_patch(entry.obj, status), subresource="status"
            )
        except Conflict:
            # somebody changed its specification: the next attempt sees that
            with suppress(NotFound):
                self._subnets.remember(await self._cluster.get(SpiderSubnet, name))
            raise
        self._subnets.remember(written)
        if (
            written.metadata.generation == entry.obj.metadata.generation
            and self._subnets.named(name) is written
        ):
            self._read[name] = SubnetLedgerEntry(
                written, replace(entry.subnet, grants=dict(grants))
            )  # nothing else has changed

    def reserved(self, family: int) -> AddressSet:
        """Return the reserved addresses of a family."""
        return self._reserved.by_family[family]


def _status_patch(obj: SpiderSubnet, status: SubnetStatus) -> dict[str, Any]:
    """Make the patch of a subnet's status, on condition of the version that was looked at."""
    return {
        "metadata": {"resourceVersion": obj.metadata.resource_version},
        "status": {
            "controlledIPPools": status.controlled_ippools,
            "totalIPCount": status.total_ip_count,
            "allocatedIPCount": status.allocated_ip_count,
        },
    }
