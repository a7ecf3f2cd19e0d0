"""
Addresses that leave a pool: claimed before the pool is edited, and released after it.

An agent that has not yet seen the edit meets the claim and not a free address: nobody gets one that
is outside of its pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from spiderpool.addressing.ranges import record_name
from spiderpool.addressing.sets import AddressSet, IPAddress
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import Holder, HolderKind, IPState, SpiderIP
from spiderpool.controller.runtime.context import BY_POOL, Context
from spiderpool.errors import AlreadyExists, NotFound, TryAgain
from spiderpool.model.pool import Pool
from spiderpool.records.build import build_record

# agents have seen an edit after this time: their watches are behind by milliseconds
STALE_S: Final = 3.0
AT_A_TIME: Final = 8


class PoolClaims:
    """Claims of the controller itself, one SpiderIP each."""

    def __init__(self, context: Context, clock: Callable[[], float]) -> None:
        """
        Begin with knowing of none.

        Args:
            context: informers and door.
            clock: monotonic seconds.
        """
        self._context = context
        self._clock = clock
        self._outside_since: dict[str, float] = {}  # by UID of the record

    async def take(self, pool: SpiderIPPool | None, leaving: AddressSet) -> None:
        """Claim addresses of a pool; raises `TryAgain` when a pod has one of them meanwhile."""
        if pool is None or not leaving:
            return
        mine = {record.spec.address for record in self._claims(pool)}
        todo = [ip for ip in leaving if ip not in mine]
        for start in range(0, len(todo), AT_A_TIME):
            results = await asyncio.gather(
                *(self._take(pool, ip) for ip in todo[start : start + AT_A_TIME]),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _take(self, pool: SpiderIPPool, ip: IPAddress) -> None:
        """Claim one address; one that cools is taken from its last holder."""
        old = self._context.records.named(record_name(ip))
        if old is not None and old.spec.state is IPState.QUARANTINED:
            return  # nobody gets it, and it belongs to no pool when it is free again
        if old is not None and old.spec.state is IPState.COOLING:
            await self._delete(old)
        try:
            record = await self._context.cluster.create(_claim(pool, ip))
        except AlreadyExists:
            found = await self._context.cluster.get(SpiderIP, record_name(ip))
            self._context.records.remember(found)
            if not _is_claim_of(found, pool):
                raise TryAgain(
                    f"{ip} is to leave pool {pool.metadata.name} and was taken meanwhile"
                ) from None
            record = found
        self._context.records.remember(record)

    async def drop(self, pool: SpiderIPPool) -> float | None:
        """
        Let go of the claims that have served.

        Returns:
            Seconds until the next is to be let go; None when there is none left.
        """
        total, now, left = Pool.parse(pool).total, self._clock(), []
        for record in list(self._claims(pool)):
            # An address of the pool stays, or the edit that follows claims it again.
            uid, stays = record.metadata.uid, record.spec.address in total
            rest = 0.0 if stays else self._outside_since.setdefault(uid, now) + STALE_S - now
            if rest > 0:
                left.append(rest)
            else:
                self._outside_since.pop(record.metadata.uid, None)
                await self._delete(record)
        return min(left, default=None)

    def count(self, pool: SpiderIPPool) -> int:
        """Return how many addresses of a pool are claimed."""
        return sum(1 for _ in self._claims(pool))

    def _claims(self, pool: SpiderIPPool) -> Iterator[SpiderIP]:
        """Walk the claims of a pool."""
        return (
            record
            for record in self._context.records.by_index(BY_POOL, pool.metadata.name)
            if _is_claim_of(record, pool)
        )

    async def _delete(self, record: SpiderIP) -> None:
        """Delete a record in the state in which it was seen."""
        meta = record.metadata
        with suppress(NotFound):
            await self._context.cluster.delete(
                SpiderIP, meta.name, uid=meta.uid, resource_version=meta.resource_version
            )
        self._context.records.forget(record)


def _claim(pool: SpiderIPPool, ip: IPAddress) -> SpiderIP:
    """Make the record of a claim."""
    parsed = Pool.parse(pool)
    holder = Holder(kind=HolderKind.POOL, name=parsed.name, uid=parsed.uid)
    return build_record(ip, parsed.subnet.prefixlen, parsed.name, holder)


def _is_claim_of(record: SpiderIP, pool: SpiderIPPool) -> bool:
    """Return whether a record is the controller's claim for a pool."""
    return record.spec.holder.kind is HolderKind.POOL and record.spec.pool == pool.metadata.name
