"""
The facts of an ADD, from informers: pools, reservations, namespaces, the node, its pods.

None of it grows with the cluster but the pools and namespaces. `FactSource` makes of it the `Facts`
that one ADD decides by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from spiderpool.addressing.sets import AddressSet
from spiderpool.agent.informers import BY_APPLICATION, Informers
from spiderpool.agent.node.caller import PodCall
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import Application
from spiderpool.api.kubernetes.core import Namespace, Node, Pod, StatefulSet
from spiderpool.configuration.config import Features
from spiderpool.errors import NotFound, TryAgain
from spiderpool.ipam.automatic_pool import App
from spiderpool.ipam.pod_request import Request
from spiderpool.kube.cluster import Change, Cluster, if_exists
from spiderpool.kube.readers.fact_reader import FactReader, Installed, PoolFacts, gather_facts
from spiderpool.kube.readers.reserved import ReservedAddresses
from spiderpool.kube.readers.top_owners import TopOwners
from spiderpool.model.facts import Facts
from spiderpool.model.pod import is_run_as
from spiderpool.model.pool import Pool, application_of


class PoolViews:
    """Pools and reservations as decisions want them, read again only when their objects change."""

    def __init__(self, informers: Informers) -> None:
        """
        Follow the informers from now on.

        Args:
            informers: of pools and reserved addresses.
        """
        self.pools: dict[str, Pool] = {
            pool.metadata.name: Pool.parse(pool) for pool in informers.pools
        }
        informers.pools.index(BY_APPLICATION, application_of)
        self._informers = informers
        self._reserved = ReservedAddresses(informers.reserved)
        informers.pools.subscribe(self._pool_changed)

    def _pool_changed(
        self, _change: Change, old: SpiderIPPool | None, new: SpiderIPPool | None
    ) -> None:
        # A new dict each time: an ADD that runs keeps the one that it began with.
        if new is not None:
            self.pools = {**self.pools, new.metadata.name: Pool.parse(new)}
        elif old is not None:
            self.pools = {
                name: pool for name, pool in self.pools.items() if name != old.metadata.name
            }

    @property
    def reserved(self) -> Mapping[int, AddressSet]:
        """The reserved addresses by family."""
        return self._reserved.by_family

    def of_application(self, key: str) -> tuple[Pool, ...]:
        """Return the automatic pools of an application, by its key in label form."""
        found = (
            self.pools.get(pool.metadata.name)
            for pool in self._informers.pools.by_index(BY_APPLICATION, key)
        )
        return tuple(pool for pool in found if pool is not None)


@dataclass(frozen=True, slots=True)
class InformerReader:
    """Reads facts from the agent's informers, live where they do not know enough."""

    cluster: Cluster
    informers: Informers
    views: PoolViews

    async def node(self, name: str) -> Node | None:
        """Return this agent's node; no other one is known."""
        return self.informers.node.named(name)

    async def namespace(self, name: str) -> Namespace | None:
        """Return a namespace; one that is so new that the informer does not have it is read."""
        return self.informers.namespaces.named(name) or await self.cluster.get(Namespace, name)

    async def statefulset(self, name: str, namespace: str) -> StatefulSet | None:
        """Read a StatefulSet: few pods need theirs, so the agent does not watch them."""
        return await if_exists(self.cluster.get(StatefulSet, name, namespace))

    async def pools(self, application: str) -> PoolFacts:
        """Return the pools as they are now."""
        return PoolFacts(self.views.pools, self.views.of_application(application))

    async def reserved(self) -> Mapping[int, AddressSet]:
        """Return the reserved addresses as they are now."""
        return self.views.reserved


class FactSource:
    """Reads the facts of one ADD: from the informers, live where they do not know enough."""

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        features: Features,
        *,
        node: str,
        agent_namespace: str,
        default_network: str | None,
    ) -> None:
        """
        Join what facts are made of.

        Args:
            cluster: for live reads.
            informers: synced before the first call.
            features: the switches of the configuration.
            node: name of this agent's node.
            agent_namespace: where networks without a namespace are.
            default_network: the cluster's default network, None without a meta plugin.
        """
        self._cluster = cluster
        self._informers = informers
        self._installed = Installed(features, agent_namespace, default_network)
        self._node = node
        self._views = PoolViews(informers)
        self._reader: FactReader = InformerReader(cluster, informers, self._views)
        self.owners = TopOwners(cluster)

    @property
    def features(self) -> Features:
        """The switches of the configuration."""
        return self._installed.features

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools as they are now."""
        return self._views.pools

    @property
    def reserved(self) -> Mapping[int, AddressSet]:
        """The addresses of SpiderReservedIPs as they are now, by family."""
        return self._views.reserved

    async def gather(self, call: PodCall, request: Request) -> Facts:
        """Read everything that deciding an ADD looks at."""
        pod = await self.find_pod(call)
        facts = await gather_facts(self._reader, self._installed, pod, await self.owner_of(pod))
        return replace(facts, master_addresses=request.master_addresses)

    async def automatic_changed(self, facts: Facts, timeout_s: float) -> bool:
        """
        Wait until the pod's application has other automatic pools than the facts say.

        False when the time is over.
        """
        key = App(facts.owner, facts.pod.metadata.namespace).label_key
        changed = await self._informers.pools.wait_for(
            lambda _: self._views.of_application(key) != facts.automatic or None, timeout_s
        )
        return changed is not None

    async def find_pod(self, call: PodCall) -> Pod:
        """
        Return the pod that a call is about.

        Raises `TryAgain` when the API knows another one of that name.
        """
        pod = self._informers.pods.named(call.name, call.namespace)
        if pod is None or pod.metadata.uid != call.uid:
            pod = await self.read_pod(call)
        if call.uid and not is_run_as(pod, call.uid):
            raise TryAgain(
                f"pod {call}: the runtime starts UID {call.uid}, the API has UID "
                f"{pod.metadata.uid}; one of them is out of date, the runtime will try again"
            )
        if pod.spec.node_name != self._node:
            where = (
                f"bound to node {pod.spec.node_name}"
                if pod.spec.node_name
                else "not bound to a node yet"
            )
            raise TryAgain(f"pod {call} is {where}, this agent serves node {self._node}")
        return pod

    async def read_pod(self, call: PodCall) -> Pod:
        """Read a pod live; raises `NotFound`."""
        try:
            pod = await self._cluster.get(Pod, call.name, call.namespace)
        except NotFound:
            known = self._informers.pods.named(call.name, call.namespace)
            if known is not None:
                self._informers.pods.forget(known)
            raise NotFound(f"pod {call} does not exist") from None
        if pod.spec.node_name == self._node:
            self._informers.pods.remember(pod)
        return pod

    async def owner_of(self, pod: Pod) -> Application:
        """Return the application that a pod belongs to."""
        return await self.owners.of(pod)
