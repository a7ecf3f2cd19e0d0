"""
Reading the facts of an ADD: one gatherer over a small port.

The agent reads from its informers, `spiderpoolctl explain` live from the API server. What is read,
and what becomes of it, is the same for both, so that both decide alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.group import ANNO_NETWORKS
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import Application
from spiderpool.api.kubernetes.core import Namespace, Node, Pod, StatefulSet
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.configuration.config import Features
from spiderpool.ipam.automatic_pool import App
from spiderpool.ipam.exact_addresses import needs_position
from spiderpool.kube.cluster import Cluster, if_exists
from spiderpool.model.facts import Facts
from spiderpool.model.network_selection import parse_networks
from spiderpool.model.pool import Pool
from spiderpool.model.reserved import read_reserved
from spiderpool.model.statefulset import position_of


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """All pools by name, and the automatic pools of the one application that was asked for."""

    by_name: Mapping[str, Pool]
    automatic: tuple[Pool, ...]


class FactReader(Protocol):
    """Where the facts about a pod are read; None = there is no such object."""

    async def node(self, name: str) -> Node | None:
        """Read the pod's node."""
        ...

    async def namespace(self, name: str) -> Namespace | None:
        """Read the pod's namespace."""
        ...

    async def statefulset(self, name: str, namespace: str) -> StatefulSet | None:
        """Read the StatefulSet of the pod."""
        ...

    async def pools(self, application: str) -> PoolFacts:
        """Read all pools; `application` is a key in label form."""
        ...

    async def reserved(self) -> Mapping[int, AddressSet]:
        """Read the reserved addresses by family."""
        ...


@dataclass(frozen=True, slots=True)
class Installed:
    """What the installation says, the same for all pods; the fields are those of `Facts`."""

    features: Features
    agent_namespace: str
    default_network: str | None


async def gather_facts(
    reader: FactReader, installed: Installed, pod: Pod, owner: Application
) -> Facts:
    """
    Read everything that deciding an ADD of a pod looks at.

    Args:
        reader: informers or live reads.
        installed: what the installation says.
        pod: the pod, which need not exist.
        owner: its top owner.

    Raises:
        InvalidRequest: the annotation of the pod's networks cannot be read.
        SpiderpoolError: what the reader raises.
    """
    node = await reader.node(pod.spec.node_name)
    namespace = await reader.namespace(pod.metadata.namespace)
    position = await _position_of(reader, pod, owner)
    reserved = await reader.reserved()
    pools = await reader.pools(App(owner, pod.metadata.namespace).label_key)
    return Facts(
        pod=pod,
        owner=owner,
        features=installed.features,
        node=node,
        namespace=namespace,
        pools=pools.by_name,
        automatic=pools.automatic,
        reserved=reserved,
        networks=parse_networks(
            pod.metadata.annotations.get(ANNO_NETWORKS, ""), pod.metadata.namespace
        ),
        default_network=installed.default_network,
        agent_namespace=installed.agent_namespace,
        position=position,
    )


async def _position_of(reader: FactReader, pod: Pod, owner: Application) -> int | None:
    """
    Return the pod's place among its StatefulSet's ordinals.

    Read only for lists of exact addresses.
    """
    if not needs_position(pod, owner):
        return None
    statefulset = await reader.statefulset(owner.name, pod.metadata.namespace)
    return None if statefulset is None else position_of(pod.metadata.name, statefulset)


@dataclass(frozen=True, slots=True)
class LiveReader:
    """Reads from the API server; a node or namespace that does not exist has no labels."""

    cluster: Cluster

    async def node(self, name: str) -> Node | None:
        """Read the node; a pod that is not scheduled yet names none."""
        return await if_exists(self.cluster.get(Node, name)) if name else None

    async def namespace(self, name: str) -> Namespace | None:
        """Read the namespace."""
        return await if_exists(self.cluster.get(Namespace, name))

    async def statefulset(self, name: str, namespace: str) -> StatefulSet | None:
        """Read the StatefulSet."""
        return await if_exists(self.cluster.get(StatefulSet, name, namespace))

    async def pools(self, application: str) -> PoolFacts:
        """List all pools."""
        listing = await self.cluster.list_objects(SpiderIPPool)
        pools = {obj.metadata.name: Pool.parse(obj) for obj in listing.items}
        mine = (
            pool for pool in pools.values() if pool.place and pool.place.application == application
        )
        return PoolFacts(pools, tuple(mine))

    async def reserved(self) -> Mapping[int, AddressSet]:
        """List all SpiderReservedIPs."""
        listing = await self.cluster.list_objects(SpiderReservedIP)
        return read_reserved(listing.items).by_family


@dataclass(frozen=True, slots=True)
class ManifestReader(LiveReader):
    """
    Reads for a pod of a manifest.

    Its StatefulSet does not exist yet, its ordinals begin at 0.
    """

    async def statefulset(self, name: str, namespace: str) -> StatefulSet | None:
        """Return a StatefulSet of one replica."""
        return StatefulSet(metadata=ObjectMeta(name=name, namespace=namespace))


_conforms: type[FactReader] = LiveReader
