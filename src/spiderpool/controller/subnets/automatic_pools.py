"""
The reconciler of automatic pools: one per NIC and family of each application that asks for it.

The subnet's status is written first, then the pool; between any two writes the leader may end, and
the next one goes on from what stands there. Addresses that leave a pool are claimed before, so that
no ADD takes one meanwhile.

Source: docs/reference/automatic-pools.md, docs/decisions/0010-automatic-pools.md.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.group import (
    ANNO_IPPOOL_IP_NUMBER,
    LABEL_OWNER_APP_GV,
    LABEL_OWNER_APP_KIND,
    LABEL_OWNER_APP_NAME,
    LABEL_OWNER_APP_NAMESPACE,
    LABEL_OWNER_APP_UID,
    LABEL_OWNER_SUBNET,
)
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import Application, SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.controller.pools.pool_claims import STALE_S, PoolClaims
from spiderpool.controller.runtime.context import BY_POOL, Context, RecordEvent
from spiderpool.controller.runtime.workqueue import WorkQueue
from spiderpool.controller.subnets.applications import (
    GONE_AFTER_S,
    NATIVE,
    ForeignApplications,
    NativeApplications,
    Sight,
    Target,
)
from spiderpool.controller.subnets.grant_ledger import SubnetLedger, SubnetLedgerEntry
from spiderpool.errors import Exhausted, InvalidRequest, NotFound, TryAgain
from spiderpool.ipam.automatic_pool import (
    PoolPlan,
    build_pool,
    label_key_of,
    parse_application_key,
    pool_changes,
    pool_names,
)
from spiderpool.ipam.pool_size import LEAVE_AT_ONCE, Holding, IPNumber, SizeLimits, resize
from spiderpool.ipam.subnet_request import AutomaticRequest, read_automatic_request
from spiderpool.kube.cluster import Change, if_exists
from spiderpool.kube.informer import Informer
from spiderpool.model.event_reasons import EventReason
from spiderpool.model.label_values import label_value
from spiderpool.model.pool import Place, Pool, application_of
from spiderpool.model.subnet import Grant

OF_APPLICATION: Final = "pools of application"
OF_NETWORK: Final = "pools by hand of cidr"
NAMES: Final = 16  # how many names are tried for one pool
# a subnet without room is looked at again after this time, besides at its changes
SHORT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Slot:
    """One pool that an application wants: its NIC, the name of its subnet, the family, the size."""

    nic: str
    subnet: str
    family: int
    number: IPNumber
    reclaim: bool


class AutoPools:
    """Creates, resizes and deletes the pools of applications."""

    def __init__(
        self,
        context: Context,
        ledger: SubnetLedger,
        record_event: RecordEvent,
        *,
        redundancy: int,
        limits: SizeLimits | None = None,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            context: informers and door.
            ledger: what subnets have given away.
            record_event: writes an Event.
            redundancy: addresses on top of the replicas where an application does not say how many.
            limits: of a pool's size; None = the usual ones.
            workers: applications looked at at the same time.
            clock: monotonic seconds.
        """
        self._context = context
        self._ledger = ledger
        self._record_event = record_event
        self._natives: NativeApplications
        self._foreigns: ForeignApplications
        self._redundancy = redundancy
        self._limits = limits or SizeLimits()
        self._claims = PoolClaims(context, clock)
        self._shrinking: set[str] = set()  # pools of which more addresses are to leave
        # who waits for a change of a subnet, by its name
        self._waiting: defaultdict[str, set[str]] = defaultdict(set)
        self._busy: dict[str, str] = {}  # who waits for pods to leave a pool, by its name
        context.pools.index(OF_APPLICATION, application_of)
        context.pools.index(
            OF_NETWORK, lambda pool: pool.spec.subnet if application_of(pool) is None else None
        )
        self.queue = WorkQueue("automatic pools", self._reconcile, workers=workers, clock=clock)

    def start(
        self,
        subnets: Informer[SpiderSubnet],
        natives: NativeApplications,
        foreigns: ForeignApplications,
    ) -> None:
        """
        Follow pools, records and subnets, and reconcile all applications with pools or grants once.

        Args:
            subnets: the informer of subnets.
            natives: applications of Kubernetes' own kinds.
            foreigns: all others.
        """
        self._natives, self._foreigns = natives, foreigns
        self._context.follow(self._context.pools, self._on_pool)
        self._context.follow(self._context.records, self._on_record)
        self._context.follow(subnets, self._on_subnet)
        granted = {
            label_key_of(grant.application)
            for entry in self._ledger.all()
            for grant in entry.subnet.grants.values()
            if grant.application is not None
        }
        pools = {key for pool in self._context.pools if (key := application_of(pool)) is not None}
        for key in {*self._natives.keys(), *self._foreigns.keys(), *granted, *pools}:
            self.queue.add(key)

    def notify(self, key: str) -> None:
        """An application may have changed."""
        self.queue.add(key)

    def _on_pool(self, _: Change, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        """A pool came, changed or went; changes of its status are none."""
        if (
            old is not None
            and new is not None
            and old.metadata.generation == new.metadata.generation
        ):
            return
        for pool in (old, new):
            key = None if pool is None else application_of(pool)
            if key is not None:
                self.queue.add(key)

    def _on_record(self, _: Change, old: SpiderIP | None, new: SpiderIP | None) -> None:
        """A record changed or went: somebody may wait for its pod to leave."""
        if old is not None and old.spec.pool in self._busy and not (new and new.held_by_workload):
            self.queue.add(self._busy[old.spec.pool])

    def _on_subnet(self, _: Change, old: SpiderSubnet | None, new: SpiderSubnet | None) -> None:
        """A subnet came or changed: who found no room there looks again."""
        subnet = new or old
        for key in self._waiting.pop(subnet.metadata.name, ()) if subnet is not None else ():
            self.queue.add(key)

    async def _reconcile(self, key: str) -> float | None:
        """Make the pools that one application wants, and delete those that it does not want."""
        for keys in self._waiting.values():
            keys.discard(key)  # it may want something else by now
        sight = await self._see(key)
        if sight.target is None:
            lives = await self._retire(key, gone=sight.gone)
            return GONE_AFTER_S if lives and sight.gone else sight.again_s
        try:
            slots = self._slots(sight.target)
        except InvalidRequest as error:
            self._record_event(sight.target.object, EventReason.WRONG_INPUT, error.message)
            return None
        results = await asyncio.gather(
            *(self._ensure(sight.target, slot) for slot in slots), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        kept = {result for result in results if isinstance(result, str)}
        rests = [
            rest
            for rest in (sight.again_s, *(await self._tidy(key, sight.target, kept)))
            if rest is not None
        ]
        if any(key in keys for keys in self._waiting.values()):
            rests.append(SHORT_S)
        if kept & self._shrinking:
            rests.append(STALE_S)
        return min(rests, default=None)

    async def _see(self, key: str) -> Sight:
        """Look for the application of a key."""
        parsed = parse_application_key(key)
        if parsed is None:
            return Sight(gone=True)
        if parsed[:2] in NATIVE:
            target = self._natives.find(key)
            return Sight(target, gone=target is None)
        return await self._foreigns.find(key)

    def _slots(self, target: Target) -> list[Slot]:
        """Return the pools that an application wants; none for one on the node's own network."""
        request = read_automatic_request(target.annotations)
        if target.host_network or not request.nics:
            return []
        number = self._number(request, target)
        return [
            Slot(nic.nic, nic.subnets[family], family, number, request.reclaim)
            for nic in request.nics
            for family in self._context.features.families
            if family in nic.subnets
        ]

    def _number(self, request: AutomaticRequest, target: Target) -> IPNumber:
        """
        Say how many addresses.

        Without knowledge of replicas only a fixed number makes sense.

        Source: docs/reference/automatic-pools.md#which-applications.
        """
        if target.replicas is not None:
            return request.number or IPNumber(self._redundancy, flexible=True)
        if request.number is None:
            owner = target.app.owner
            raise InvalidRequest(
                f"wrong input: {owner.kind} {target.app.namespace}/{owner.name} is of a kind whose "
                "replicas are not known; write annotation ipam.spidernet.io/ippool-ip-number with "
                "a fixed number of "
                "addresses"
            )
        return IPNumber(request.number.count, flexible=False)

    async def _ensure(self, target: Target, slot: Slot) -> str | None:
        """
        Bring one pool to its size.

        Returns:
            Its name; None when the subnet cannot serve now, which the application is told.
        """
        async with self._ledger.open(slot.subnet) as entry:
            problem = _problem(entry, slot)
            if entry is None or problem is not None:
                self._wait_for(slot.subnet, target, EventReason.SUBNET_UNUSABLE, problem or "")
                return None
            pool = self._choose(target, slot, entry)
            name = pool.metadata.name if pool is not None else self._free_name(target, slot, entry)
            holding = self._holding(pool, name, entry)
            size = self._size(holding, target, slot)
            leaving = 0 if pool is None else self._claims.count(pool)
            try:
                ips = self._resize(name, holding, target, size, entry, leaving)
            except Exhausted as error:
                wanted = f"a pool of {size} for {slot.nic} IPv{slot.family}"
                text = f"SpiderSubnet {slot.subnet} has no room for {wanted}: {error.message}"
                self._wait_for(slot.subnet, target, EventReason.SUBNET_EXHAUSTED, text)
                return None if pool is None else name
            await self._claims.take(pool, holding.listed - ips)
            await self._ledger.write(
                entry, {**entry.subnet.grants, name: Grant(ips, target.app.key)}
            )
            plan = PoolPlan(
                name, target.app, slot.nic, entry.subnet, ips, slot.number, slot.reclaim
            )
        await self._build(pool, plan)
        return name

    def _size(self, holding: Holding, target: Target, slot: Slot) -> int:
        """
        Return the size of a pool: what the application asks for, as far as it may grow.

        The limit never shrinks a pool.
        """
        wanted = slot.number.size(target.replicas or 0)
        largest = self._limits.largest(target.replicas)
        size = min(wanted, max(largest, holding.begun.size))
        if size < wanted:
            text = (
                f"a pool of {wanted} addresses for {slot.nic} IPv{slot.family} is asked for, and "
                f"it may have {largest}; lower annotation {ANNO_IPPOOL_IP_NUMBER}, or raise the "
                "limit "
                "(chart value ipam.spiderSubnet.autoPool.limits)"
            )
            self._record_event(target.object, EventReason.POOL_SIZE_LIMITED, text)
        return size

    def _resize(
        self,
        name: str,
        holding: Holding,
        target: Target,
        size: int,
        entry: SubnetLedgerEntry,
        leaving: int,
    ) -> AddressSet:
        """
        Decide the pool's addresses; while pods hold too many of them it stays as it is.

        A large pool shrinks step by step: `leaving` are on their way out already.
        """
        subnet = entry.subnet
        taken = subnet.granted((name,)) | self._ledger.reserved(subnet.family) | holding.blocked
        room = max(0, LEAVE_AT_ONCE - leaving)
        try:
            ips = resize(holding, size, subnet.total - taken, room)
            if ips.size > size:
                self._shrinking.add(name)
            else:
                self._shrinking.discard(name)
        except TryAgain:
            self._busy[name] = target.app.label_key
            return holding.begun
        self._busy.pop(name, None)
        return ips

    def _wait_for(self, subnet: str, target: Target, reason: EventReason, text: str) -> None:
        """Report what an application's subnet lacks, and look again when the subnet changes."""
        self._waiting[subnet].add(target.app.label_key)
        self._record_event(target.object, reason, text)

    def _choose(self, target: Target, slot: Slot, entry: SubnetLedgerEntry) -> SpiderIPPool | None:
        """
        Find the application's pool: its own, or one that was kept when its predecessor went.

        A pool of a former subnet of the same name, with another CIDR, is not it.

        Source: docs/reference/automatic-pools.md#which-pool.
        """
        place = target.app.place(slot.subnet, slot.nic, slot.family)
        pools = [
            pool
            for pool in self._context.pools.by_index(OF_APPLICATION, target.app.label_key)
            if Place.of_labels(pool.metadata.labels) == place
            and pool.metadata.deletion_timestamp is None
            and pool.spec.subnet == entry.subnet.text
        ]
        own = [
            pool
            for pool in pools
            if pool.metadata.labels.get(LABEL_OWNER_APP_UID) == target.app.owner.uid
        ]
        kept = [pool for pool in pools if not Pool.parse(pool).reclaim]
        return next(iter(own + kept), None)

    def _free_name(self, target: Target, slot: Slot, entry: SubnetLedgerEntry) -> str:
        """Name a new pool: as one that was begun before, else the first name that nobody has."""
        grants = entry.subnet.grants
        names = list(islice(pool_names(target.app, slot.subnet, slot.nic, slot.family), NAMES))
        free = [name for name in names if self._context.pools.named(name) is None]
        begun = [
            name for name in free if name in grants and grants[name].application == target.app.key
        ]
        unused = [name for name in free if name not in grants]
        if not begun + unused:
            raise TryAgain(
                f"all {NAMES} names for the pool of {target.app.key} on {slot.nic} are taken, such "
                f"as {names[0]}"
            )
        return (begun + unused)[0]

    def _holding(self, pool: SpiderIPPool | None, name: str, entry: SubnetLedgerEntry) -> Holding:
        """Read what is known of a pool's addresses."""
        subnet = entry.subnet
        grant = subnet.grants.get(name)
        listed = AddressSet.empty(subnet.family) if pool is None else Pool.parse(pool).total
        held = [
            record.spec.address
            for record in self._context.records.by_index(BY_POOL, name)
            if record.held_by_workload
        ]
        return Holding(
            listed=listed,
            granted=None if grant is None else grant.ips & subnet.total,
            held=AddressSet.of([ip for ip in held if ip.version == subnet.family], subnet.family),
            blocked=self._of_others(name, entry) | subnet.withheld,
        )

    def _of_others(self, name: str, entry: SubnetLedgerEntry) -> AddressSet:
        """Return the addresses that other pools of the CIDR have, in the subnet's status or not."""
        # those of automatic pools are in the status: the cost of one application does not grow with
        # all others
        manual = [
            Pool.parse(pool) for pool in self._context.pools.by_index(OF_NETWORK, entry.subnet.text)
        ]
        family = entry.subnet.family
        spans = [span for pool in manual if pool.family == family for span in pool.total.spans]
        return AddressSet.from_spans(family, spans) | entry.subnet.granted((name,))

    async def _build(self, pool: SpiderIPPool | None, plan: PoolPlan) -> None:
        """Make the pool, or make it what it is to be."""
        if pool is None:
            self._context.pools.remember(await self._context.cluster.create(build_pool(plan)))
            return
        changes = pool_changes(pool, plan)
        if changes:
            changes.setdefault("metadata", {})["uid"] = pool.metadata.uid
            self._context.pools.remember(
                await self._context.cluster.patch(SpiderIPPool, plan.name, changes)
            )

    async def _tidy(self, key: str, target: Target, kept: set[str]) -> list[float]:
        """
        Take away what the application does not want any more.

        Returns seconds until something else is to be done.
        """
        rests = []
        for pool in self._context.pools.by_index(OF_APPLICATION, key):
            name = pool.metadata.name
            rests.append(await self._claims.drop(pool))
            if (
                name in kept
                or not Pool.parse(pool).reclaim
                or pool.metadata.deletion_timestamp is not None
            ):
                continue
            mine = pool.metadata.labels.get(LABEL_OWNER_APP_UID) == target.app.owner.uid
            if mine and self._is_wanted(target, pool):
                continue  # its subnet cannot serve now
            if mine and any(
                record.held_by_workload for record in self._context.records.by_index(BY_POOL, name)
            ):
                self._busy[name] = key  # pods of the former template still have addresses there
            else:
                await self._delete(pool)
        await self._drop_grants(key, kept)
        return [rest for rest in rests if rest is not None]

    def _is_wanted(self, target: Target, pool: SpiderIPPool) -> bool:
        """Return whether an application's template asks for this very pool."""
        places = [
            target.app.place(slot.subnet, slot.nic, slot.family) for slot in self._slots(target)
        ]
        return Place.of_labels(pool.metadata.labels) in places

    async def _retire(self, key: str, *, gone: bool) -> bool:
        """
        Delete the pools of an application that is gone, unless they are to be kept.

        Returns:
            Whether an application that no pod tells of exists all the same: nobody would tell of
            its end.

        Source: docs/reference/automatic-pools.md#when-pools-go.
        """
        lives = False
        for pool in self._context.pools.by_index(OF_APPLICATION, key):
            await self._claims.drop(pool)
            if pool.metadata.deletion_timestamp is not None or not Pool.parse(pool).reclaim:
                continue
            if await self._is_gone(pool, gone=gone):
                await self._delete(pool)
            else:
                lives = True
        await self._drop_grants(key, set())
        return lives

    async def _is_gone(self, pool: SpiderIPPool, *, gone: bool) -> bool:
        """Make sure, live where that is possible, that the application of a pool does not exist."""
        labels = pool.metadata.labels
        owner = Application(
            api_version=labels.get(LABEL_OWNER_APP_GV, "").replace("_", "/"),
            kind=labels.get(LABEL_OWNER_APP_KIND, ""),
            name=self._full_name(pool),
            uid=labels.get(LABEL_OWNER_APP_UID, ""),
        )
        namespace = labels.get(LABEL_OWNER_APP_NAMESPACE, "")
        if (owner.api_version, owner.kind) in NATIVE:
            return not await self._natives.exists(owner, namespace)
        exists = await self._foreigns.exists(owner, namespace)
        return gone if exists is None else not exists

    def _full_name(self, pool: SpiderIPPool) -> str:
        """
        Return the name of a pool's application.

        A label may have its hash, the subnet's status has it in full.
        """
        for entry in self._ledger.all():
            grant = entry.subnet.grants.get(pool.metadata.name)
            if grant is not None and grant.application is not None:
                return grant.application.rpartition("_")[2]
        return pool.metadata.labels[LABEL_OWNER_APP_NAME]

    async def _delete(self, pool: SpiderIPPool) -> None:
        """Delete a pool; it goes when its last address is released."""
        self._shrinking.discard(pool.metadata.name)
        try:
            await self._context.cluster.delete(
                SpiderIPPool, pool.metadata.name, uid=pool.metadata.uid
            )
        except NotFound:
            return

    async def _drop_grants(self, key: str, kept: Iterable[str]) -> None:
        """Take back the grants of this application's pools that do not and should not exist."""
        for known in self._ledger.all():
            if not self._stale(known, key, kept):
                continue
            async with self._ledger.open(known.subnet.name) as entry:
                if entry is None:
                    continue
                gone = {
                    name
                    for name in self._stale(entry, key, kept)
                    if not await self._exists(name, entry)
                }
                if gone:
                    grants = {
                        name: grant
                        for name, grant in entry.subnet.grants.items()
                        if name not in gone
                    }
                    await self._ledger.write(entry, grants)

    def _stale(self, entry: SubnetLedgerEntry, key: str, kept: Iterable[str]) -> list[str]:
        """
        Name the grants of an application that seem to have no pool.

        One of that name in another subnet is another one.
        """

        def seems_there(name: str) -> bool:
            pool = self._context.pools.named(name)
            return name in kept if pool is None else _is_under(pool, entry)

        mine = [
            name
            for name, grant in entry.subnet.grants.items()
            if grant.application and label_key_of(grant.application) == key
        ]
        return [name for name in mine if not seems_there(name)]

    async def _exists(self, name: str, entry: SubnetLedgerEntry) -> bool:
        """Ask the API server whether a pool of this name exists under a subnet."""
        pool = await if_exists(self._context.cluster.get_metadata(SpiderIPPool, name))
        return pool is not None and _is_under(pool, entry)


def _is_under(pool: KubeObject, entry: SubnetLedgerEntry) -> bool:
    """Return whether an automatic pool is of this subnet, by its label."""
    return pool.metadata.labels.get(LABEL_OWNER_SUBNET) == label_value(entry.subnet.name)


def _problem(entry: SubnetLedgerEntry | None, slot: Slot) -> str | None:
    """Say why a subnet cannot serve at all."""
    if entry is None:
        return f"SpiderSubnet {slot.subnet} does not exist; create it or correct the name"
    subnet = entry.subnet
    if subnet.broken is not None:
        return f"SpiderSubnet {slot.subnet} cannot be read: {subnet.broken}"
    if subnet.terminating:
        return f"SpiderSubnet {slot.subnet} is being deleted"
    if subnet.family != slot.family:
        return (
            f"SpiderSubnet {slot.subnet} has IPv{subnet.family} addresses, asked for are "
            f"IPv{slot.family}"
        )
    return None
