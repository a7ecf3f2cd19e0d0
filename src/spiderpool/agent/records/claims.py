"""
Claiming one address: candidates in their order, and a create as the lock.

Also what to do when a create is lost or its outcome unknown.

Which pools, and in which order, was decided before (`ipam.selection`); losing an address is handled
here and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from spiderpool.addressing.ranges import record_name
from spiderpool.addressing.sets import AddressSet, IPAddress
from spiderpool.agent.concurrency.retrying_cluster import RetryingCluster
from spiderpool.agent.informers import BY_UID
from spiderpool.agent.records.cooling_informers import CoolingWatches
from spiderpool.agent.records.occupancy import Fullness, Occupancy
from spiderpool.agent.records.releases import Deletions
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.errors import AlreadyExists, Conflict, NotFound, UnknownOutcome, Unreachable
from spiderpool.ipam.address_order import candidates
from spiderpool.ipam.selection import Selection
from spiderpool.kube.compare_and_swap import compare_and_swap
from spiderpool.kube.informer import Informer
from spiderpool.model.claim import ClaimKey
from spiderpool.model.pool import Pool
from spiderpool.records.build import describe_holder, name_of, put_in_place

# Creates at a time: enough for any node; more of them only wait in the API server, and lose to each
# other (decision 0009).
SLOTS: Final = 8
# the API server gives up a request after 60 s: later no write of a former agent can appear
INHERITED_S: Final = 65.0


@dataclass(frozen=True, slots=True)
class AddressRequest:
    """
    One address that an ADD wants.

    `build` makes the record of an address, as it is to be created. `renew` looks at pools and
    reservations again. `resting`: what the same claim gave back a moment ago. `plain`: any address
    will do that the cluster does not reserve, so that where it finds none nobody does.
    """

    key: ClaimKey
    uid: str
    selection: Selection
    reserved: AddressSet
    build: Callable[[Pool, IPAddress], SpiderIP]
    renew: Callable[[AddressRequest], AddressRequest]
    resting: tuple[SpiderIP, ...] = ()
    plain: bool = False


class Claims:
    """Claims addresses, and takes back what a failed ADD claimed."""

    def __init__(
        self,
        cluster: RetryingCluster,
        records: Informer[SpiderIP],
        occupancy: Occupancy,
        watches: CoolingWatches,
        *,
        deletions: Deletions,
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Join what claiming needs.

        Args:
            cluster: the store, and how long it is tolerated when it cannot serve.
            records: this node's own records; own writes are remembered there.
            occupancy: what is believed to be taken.
            watches: follow what rests in pools that are full.
            deletions: releases and deletes records.
            on_loss: told of each create that met somebody else's address.
        """
        self._cluster = cluster
        self._once = cluster.once
        self._records = records
        self._occupancy = occupancy
        self._watches = watches
        self._deletions = deletions
        self._on_loss = on_loss
        self._slots = asyncio.Semaphore(SLOTS)
        self._inherited: frozenset[str] = frozenset()
        self._inherited_until = 0.0
        # Names of records whose create never got an answer, by pod UID: nobody may forget them
        # before they are read.
        self._unresolved: dict[str, set[str]] = {}

    def inherit(self, uids: frozenset[str]) -> None:
        """
        Know the pods that were there before.

        A former agent's last write for one of them may still appear.
        """
        self._inherited = uids
        self._inherited_until = time.monotonic() + INHERITED_S

    async def claim(
        self, address_request: AddressRequest, undo: AsyncExitStack, deadline: float
    ) -> SpiderIP | None:
        """
        Claim an address of the first pool that has a free one.

        Args:
            address_request: what is asked for, and the pools in their order.
            undo: gets the way back of each record that this call creates.
            deadline: monotonic seconds until which full pools are waited for.
        Returns:
            The record; None when all pools were full until the deadline.
        """
        for resting in address_request.resting:
            record = await self._take_back(resting, address_request, undo)
            if record is not None:
                return record
        fruitless: dict[str, tuple[int, int]] = {}
        while True:
            news = self._occupancy.news
            for pool in address_request.selection.pools:
                record = await self._claim_in(pool, address_request, undo, fruitless)
                if record is not None:
                    return record
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            await self._occupancy.wait(
                news, [pool.name for pool in address_request.selection.pools], left_s
            )
            address_request = address_request.renew(address_request)

    async def holders(self, ips: Iterable[IPAddress]) -> dict[IPAddress, str]:
        """Say who has exact addresses that could not be had."""
        found = {ip: await self._read(record_name(ip), "") for ip in ips}
        return {ip: describe_holder(record) for ip, record in found.items() if record is not None}

    async def resolve(self, uid: str) -> None:
        """
        Learn what became of the creates of a pod that got no answer.

        Those that happened are then in the informer.
        """
        for name in tuple(self._unresolved.get(uid, ())):
            await self._read(name, uid)

    def drop(self, uid: str) -> None:
        """Drop what is kept of a pod that is gone."""
        self._unresolved.pop(uid, None)

    async def give_back(self, record: SpiderIP) -> None:
        """
        Delete a record in the very state in which it was written.

        In another state it is somebody's.
        """
        # out of reach: the pod's next ADD or its DEL finds it
        with suppress(Unreachable), self._doubting(record):
            await self._deletions.delete(record)

    async def let_go(self, record: SpiderIP) -> None:
        """
        Release what a static holder does not want any more.

        Changed meanwhile, it is looked at again.
        """

        async def write(found: SpiderIP | None) -> None:
            same = (
                found is not None
                and found.metadata.uid == record.metadata.uid
                and found.spec.holder == record.spec.holder
            )
            if found is not None and same and found.held:
                await self._deletions.release(found)

        async def reread() -> SpiderIP | None:
            return await self._read(record.metadata.name, record.spec.holder.uid)

        await compare_and_swap(record, write, reread, subject=name_of(record))

    @contextmanager
    def _doubting(self, record: SpiderIP) -> Iterator[None]:
        """
        Have a record read before the pod's next call when it is not known what it became.

        The watch may be late.
        """
        try:
            yield
        except (Conflict, UnknownOutcome):
            self._unresolved.setdefault(record.spec.holder.uid, set()).add(record.metadata.name)

    async def _claim_in(
        self,
        pool: Pool,
        address_request: AddressRequest,
        undo: AsyncExitStack,
        fruitless: dict[str, tuple[int, int]],
    ) -> SpiderIP | None:
        """
        Claim a free address of a pool, else one that rests.

        Args:
            fruitless: per pool, what was known of it when a walk found nothing; until that changes,
            walking again is in vain.
        """
        self._occupancy.expire(pool.name)
        for again in (False, True):
            if again and not await self._occupancy.refresh(pool.name):
                break
            state = self._occupancy.state(pool.name)
            walk = Fullness(state, pool, address_request.reserved)
            if fruitless.get(pool.name) != state and not self._occupancy.is_full(walk):
                record = await self._walk(pool, address_request, undo)
                if record is not None:
                    return record
                fruitless[pool.name] = state
                if address_request.plain:
                    self._occupancy.found_full(walk)
        return await self._take_resting(pool, address_request, undo)

    async def _take_back(
        self, resting: SpiderIP, address_request: AddressRequest, undo: AsyncExitStack
    ) -> SpiderIP | None:
        """Take what this very claim had a moment ago, if its pool has it and no other took it."""
        pool = next(
            (pool for pool in address_request.selection.pools if pool.name == resting.spec.pool),
            None,
        )
        if (
            pool is None
            or resting.spec.address not in _wanted(pool, address_request)
            or resting.spec.address in address_request.reserved
        ):
            return None
        return await self._take_over(resting, pool, address_request, undo)

    async def _take_resting(
        self, pool: Pool, address_request: AddressRequest, undo: AsyncExitStack
    ) -> SpiderIP | None:
        """Take the address that rests longest, of whatever node."""
        await self._watches.follow(pool.name)
        cooling = self._occupancy.of(pool.name).cooling
        while (
            resting := cooling.take(
                _wanted(pool, address_request), address_request.reserved, address_request.key.seed
            )
        ) is not None:
            record = await self._take_over(resting, pool, address_request, undo)
            if record is not None:
                return record
            self._on_loss()
        return None

    async def _take_over(
        self, resting: SpiderIP, pool: Pool, address_request: AddressRequest, undo: AsyncExitStack
    ) -> SpiderIP | None:
        fresh, record = address_request.build(pool, resting.spec.address), None
        async for attempt in self._cluster.retry.attempts():
            with attempt:
                async with self._slots:
                    record = await self._overwrite(resting, fresh, address_request, undo)
        return record

    async def _overwrite(
        self, old: SpiderIP, fresh: SpiderIP, address_request: AddressRequest, undo: AsyncExitStack
    ) -> SpiderIP | None:
        """
        Put a claim in the place of a record that rests.

        None when that has changed meanwhile, or is of a former pool.
        """
        if old.spec.pool != fresh.spec.pool:
            return None
        try:
            record = await self._once.replace(put_in_place(old, fresh))
        except NotFound:
            self._occupancy.free(old)  # it had rested long enough
            return None
        except Conflict:
            return None
        except UnknownOutcome:
            self._unresolved.setdefault(address_request.uid, set()).add(old.metadata.name)
            found = await self._read(old.metadata.name, address_request.uid)
            if found is not None and _is_state(
                found, old
            ):  # on the same condition as before: only one of the two writes can happen
                return await self._overwrite(old, fresh, address_request, undo)
            if found is None or not found.held or not _is_of(found, address_request.key):
                return None
            record = found
        self._records.remember(record)
        undo.push_async_callback(self._put_back, old, record)
        return record

    async def _put_back(self, old: SpiderIP, record: SpiderIP) -> None:
        """Let a record say again what it said before this claim: its address was not used."""
        with suppress(NotFound, Unreachable), self._doubting(record):  # as in `give_back`
            restored = await self._cluster.replace(put_in_place(record, old))
            if restored.spec.holder.node == record.spec.holder.node:
                self._records.remember(restored)
            else:
                self._records.dismiss(restored)
                # The watch may have told of it while it still counted as ours, and was not heard.
                self._occupancy.rests(restored)

    async def _walk(
        self, pool: Pool, address_request: AddressRequest, undo: AsyncExitStack
    ) -> SpiderIP | None:
        """Try the candidates; what is known as taken grows while others are lost."""
        occupancy = self._occupancy.of(pool.name)
        order = candidates(
            pool,
            address_request.reserved,
            address_request.key,
            occupancy,
            address_request.selection.ips,
        )
        while True:
            with ExitStack() as trying:
                ip = record = None
                async for attempt in self._cluster.retry.attempts():
                    # A claim that waits for the API server has no slot: all learn in time that it
                    # is away.
                    with attempt:
                        async with self._slots:
                            if ip is None:
                                # Chosen only in the slot: what was learned during the wait counts.
                                if (mine := self._mine(pool, address_request)) is not None:
                                    return mine
                                ip = next(order, None)
                                if ip is None:
                                    return None
                                trying.enter_context(occupancy.trying(ip))
                            fresh = address_request.build(pool, ip)
                            record = await self._take(fresh, address_request, undo)
            if ip is None or record is not None:
                return record
            self._on_loss()
            await self._occupancy.lose(pool.name, ip)

    def _mine(self, pool: Pool, address_request: AddressRequest) -> SpiderIP | None:
        """
        Return what this very claim holds of a pool already, None when it holds nothing.

        A former agent's write may be carried out after the decision that there is none. The watch
        tells of it, and then its address is known as taken: without this look the claim would go on
        to another one.
        """
        wanted = address_request.selection.ips
        for record in self._records.by_index(BY_UID, address_request.uid):
            if (
                record.held
                and record.spec.pool == pool.name
                and _is_of(record, address_request.key)
                and (not wanted or record.spec.address in wanted)
            ):
                return record
        return None

    async def _take(
        self, fresh: SpiderIP, address_request: AddressRequest, undo: AsyncExitStack
    ) -> SpiderIP | None:
        """Create a record; None when somebody else has the address."""
        name = fresh.metadata.name
        try:
            record = await self._once.create(fresh)
        except AlreadyExists:
            return await self._meet(fresh, address_request, undo)
        except UnknownOutcome:
            self._unresolved.setdefault(address_request.uid, set()).add(name)
            found = await self._read(name, address_request.uid)
            if found is None:
                return await self._take(fresh, address_request, undo)
            if not _is_of(found, address_request.key):
                return None
            record = found
        self._records.remember(record)
        undo.push_async_callback(self.give_back, record)
        return record

    async def _meet(
        self, fresh: SpiderIP, address_request: AddressRequest, undo: AsyncExitStack
    ) -> SpiderIP | None:
        """See who has an address that was to be created; None unless it is this very claim."""
        name = fresh.metadata.name
        record = self._records.named(name)
        if record is None and not self._may_be_mine(name, address_request):
            return None
        if record is None:
            record = await self._read(name, address_request.uid)
        if record is None:
            return await self._take(fresh, address_request, undo)
        if not _is_of(record, address_request.key):
            return None
        if record.spec.state is IPState.COOLING:
            return await self._overwrite(record, fresh, address_request, undo)
        return record if record.held else None

    def _may_be_mine(self, name: str, address_request: AddressRequest) -> bool:
        """
        Return whether a record that this agent does not know may still answer this claim.

        Not usually: a stateless claim is made on this node only, whose records the informer knows.
        But a write without an answer, of this agent or of the one before it, may appear late; and a
        static claim may have been made on another node.
        """
        inherited = (
            address_request.uid in self._inherited and time.monotonic() < self._inherited_until
        )
        return (
            address_request.key.static
            or inherited
            or name in self._unresolved.get(address_request.uid, ())
        )

    async def _read(self, name: str, uid: str) -> SpiderIP | None:
        """Read a record live; None when there is none."""
        try:
            record = await self._cluster.get(SpiderIP, name)
        except NotFound:
            record = None
        known = self._records.named(name)
        if record is None and known is not None:
            self._deletions.forget(known)
        if record is not None:
            # An absent record may still appear: its name stays unresolved until the pod is gone.
            self._unresolved.get(uid, set()).discard(name)
            if known is not None and record.spec.holder.node != known.spec.holder.node:
                self._records.dismiss(record)
            elif known is not None or record.spec.holder.uid == uid:
                self._records.remember(record)
        return record


def _wanted(pool: Pool, address_request: AddressRequest) -> AddressSet:
    """Return the addresses of a pool that a claim may have."""
    ips = address_request.selection.ips
    return pool.usable & AddressSet.of(ips, pool.family) if ips else pool.usable


def _is_state(record: SpiderIP, other: SpiderIP) -> bool:
    """Return whether two readings are of the same record, unchanged."""
    one, two = record.metadata, other.metadata
    return (one.uid, one.resource_version) == (two.uid, two.resource_version)


def _is_of(record: SpiderIP, key: ClaimKey) -> bool:
    return ClaimKey.of_record(record) == key
