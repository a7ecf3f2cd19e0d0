"""
Reclaim of addresses whose pods are gone.

A record is suspected when the mirror of pods does not know its pod. The node's own DEL is usually on its way, and the node is
the one that knows: so the record is judged some seconds later, from live objects, and deleted on condition that nobody changed
it since it was suspected. Rules for lost nodes and pods that hang in deletion come on top of this in `_judge`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar, assert_never

import structlog

from spiderpool.api.core import PartialObject, Pod, StatefulSet
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.meta import KubeObject
from spiderpool.api.spiderip import HolderKind, IPState, SpiderIP
from spiderpool.controller.loop import Loop
from spiderpool.controller.machines import VirtualMachine, VirtualMachineInstance
from spiderpool.controller.world import BY_HOLDER, World
from spiderpool.errors import Conflict, NotFound
from spiderpool.ipam.reclaim import NO_OWNERS, Action, HolderOwners, Verdict, judge_leak, statefulset_name
from spiderpool.kube.cluster import Change
from spiderpool.model.pool import Pool, is_imported

T = TypeVar("T", bound=KubeObject)

SECOND_LOOK_S: Final = 5.0
RECORDS: Final = "records"
ENDPOINTS: Final = "endpoints"
QUARANTINE_S: Final = 300.0  # long enough for whoever wears the address to be found, short enough to heal by itself
STATEFUL_LOOK_S: Final = 60.0  # a StatefulSet that is scaled down while its pod is away makes no event that we follow

log = structlog.get_logger("spiderpool.controller")


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Since when a record is suspected, and at which state of it."""

    uid: str
    resource_version: str
    since: float


class Reclaim:
    """Gives back the addresses of pods that are gone; static holders are judged by their owner."""

    def __init__(
        self,
        world: World,
        *,
        count: Callable[[bool], None],
        workers: int = 1,
        scan_s: float = 600.0,
        enabled: bool = True,
        additional_grace_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Prepare.

        Args:
            world: mirrors and door.
            count: told of each reclaimed address (True) and of each attempt that failed (False).
            workers: records judged at the same time.
            scan_s: seconds between two looks at everything.
            enabled: whether addresses that are held are looked at; those that cool always are.
            additional_grace_s: seconds on top of those between first and second look.
            clock: monotonic seconds.
        """
        self._world = world
        self._count = count
        self._enabled = enabled
        self._second_look_s = SECOND_LOOK_S + additional_grace_s
        self._clock = clock
        self._suspicions: dict[str, Suspicion] = {}
        self._scan_s = scan_s
        self.loop = Loop("reclaim", self._reconcile, workers=workers, clock=clock)
        self.rounds = Loop("reclaim rounds", self._round, clock=clock)

    def start(self) -> None:
        """Follow records and pods, and look at everything now and from time to time."""
        self._world.follow(self._world.records, self._on_record)
        self._world.follow(self._world.pods, self._on_pod)
        self.rounds.add(RECORDS)
        self.rounds.add(ENDPOINTS)

    async def _round(self, key: str) -> float:
        """Look at everything of one kind: leadership begins with it, and it is repeated in case an event was missed."""
        if key == RECORDS:
            for record in self._world.records:
                self._suspect(record)
        else:
            await self._drop_orphans()
        return self._scan_s

    def _on_record(self, _: Change, __: SpiderIP | None, new: SpiderIP | None) -> None:
        """A record came or changed; a new pod's record may come before its pod, which the second look clears up."""
        if new is not None:
            self._suspect(new)

    def _on_pod(self, _: Change, old: PartialObject | None, new: PartialObject | None) -> None:
        """A pod went, or another one has its name."""
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            for record in self._world.records.by_index(BY_HOLDER, old.key):
                self._suspect(record)

    def _suspect(self, record: SpiderIP) -> None:
        """Queue a record whose pod the mirror does not know."""
        if self._is_suspect(record):
            self.loop.add(record.metadata.name)

    def _is_suspect(self, record: SpiderIP) -> bool:
        """Whether a record's pod is missing in the mirror; machines have no pod of their name, so they always are."""
        holder = record.spec.holder
        if record.spec.state is not IPState.HELD:
            return True
        if holder.kind is HolderKind.POOL or not self._enabled:
            return False
        pod = self._world.pods.named(holder.name, holder.namespace)
        return pod is None or pod.metadata.uid != holder.uid

    async def _reconcile(self, name: str) -> float | None:
        """Look at one record: note a suspicion, and after some time, if it still stands, judge it from live objects."""
        record = self._world.records.named(name)
        if record is None or not self._is_suspect(record):
            self._suspicions.pop(name, None)
            return None
        rest = self._rest_s(record)
        if rest > 0:
            return rest
        verdict = await self._judge(record)
        if verdict.action is Action.RELEASE:
            await self._release(record, verdict)
            return None
        self._suspicions.pop(name, None)
        return STATEFUL_LOOK_S if record.spec.static and record.spec.holder.kind is HolderKind.POD else None

    def _rest_s(self, record: SpiderIP) -> float:
        """Tell how long it is until the second look; a record that changed since the first begins anew."""
        name, meta, now = record.metadata.name, record.metadata, self._clock()
        first = self._suspicions.get(name)
        if first is None or (first.uid, first.resource_version) != (meta.uid, meta.resource_version):
            first = self._suspicions[name] = Suspicion(meta.uid, meta.resource_version, now)
        return first.since + self._patience_s(record) - now

    def _patience_s(self, record: SpiderIP) -> float:
        """Tell how long an address that nobody seems to hold rests, by its state."""
        match record.spec.state:
            case IPState.HELD:
                return self._second_look_s
            case IPState.COOLING:
                return self._cool_down_s(record)
            case IPState.QUARANTINED:
                return QUARANTINE_S
            case other:
                assert_never(other)

    def _cool_down_s(self, record: SpiderIP) -> float:
        """Tell how long a released address rests; not at all when its pool does not give it any more."""
        pool = self._world.pools.named(record.spec.pool)
        parsed = None if pool is None else Pool.parse(pool)
        return parsed.cool_down_s if parsed is not None and record.spec.address in parsed.total else 0.0

    async def _judge(self, record: SpiderIP) -> Verdict:
        """Read the live objects that decide, and decide."""
        holder = record.spec.holder
        if record.spec.state is not IPState.HELD:
            return Verdict(Action.RELEASE, f"{record.spec.state} long enough")
        if holder.kind is HolderKind.VIRTUAL_MACHINE:
            return judge_leak(record, None, await self._machines(record))
        pod = await self._find(Pod, holder.name, holder.namespace)
        owners = await self._statefulset(record) if record.spec.static else NO_OWNERS
        return judge_leak(record, pod, owners)

    async def _statefulset(self, record: SpiderIP) -> HolderOwners:
        """Read the StatefulSet that a static pod's name tells."""
        name = statefulset_name(record)
        found = await self._find(StatefulSet, name, record.spec.holder.namespace) if name else None
        return HolderOwners(statefulset=found)

    async def _machines(self, record: SpiderIP) -> HolderOwners:
        """Read the virtual machine of the holder's name."""
        holder = record.spec.holder
        return HolderOwners(
            instance=await self._find_metadata(VirtualMachineInstance, holder.name, holder.namespace),
            machine=await self._find_metadata(VirtualMachine, holder.name, holder.namespace),
        )

    async def _release(self, record: SpiderIP, verdict: Verdict) -> None:
        """Delete a record on condition that it is the one that was judged."""
        meta = record.metadata
        try:
            await self._world.cluster.delete(SpiderIP, meta.name, uid=meta.uid, resource_version=meta.resource_version)
        except NotFound:
            self._world.records.forget(record)  # its own node was faster
        except Conflict:
            if record.held:
                self._count(False)
            raise
        else:
            if record.held:
                log.info("address reclaimed", ip=record.spec.ip, pool=record.spec.pool, reason=verdict.reason)
                self._count(True)
            self._world.records.forget(record)
        self._suspicions.pop(meta.name, None)
        if record.spec.static:
            await self._drop_endpoint(record)

    async def _drop_endpoint(self, record: SpiderIP) -> None:
        """Delete the endpoint of a static holder that has no address left; no pod owns it, so nobody else would."""
        holder = record.spec.holder
        if self._world.records.by_index(BY_HOLDER, (holder.namespace, holder.name)):
            return
        endpoint = await self._find(SpiderEndpoint, holder.name, holder.namespace)
        if endpoint is not None and not endpoint.metadata.owner_references:
            await self._delete_endpoint(endpoint)

    async def _drop_orphans(self) -> None:
        """
        Delete endpoints of static holders that have neither an address nor a pod (a crash after the last release).

        Not while pools wait to be taken over: their endpoints have no records yet.
        """
        if not all(is_imported(pool) for pool in self._world.pools):
            return
        listing = await self._world.cluster.list_objects(SpiderEndpoint)
        for endpoint in listing.items:
            owned = endpoint.metadata.owner_references or self._world.records.by_index(BY_HOLDER, endpoint.key)
            if not owned and self._world.pods.get(endpoint.key) is None:
                await self._drop_orphan(endpoint)

    async def _drop_orphan(self, endpoint: SpiderEndpoint) -> None:
        """Delete one such endpoint after a live look for its pod: mirrors may be late."""
        meta = endpoint.metadata
        if await self._find(Pod, meta.name, meta.namespace) is None:
            await self._delete_endpoint(endpoint)

    async def _delete_endpoint(self, endpoint: SpiderEndpoint) -> None:
        """Delete an endpoint on condition that it is the one that was looked at."""
        meta = endpoint.metadata
        try:
            await self._world.cluster.delete(
                SpiderEndpoint, meta.name, meta.namespace, uid=meta.uid, resource_version=meta.resource_version
            )
        except (NotFound, Conflict):
            return  # gone, or in use again

    async def _find(self, kind: type[T], name: str, namespace: str) -> T | None:
        """Read an object live, None when it does not exist."""
        try:
            return await self._world.cluster.get(kind, name, namespace)
        except NotFound:
            return None

    async def _find_metadata(self, kind: type[KubeObject], name: str, namespace: str) -> PartialObject | None:
        """Read an object's metadata live, None when it does not exist."""
        try:
            return await self._world.cluster.get_metadata(kind, name, namespace)
        except NotFound:
            return None
