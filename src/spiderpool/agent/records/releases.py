"""
Releasing and deleting records.

On condition of the very state that was seen, and known to the rest of the agent at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from spiderpool.agent.records.occupancy import Occupancy
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.errors import NotFound
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.informer import Informer
from spiderpool.model.pool import Pool
from spiderpool.records.cooldown import release

REMEMBERED: Final = 10_000  # own deletions; the watch tells of each within seconds


class Deletions:
    """Releases and deletes records of this node; contains the UIDs of those that it deleted."""

    def __init__(
        self,
        cluster: Cluster,
        records: Informer[SpiderIP],
        occupancy: Occupancy,
        pools: Callable[[], Mapping[str, Pool]] = dict,
    ) -> None:
        """
        Join what a deletion needs.

        Args:
            cluster: the store.
            records: this node's own records.
            occupancy: told what becomes free.
            pools: gives the pools as they are now; they say how long a released address rests.
        """
        self._cluster = cluster
        self._records = records
        self._occupancy = occupancy
        self._pools = pools
        self._own: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, uid: str) -> bool:
        return uid in self._own

    async def release(
        self,
        record: SpiderIP,
        state: IPState = IPState.COOLING,
        *,
        suspicion: str = "",
        conflict_mac: str | None = None,
    ) -> None:
        """
        Release an address in exactly this state of its record; gone already is as good.

        The address cools down, or its record is deleted (`records.cooldown.release`).

        Args:
            record: as it was judged.
            state: what the address is afterwards.
            suspicion: the reason, where the controller asked for the release.
            conflict_mac: the MAC that answered for the address, where there is a conflict.
        Raises:
            Conflict: the record has changed.
            UnknownOutcome: no answer came.
        """
        pool = self._pools().get(record.spec.pool)
        released = release(
            record, pool, datetime.now(UTC), state, suspicion=suspicion, conflict_mac=conflict_mac
        )
        if released is None:
            await self.delete(record)
            return
        try:
            written = await self._cluster.replace(released)
        except NotFound:
            self.forget(record)
        else:
            # another node's is none of this informer's
            if self._records.named(record.metadata.name) is not None:
                self._records.remember(written)

    async def delete(self, record: SpiderIP) -> None:
        """
        Delete a record in exactly this state; gone already is as good.

        Raises `Conflict`, `UnknownOutcome`.
        """
        # Noted first: the watch may tell of the deletion before the answer to it arrives.
        self._own[record.metadata.uid] = None
        while len(self._own) > REMEMBERED:
            self._own.popitem(last=False)
        meta = record.metadata
        with suppress(NotFound):
            await self._cluster.delete(
                SpiderIP, meta.name, uid=meta.uid, resource_version=meta.resource_version
            )
        self.forget(record)

    def forget(self, record: SpiderIP) -> None:
        """Drop a record that certainly does not exist any more."""
        self._records.forget(record)
        self._occupancy.free(record)
