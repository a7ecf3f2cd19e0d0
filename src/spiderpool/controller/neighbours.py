"""
The other pools, as they are at this moment: what a new pool's addresses are compared with.

The mirror has their contents and may be late; a list of metadata tells which entries are. A pool that we allowed a moment
ago may not be stored yet: two pools made at the same time would not see each other, so the second waits for the first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.core import PartialObject
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import KubeObject
from spiderpool.errors import NotFound
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.watch import Mirror
from spiderpool.model.pool import Pool

STORED_WITHIN_S: Final = 2.0  # how long a pool that was allowed may take to be stored, or to be refused by somebody else
LOOK_AGAIN_S: Final = 0.1


Version = tuple[str, str, int]
"""Name, UID and generation: two objects with the same have the same specification."""


class Neighbours:
    """Reads all pools, and remembers the ones that are about to be stored."""

    def __init__(self, cluster: Cluster, pools: Mirror[SpiderIPPool], *, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Begin with nothing allowed.

        Args:
            cluster: the door.
            pools: the mirror of pools.
            clock: monotonic seconds.
        """
        self._cluster = cluster
        self._pools = pools
        self._clock = clock
        self._allowed: dict[str, _Allowed] = {}
        self._parsed: dict[Version, Pool] = {}

    async def fetch(self) -> list[Pool]:
        """Read all pools that exist now."""
        listing = await self._cluster.list_metadata(SpiderIPPool)
        for partial in listing.items:
            allowed = self._allowed.get(partial.metadata.name)
            if allowed is not None and partial.metadata.generation > allowed.replaces:
                del self._allowed[partial.metadata.name]
        parsed = {_version(partial): await self._parsed_pool(partial) for partial in listing.items}
        self._parsed = {version: pool for version, pool in parsed.items() if pool is not None}
        return list(self._parsed.values())

    async def _parsed_pool(self, partial: PartialObject) -> Pool | None:
        """Read a pool: as it was read before, from the mirror, or live where the mirror has another specification."""
        version = _version(partial)
        if version in self._parsed:
            return self._parsed[version]
        known = self._pools.get(partial.key)
        if known is not None and _version(known) == version:
            return Pool.parse(known)
        try:
            return Pool.parse(await self._cluster.get(SpiderIPPool, partial.metadata.name))
        except NotFound:
            return None

    def allow(self, pool: Pool, replaces: int = 0) -> None:
        """Note that a pool was allowed and will be stored soon, in the place of a generation of itself."""
        self._allowed[pool.name] = _Allowed(pool, replaces, self._clock() + STORED_WITHIN_S)

    def unsettled(self, pool: Pool) -> bool:
        """Whether a pool that may still be stored is in the way of this one."""
        now = self._clock()
        self._allowed = {name: allowed for name, allowed in self._allowed.items() if allowed.until > now}
        return any(_collide(pool, allowed.pool) for name, allowed in self._allowed.items() if name != pool.name)

    async def settle(self) -> None:
        """Wait a moment for what is being stored."""
        await asyncio.sleep(LOOK_AGAIN_S)


@dataclass(frozen=True, slots=True)
class _Allowed:
    """A pool that will be stored soon, the generation that it replaces, and how long to wait for it."""

    pool: Pool
    replaces: int
    until: float


def _version(obj: KubeObject) -> Version:
    """Tell a pool's specification from others."""
    meta = obj.metadata
    return (meta.name, meta.uid, meta.generation)


def _collide(pool: Pool, other: Pool) -> bool:
    """Whether two pools cannot both exist: subnets that overlap without being the same, or a common address."""
    if pool.family != other.family or not AddressSet.network(pool.subnet).overlaps(AddressSet.network(other.subnet)):
        return False
    return pool.subnet != other.subnet or pool.total.overlaps(other.total)
