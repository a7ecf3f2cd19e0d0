"""
The other pools, as they are at this moment: what a new pool's addresses are compared with.

The informer has their contents, and an index of them says which have anything in common with the
new
one: the time of a decision does not grow with the number of the others. The informer may be late:
of the pools of the same CIDR a list of metadata from the API server's memory tells which entries
are. A pool that we allowed a moment ago may not be stored yet: two pools made at the same time
would not see each other, so the second waits for the first.

Automatic pools need no list. Their addresses are those that the subnet's status grants them, which
is read live and gives no address twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from spiderpool.addressing.ranges import cidr_label
from spiderpool.addressing.sets import AddressSet, IPNetwork
from spiderpool.admission.pool_index import PoolIndex
from spiderpool.api.crd.group import LABEL_IPPOOL_CIDR
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.kubernetes.core import PartialObject
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.kube.cluster import Change, Cluster, if_exists
from spiderpool.kube.informer import Informer
from spiderpool.model.pool import Pool

# how long a pool that was allowed may take to be stored, or to be refused by somebody else
STORED_WITHIN_S: Final = 2.0
LOOK_AGAIN_S: Final = 0.1


Version = tuple[str, str, int]
"""Name, UID and generation: two objects with the same have the same specification."""


class OtherPools:
    """Finds the pools that may conflict with one, and remembers those that will be stored soon."""

    def __init__(
        self,
        cluster: Cluster,
        pools: Informer[SpiderIPPool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Begin with nothing allowed.

        Args:
            cluster: the door.
            pools: the informer of pools.
            clock: monotonic seconds.
        """
        self._cluster = cluster
        self._pools = pools
        self._clock = clock
        self._allowed: dict[str, _Allowed] = {}
        self._seen: dict[str, int] = {}  # generations that the informer did not have
        self._index = PoolIndex()
        self._changed = {pool.metadata.name for pool in pools}
        pools.subscribe(self._on_pool)

    async def near(self, pool: Pool, *, granted: bool = False) -> list[Pool]:
        """
        Return the pools that may be in the way of one.

        Args:
            granted: its addresses are what its subnet's status gives to it.
        """
        index = await self._index_of_informer()
        found = {
            each.name: each
            for each in (*index.overlapping(pool.subnet), *index.sharing(pool.total))
        }
        if not granted:
            found = await self._corrected(pool.subnet, found)
        return list(found.values())

    async def within(self, network: IPNetwork) -> list[Pool]:
        """Return the pools of a network, and of those that overlap it."""
        index = await self._index_of_informer()
        found = {
            each.name: each for each in (*index.overlapping(network), *index.of_network(network))
        }
        return list((await self._corrected(network, found)).values())

    async def _index_of_informer(self) -> PoolIndex:
        """Bring the index up to date with the informer, which a new replica has to fill first."""
        await self._pools.synced()
        for name in self._changed:
            known = self._pools.named(name)
            if known is None:
                self._index.drop(name)
            else:
                self._index.put(Pool.parse(known))
        self._changed.clear()
        return self._index

    def _on_pool(self, _: Change, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        """
        A pool came, changed or went.

        Its status changes all the time, and concerns nobody here.
        """
        if (
            old is None
            or new is None
            or (old.metadata.uid, old.spec) != (new.metadata.uid, new.spec)
        ):
            self._changed.update(pool.metadata.name for pool in (old, new) if pool is not None)

    async def _corrected(self, network: IPNetwork, found: dict[str, Pool]) -> dict[str, Pool]:
        """
        Put right what the informer does not know yet of the pools of a network.

        Those of others it knows in a moment.
        """
        selector = f"{LABEL_IPPOOL_CIDR}={cidr_label(str(network))}"
        # From the API server's memory: from etcd it would have to read all pools to find these.
        listing = await self._cluster.list_metadata(
            SpiderIPPool, labels=selector, resource_version="0"
        )
        listed = {partial.metadata.name: partial for partial in listing.items}
        gone = [
            name
            for name, pool in found.items()
            if pool.subnet == network and self._is_gone(name, listed)
        ]
        late = [partial for partial in listed.values() if self._is_late(partial)]
        read = [
            await if_exists(self._cluster.get(SpiderIPPool, partial.metadata.name))
            for partial in late
        ]
        fresh = {pool.metadata.name: Pool.parse(pool) for pool in read if pool is not None}
        self._seen.update(
            {
                p.metadata.name: p.metadata.generation
                for p in late
                if p.metadata.name in self._allowed
            }
        )
        return {name: pool for name, pool in found.items() if name not in gone} | fresh

    def _is_gone(self, name: str, listed: Mapping[str, PartialObject]) -> bool:
        """
        Return whether a pool that the informer knows does not exist any more.

        The list would have it by its label.
        """
        known = self._pools.named(name)
        return (
            name not in listed and known is not None and LABEL_IPPOOL_CIDR in known.metadata.labels
        )

    def _is_late(self, partial: PartialObject) -> bool:
        """Return whether the informer does not have this very specification of a pool."""
        known = self._pools.get(partial.key)
        return known is None or _version(known) != _version(partial)

    def allow(self, pool: Pool, replaces: int = 0) -> None:
        """Note that a pool was allowed and will be stored soon, in place of a former generation."""
        self._seen.pop(pool.name, None)
        self._allowed[pool.name] = _Allowed(pool, replaces, self._clock() + STORED_WITHIN_S)

    def unsettled(self, pool: Pool) -> bool:
        """Return whether a pool that may still be stored is in the way of this one."""
        now = self._clock()
        for name, allowed in tuple(self._allowed.items()):
            known = self._pools.named(name)
            generation = max(
                known.metadata.generation if known is not None else -1, self._seen.pop(name, -1)
            )
            if allowed.until <= now or generation > allowed.replaces:
                del self._allowed[name]
        return any(
            _collide(pool, allowed.pool)
            for name, allowed in self._allowed.items()
            if name != pool.name
        )

    async def settle(self) -> None:
        """Wait a moment for what is being stored."""
        await asyncio.sleep(LOOK_AGAIN_S)


@dataclass(frozen=True, slots=True)
class _Allowed:
    """A pool that will be stored soon, the generation that it replaces, and until when to wait."""

    pool: Pool
    replaces: int
    until: float


def _version(obj: KubeObject) -> Version:
    """Return the identity of a pool's specification."""
    meta = obj.metadata
    return (meta.name, meta.uid, meta.generation)


def _collide(pool: Pool, other: Pool) -> bool:
    """
    Return whether two pools cannot both exist.

    Subnets that overlap without being the same, or a common address.
    """
    if pool.family != other.family or not AddressSet.network(pool.subnet).overlaps(
        AddressSet.network(other.subnet)
    ):
        return False
    return pool.subnet != other.subnet or pool.total.overlaps(other.total)
