"""
When things come back: a living pod whose record is missing is given its record again.

Looked at when the agent starts, every ten minutes, when a pool appears (a reinstallation: pods run,
records and pools are made again), and whenever a record vanishes that this agent did not delete: a
restored backup of etcd, a record deleted by hand. What cannot be made now is tried again for as
long as the pod lives. If somebody else has the address by now, that is told, and nothing is
changed.

Source: docs/reference/release-and-reclaim.md#restoring-lost-records.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.agent.informers import BY_UID, Informers
from spiderpool.agent.reconcile.sightings import Look
from spiderpool.agent.records.releases import Deletions
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import LABEL_NODE
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import Application, IPState, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.configuration.config import Features
from spiderpool.errors import AlreadyExists, SpiderpoolError, TryAgain, UnknownOutcome
from spiderpool.kube.backoff import Backoff
from spiderpool.kube.cluster import Change, Cluster, if_exists
from spiderpool.kube.readers.top_owners import TopOwners
from spiderpool.model.claim import ClaimKey, slot_of
from spiderpool.model.label_values import label_value
from spiderpool.model.pod import full_name, is_alive
from spiderpool.model.pool import Pool
from spiderpool.records.build import pod_holder, put_in_place, record_of
from spiderpool.records.lost_records import NICAddress, lost_records, lost_text, unrecorded

ROUND_S: Final = 600.0  # the interval of the controller's scan, by default
POOLS_S: Final = 5.0  # pools come in numbers, and one look serves all

log = structlog.get_logger(__name__)

Lost = Callable[[Pod, str], None]


class Restore:
    """Claims again what living pods of this node have and no record says."""

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        owners: TopOwners,
        deletions: Deletions,
        *,
        node: str,
        features: Features,
        pools: Callable[[], Mapping[str, Pool]],
        pod_locks: KeyedLock,
        look: Look,
        on_lost: Lost,
    ) -> None:
        """
        Follow records and pools from now on.

        Args:
            cluster: the store.
            informers: this node's pods and records, and all pools.
            owners: top owners of pods.
            deletions: what this agent deleted itself.
            node: name of this agent's node.
            features: the switches of the configuration.
            pools: gives the pools as they are now.
            pod_locks: a pod's record is not made while an ADD of the pod runs.
            look: into the namespaces of this node's pods.
            on_lost: told of each address that somebody else has, and in which words.
        """
        self._cluster = cluster
        self._informers = informers
        self._owners = owners
        self._deletions = deletions
        self._node = node
        self._features = features
        self._pools = pools
        self._pod_locks = pod_locks
        self._look = look
        self._on_lost = on_lost
        self._vanished: dict[str, SpiderIP] = {}  # by name, until its pod has it again or is gone
        self._endpoints: dict[tuple[str, str], SpiderEndpoint] = {}
        self._addresses: dict[str, tuple[NICAddress, ...]] = {}
        self._due: dict[str, float] = {}  # pods by UID
        self._backoffs: dict[str, Backoff] = {}
        self._round_s = 0.0
        self._in_round = False
        self._pools_s = math.inf
        self._news = asyncio.Event()
        self.looked = asyncio.Event()  # set once every pod was looked at
        informers.records.subscribe(self._follow)
        informers.pools.subscribe(self._follow_pools)

    async def run(self) -> None:
        """
        Look at all pods now and from time to time, and at each whose record vanishes.

        Ends by being cancelled.
        """
        self._round_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            if now_s >= self._pools_s:
                await self._see_pools()
            if now_s >= self._round_s:
                await self._begin_round()
            for uid in [uid for uid, due_s in self._due.items() if due_s <= now_s]:
                await asyncio.sleep(0)
                await self._try(uid)
            if self._in_round and not self._due:
                # of no use any more: what vanishes from now on is known by its own record
                self._in_round, self._endpoints, self._addresses = False, {}, {}
                self.looked.set()
            await self._wait()

    async def _wait(self) -> None:
        """Wait until something is due, or may be."""
        next_s = min(self._round_s, self._pools_s, *self._due.values())
        try:
            async with asyncio.timeout(max(0.0, next_s - time.monotonic())):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    # --- what makes us look

    def _follow(self, change: Change, old: SpiderIP | None, _new: SpiderIP | None) -> None:
        if (
            change is Change.DELETED
            and old is not None
            and old.held
            and old.metadata.uid not in self._deletions
        ):
            self._vanished[old.metadata.name] = old
            self._due[old.spec.holder.uid] = time.monotonic()
            self._news.set()

    def _follow_pools(self, _: Change, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        if new is not None and (old is None or old.spec.ips != new.spec.ips):
            self._pools_s = min(self._pools_s, time.monotonic() + POOLS_S)
            self._news.set()

    async def _see_pools(self) -> None:
        """Look at all pods if one has an address of a pool and no record for it."""
        self._pools_s = math.inf
        addresses = await self._look_at_interfaces()
        pools = tuple(self._pools().values())
        for pod in tuple(self._informers.pods):
            await asyncio.sleep(0)  # many pods, many pools: CNI calls run in between
            mine = addresses.get(pod.metadata.uid, ())
            if needs_records(pod) and unrecorded(mine, self._held_by(pod), pools):
                self._round_s = 0.0
                return

    async def _begin_round(self) -> None:
        """Read what is needed for a look at all pods, in one call: most pods have lost nothing."""
        try:
            listing = await self._cluster.list_objects(
                SpiderEndpoint, labels=f"{LABEL_NODE}={label_value(self._node)}"
            )
        except SpiderpoolError as error:
            log.warning("the endpoints of this node cannot be read now", reason=error.message)
            backoff = self._backoffs.setdefault("", Backoff())
            self._round_s = time.monotonic() + backoff.next_s(error)
            return
        self._endpoints = {endpoint.key: endpoint for endpoint in listing.items}
        self._addresses = await self._look_at_interfaces()
        self._backoffs.pop("", None)
        self._in_round = True
        # not all nodes at the same time
        self._round_s = time.monotonic() + Backoff(ROUND_S, ROUND_S).next_s()
        for pod in self._informers.pods:
            self._due.setdefault(pod.metadata.uid, time.monotonic())

    # --- what we do

    async def _try(self, uid: str) -> None:
        """
        Look at one pod; later again while the API server cannot.

        What is refused is told, and looked at in the next round.
        """
        pod = next((pod for pod in self._informers.pods if pod.metadata.uid == uid), None)
        if pod is None or not needs_records(pod):
            self._forget(uid)
            return
        try:
            await self._look_at(pod)
        except TryAgain as error:
            backoff = self._backoffs.setdefault(uid, Backoff())
            self._due[uid] = time.monotonic() + backoff.next_s(error)
            return
        except SpiderpoolError as error:
            log.warning(
                "a pod's record cannot be made again", pod=full_name(pod), reason=error.message
            )
        except Exception:  # one bad object must not end the restore of others
            log.exception("a pod's record cannot be made again", pod=full_name(pod))
        self._due.pop(uid, None)
        self._backoffs.pop(uid, None)

    def _forget(self, uid: str) -> None:
        """Forget a pod that is gone, or has ended."""
        self._due.pop(uid, None)
        self._backoffs.pop(uid, None)
        for name in [n for n, r in self._vanished.items() if r.spec.holder.uid == uid]:
            del self._vanished[name]

    async def _look_at(self, pod: Pod) -> None:
        """Claim again what a pod has and no record says."""
        vanished = [
            record
            for record in self._vanished.values()
            if record.spec.holder.uid == pod.metadata.uid
        ]
        lost = await self._lost(pod)
        if not vanished and not lost:
            return  # without the lock: a call that waits for a first address may do that for long
        failure: SpiderpoolError | None = None
        async with self._pod_locks.of(pod.key):
            live = await self._live(pod)
            if live is None:
                return
            for record in (*vanished, *lost):
                try:
                    await self._settle(record, live)
                except SpiderpoolError as error:
                    failure = failure if isinstance(failure, TryAgain) else error
        if failure is not None:
            raise failure

    async def _settle(self, record: SpiderIP, pod: Pod) -> None:
        """Claim one record again; one that vanished from this node's informer may be elsewhere."""
        name = record.metadata.name
        if self._vanished.get(name) is not record:
            await self._claim(record, pod)
            return
        if await if_exists(self._cluster.get(SpiderIP, name)) is None:
            await self._claim(record_of(record.spec), pod)
        if self._vanished.get(name) is record:
            del self._vanished[name]

    async def _lost(self, pod: Pod) -> tuple[SpiderIP, ...]:
        """Return the records that a pod should have beside its own, by all that shows them."""
        held = self._held_by(pod)
        addresses = self._addresses.get(pod.metadata.uid, ())
        pools = tuple(self._pools().values())
        missing = unrecorded(addresses, held, pools)
        name = held[0].spec.holder.name if held else ""
        endpoint = self._endpoints.get((pod.metadata.namespace, name or pod.metadata.name))
        if held and endpoint is None and not missing:
            return ()  # its endpoint is about to be written from its records
        owner = (held[0].spec.holder.owner if held else None) or await self._owners.of(pod)
        if endpoint is None and (missing or not self.looked.is_set()):
            # of a former version, without the label; a virtual machine's has another name
            endpoint = await self._endpoint_of(pod, owner)
        return lost_records(
            pod,
            owner,
            self._features,
            held=held,
            endpoint=endpoint if endpoint is not None and _is_of(endpoint, pod) else None,
            in_use=addresses,
            pools=pools,
        )

    def _held_by(self, pod: Pod) -> list[SpiderIP]:
        return [
            record
            for record in self._informers.records.by_index(BY_UID, pod.metadata.uid)
            if record.held
        ]

    def _has_slot(self, pod: Pod, record: SpiderIP) -> bool:
        """Return whether a pod has a record for the NIC and family of another one."""
        return slot_of(record) in map(slot_of, self._held_by(pod))

    async def _look_at_interfaces(self) -> dict[str, tuple[NICAddress, ...]]:
        """
        Look what the interfaces of pods have, by UID.

        Nothing that can be made use of when that cannot be seen.
        """
        try:
            in_use = await self._look()
        except (SpiderpoolError, OSError) as error:
            log.warning("the namespaces of this node cannot be looked into now", reason=str(error))
            return {}
        addresses: dict[str, tuple[NICAddress, ...]] = {}
        for each in in_use:
            found = (*addresses.get(each.pod_uid, ()), *each.pairs)
            addresses[each.pod_uid] = tuple(sorted(found, key=lambda pair: (pair[0], str(pair[1]))))
        return addresses

    async def _live(self, pod: Pod) -> Pod | None:
        """
        Read a pod live.

        The watch may be late, and nobody gives back what is claimed for a pod whose DEL is over.
        """
        live = await if_exists(self._cluster.get(Pod, pod.metadata.name, pod.metadata.namespace))
        return (
            live
            if live is not None and live.metadata.uid == pod.metadata.uid and needs_records(live)
            else None
        )

    async def _endpoint_of(self, pod: Pod, owner: Application) -> SpiderEndpoint | None:
        name = pod_holder(pod, owner, self._features, "").name
        endpoint = await if_exists(self._cluster.get(SpiderEndpoint, name, pod.metadata.namespace))
        return endpoint if endpoint is not None and _is_of(endpoint, pod) else None

    async def _claim(self, record: SpiderIP, pod: Pod) -> None:
        """
        Create a record again, or tell who has its address.

        What an ADD claimed meanwhile stands.
        """
        if self._has_slot(pod, record):
            return
        try:
            made = await self._cluster.create(record)
        except (AlreadyExists, UnknownOutcome) as error:
            found = await if_exists(self._cluster.get(SpiderIP, record.metadata.name))
            if found is None:
                raise TryAgain(f"record {record.metadata.name} was not made: {error}") from error
            made = found
            if made.spec.state is IPState.COOLING:
                # The last holder has let it go; this pod has it.
                made = await self._cluster.replace(put_in_place(made, record))
            if made.spec.holder.uid != pod.metadata.uid:
                if not _is_handed_over(record, made):
                    self._on_lost(pod, lost_text(record, made, pod))
                return
        self._informers.records.remember(made)
        log.info("record made again", ip=made.spec.ip, pod=full_name(pod))


def _is_handed_over(record: SpiderIP, found: SpiderIP) -> bool:
    """Return whether a fixed address is with its holder's next pod, as while a machine migrates."""
    return record.spec.static and ClaimKey.of_record(record) == ClaimKey.of_record(found)


def _is_of(endpoint: SpiderEndpoint, pod: Pod) -> bool:
    """Return whether an endpoint tells of this pod, and not of a former one of its name."""
    return endpoint.status is not None and endpoint.status.current.uid == pod.metadata.uid


def needs_records(pod: Pod) -> bool:
    """Return whether a pod can have addresses of its own."""
    return is_alive(pod) and not pod.spec.host_network and bool(pod.spec.node_name)
