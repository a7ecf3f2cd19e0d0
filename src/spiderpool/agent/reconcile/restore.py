"""
When things come back: a living pod whose record is missing is given its record again.

Looked at when the agent starts, and whenever a record vanishes that this agent did not delete: a
restored backup of etcd, a record deleted by hand. If somebody else has the address by now, that is
told, and nothing is changed.

Source: docs/reference/release-and-reclaim.md#restoring-lost-records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import Any

import structlog

from spiderpool.addressing.ranges import parse_address
from spiderpool.addressing.sets import IPAddress
from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.agent.reconcile.leak_checks import Look
from spiderpool.agent.records.deletions import Deletions
from spiderpool.agent.records.informers import BY_UID, Informers
from spiderpool.api.crd.endpoint import EndpointIP, SpiderEndpoint
from spiderpool.api.crd.group import LABEL_NODE
from spiderpool.api.crd.spiderip import Application, IPState, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    SpiderpoolError,
    TryAgain,
    UnknownOutcome,
)
from spiderpool.kube.backoff import Backoff
from spiderpool.kube.cluster import Change, Cluster, if_exists
from spiderpool.kube.top_owners import TopOwners
from spiderpool.model.claim import slot_of
from spiderpool.model.config import Features
from spiderpool.model.labels import label_value
from spiderpool.model.pod import full_name, is_alive, is_static
from spiderpool.model.pool import Pool
from spiderpool.records.build import nic_record, pod_holder, pool_record, put_in_place, record_of

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
        Follow the records from now on.

        Args:
            cluster: the store.
            informers: this node's pods and records.
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
        self._endpoints: dict[tuple[str, str], SpiderEndpoint] = {}
        self._pools = pools
        self._pod_locks = pod_locks
        self._look = look
        self._on_lost = on_lost
        self._vanished: asyncio.Queue[SpiderIP] = asyncio.Queue()
        self.looked = asyncio.Event()  # set once every pod was looked at
        informers.records.subscribe(self._follow)

    async def run(self) -> None:
        """Look at all pods once, then at each record that vanishes; ends by being cancelled."""
        await self._persist(self._list_endpoints)
        for pod in tuple(self._informers.pods):
            await self._persist(partial(self._look_at, pod))
        # of no use any more: what vanishes from now on is known by its own record
        self._endpoints.clear()
        self.looked.set()
        while True:
            record = await self._vanished.get()
            await self._persist(partial(self._look_for, record))

    def _follow(self, change: Change, old: SpiderIP | None, _new: SpiderIP | None) -> None:
        if (
            change is Change.DELETED
            and old is not None
            and old.held
            and old.metadata.uid not in self._deletions
        ):
            self._vanished.put_nowait(old)

    async def _persist(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """
        Do one piece of work, later again while the API server cannot.

        What is refused is told and left.
        """
        backoff = Backoff()
        while True:
            try:
                await work()
            except TryAgain as error:
                await asyncio.sleep(backoff.next_s(error))
            except SpiderpoolError as error:
                log.warning("a pod's record cannot be made again", reason=error.message)
                return
            except Exception:  # one bad object must not end the restore of others
                log.exception("a pod's record cannot be made again")
                return
            else:
                return

    async def _look_at(self, pod: Pod) -> None:
        """Claim again what a pod was given according to its endpoint, or if it has no record at all, to its status."""
        if not needs_records(pod):
            return
        records = await self._remembered(pod)
        if not records:
            return  # without a turn: whoever waits for a first address may do that for long
        async with self._pod_locks.of(pod.key):
            live = await self._live(pod)
            if live is not None:
                for record in records:
                    await self._claim(record, live)

    async def _list_endpoints(self) -> None:
        """Read the endpoints of this node's pods in one call: most pods have lost nothing."""
        listing = await self._cluster.list_objects(
            SpiderEndpoint, labels=f"{LABEL_NODE}={label_value(self._node)}"
        )
        self._endpoints = {endpoint.key: endpoint for endpoint in listing.items}

    async def _remembered(self, pod: Pod) -> tuple[SpiderIP, ...]:
        """Make the records that a pod should have, as far as something tells of them."""
        held = self._held_by(pod)
        # without an endpoint it is about to be written from them; the pod's status tells less than
        # they do
        if held:
            holder = held[0].spec.holder
            known = self._endpoints.get((holder.namespace, holder.name))
            if known is None or not _is_of(known, pod):
                return ()
            told = records_of_endpoint(
                known, pod, holder.owner or await self._owners.of(pod), self._features
            )
            lost = tuple(record for record in told if not self._has_slot(pod, record))
            in_use = await self._in_use_by(pod) if lost else frozenset()
            # a hand may have edited the endpoint
            return tuple(record for record in lost if record.spec.address in in_use)
        owner = await self._owners.of(pod)
        endpoint = await self._endpoint_of(pod, owner)
        if endpoint is not None:
            return records_of_endpoint(endpoint, pod, owner, self._features)
        return records_of_status(pod, owner, self._features, self._pools().values())

    async def _look_for(self, record: SpiderIP) -> None:
        """
        Claim a vanished record again if its pod lives.

        One that went to another node still exists.
        """
        holder = record.spec.holder
        pod = next((pod for pod in self._informers.pods if pod.metadata.uid == holder.uid), None)
        if pod is None or not needs_records(pod):
            return
        async with self._pod_locks.of(pod.key):
            try:
                await self._cluster.get(SpiderIP, record.metadata.name)
            except NotFound:
                live = await self._live(pod)
                if live is not None:
                    await self._claim(record_of(record.spec), live)

    def _held_by(self, pod: Pod) -> list[SpiderIP]:
        return [
            record
            for record in self._informers.records.by_index(BY_UID, pod.metadata.uid)
            if record.held
        ]

    def _has_slot(self, pod: Pod, record: SpiderIP) -> bool:
        """Return whether a pod has a record for the NIC and family of another one."""
        return slot_of(record) in map(slot_of, self._held_by(pod))

    async def _in_use_by(self, pod: Pod) -> frozenset[IPAddress]:
        """
        Look what a pod's interfaces wear.

        Nothing that can be made use of when that cannot be seen.
        """
        try:
            in_use = await self._look()
        except (SpiderpoolError, OSError) as error:
            log.warning("the namespaces of this node cannot be looked into now", reason=str(error))
            return frozenset()
        return frozenset(
            ip for each in in_use if each.pod_uid == pod.metadata.uid for _, ip in each.pairs
        )

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
        except (AlreadyExists, UnknownOutcome):
            made = await self._cluster.get(SpiderIP, record.metadata.name)
            if made.spec.state is IPState.COOLING:
                # Whoever had it last has let it go; this pod wears it.
                made = await self._cluster.replace(put_in_place(made, record))
            if made.spec.holder.uid != pod.metadata.uid:
                self._on_lost(pod, lost_text(record, made, pod))
                return
        self._informers.records.remember(made)
        log.info("record made again", ip=made.spec.ip, pod=full_name(pod))


def _is_of(endpoint: SpiderEndpoint, pod: Pod) -> bool:
    """Return whether an endpoint tells of this pod, and not of a former one of its name."""
    return endpoint.status is not None and endpoint.status.current.uid == pod.metadata.uid


def needs_records(pod: Pod) -> bool:
    """Return whether a pod can have addresses of its own."""
    return is_alive(pod) and not pod.spec.host_network and bool(pod.spec.node_name)


def records_of_endpoint(
    endpoint: SpiderEndpoint, pod: Pod, owner: Application, features: Features
) -> tuple[SpiderIP, ...]:
    """
    Make the records that an endpoint tells of.

    Raises `InvalidRequest` for one that somebody edited into nonsense.
    """
    nics = endpoint.status.current.ips if endpoint.status else ()
    try:
        return tuple(
            _record_of_nic(nic, ip_interface(address), pool, pod, owner, features)
            for nic in nics
            for address, pool in ((nic.ipv4, nic.ipv4_pool), (nic.ipv6, nic.ipv6_pool))
            if address and pool
        )
    except ValueError as error:
        raise InvalidRequest(
            f"SpiderEndpoint {'/'.join(endpoint.key)} cannot be read: {error}"
        ) from error


def records_of_status(
    pod: Pod, owner: Application, features: Features, pools: Iterable[Pool]
) -> tuple[SpiderIP, ...]:
    """
    Make records for the addresses in a pod's status that lie in a pool.

    The status tells of the first interface only; which pool gave the address is known when just one
    has it.
    """
    found = []
    candidates = tuple(pools)
    for text in (ip.ip for ip in pod.status.pod_ips if ip.ip):
        ip = parse_address(text)
        homes = [pool for pool in candidates if ip in pool.total]
        if len(homes) == 1:
            holder = pod_holder(pod, owner, features, "eth0")
            found.append(pool_record(homes[0], ip, holder, static=is_static(owner, features)))
    return tuple(found)


def lost_text(record: SpiderIP, found: SpiderIP, pod: Pod) -> str:
    """Say who has the address that a living pod uses."""
    theirs = found.spec.holder
    return (
        f"{record.spec.ip} on {record.spec.holder.nic} of pod {full_name(pod)} is held by {theirs.namespace}/{theirs.name} "
        f"on node {theirs.node or '(none)'}; two pods may use it: delete one of them"
    )


def _record_of_nic(
    nic: EndpointIP,
    interface: IPv4Interface | IPv6Interface,
    pool: str,
    pod: Pod,
    owner: Application,
    features: Features,
) -> SpiderIP:
    """Return the record of one address of a NIC; raises `ValueError` for routes that are none."""
    for route in nic.routes:
        ip_network(route.dst, strict=False)
    holder = pod_holder(pod, owner, features, nic.interface)
    static = is_static(owner, features)
    return nic_record(nic, interface.ip, interface.network.prefixlen, pool, holder, static=static)
