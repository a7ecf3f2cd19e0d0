"""
Reading the sources of the audit.

Lists from the API server, interfaces from the agents through its pod proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from spiderpool.api.agent.interfaces import NodeInterfaces
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.api.kubernetes.core import Node, Pod, StatefulSet
from spiderpool.api.kubernetes.kubevirt import VirtualMachineInstance
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.audit.snapshot import Snapshot
from spiderpool.cli.agents import AgentPod, asking, list_agents
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.readers.holder_owners import read_machine
from spiderpool.model.pod import is_alive
from spiderpool.records.verdicts import NO_OWNERS, HolderOwners, statefulset_name

T = TypeVar("T", bound=KubeObject)
Fetch = Callable[[AgentPod], Awaitable[NodeInterfaces]]
"""Asks an agent what the pods of its node have."""

PATH: Final = "/v1/interfaces"


class Unread(msgspec.Struct, frozen=True):
    """A source that could not be read, and why."""

    part: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The sources, as far as they could be read."""

    snapshot: Snapshot
    unread: tuple[Unread, ...] = ()


class _Reader:
    """Reads, and keeps what could not be read."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.unread: list[Unread] = []

    async def listed(self, kind: type[T]) -> tuple[T, ...]:
        """List all objects of a kind, from etcd."""
        try:
            return (await self.cluster.list_objects(kind)).items
        except SpiderpoolError as error:
            self.unread.append(Unread(kind.resource.plural, error.message))
            return ()

    async def machine(self, name: str, namespace: str) -> HolderOwners:
        """Read a virtual machine."""
        try:
            return await read_machine(self.cluster, name, namespace)
        except SpiderpoolError as error:
            self.unread.append(Unread(VirtualMachineInstance.resource.plural, error.message))
            return NO_OWNERS


def asking_for_interfaces(client: KubeClient) -> Fetch:
    """Make the way to ask agents what the pods of their nodes have."""
    return asking(client, PATH, NodeInterfaces)


async def read_snapshot(cluster: Cluster, ask: Fetch | None) -> Reading:
    """
    Read all sources; those that cannot be read are named in the result.

    Args:
        cluster: the client of the API.
        ask: the way to agents; None leaves the interfaces out.
    """
    reader = _Reader(cluster)
    pods, records, pools, endpoints, agents, nodes = await asyncio.gather(
        reader.listed(Pod),
        reader.listed(SpiderIP),
        reader.listed(SpiderIPPool),
        reader.listed(SpiderEndpoint),
        _agents(reader),
        _nodes(reader),
    )
    names = None if nodes is None else frozenset(node.metadata.name for node in nodes)
    subnets, owners, interfaces = await asyncio.gather(
        reader.listed(SpiderSubnet),
        _owners(reader, [record for record in records if record.spec.static]),
        _interfaces(reader, agents, ask, busy_nodes(pods, records) & (names or frozenset()))
        if ask is not None
        else _nothing(),
    )
    lost = frozenset(node.metadata.name for node in nodes or () if not node.ready)
    namespace = agents[0].metadata.namespace if agents else "kube-system"
    snapshot = Snapshot(
        pods, records, pools, endpoints, owners, interfaces, names, namespace, subnets, lost
    )
    return Reading(snapshot, tuple(reader.unread))


async def _agents(reader: _Reader) -> tuple[AgentPod, ...]:
    try:
        return await list_agents(reader.cluster)
    except SpiderpoolError as error:
        reader.unread.append(Unread("agents", error.message))
        return ()


async def _nodes(reader: _Reader) -> tuple[Node, ...] | None:
    """Read all nodes, None when they cannot be read."""
    try:
        return (await reader.cluster.list_objects(Node)).items
    except SpiderpoolError as error:
        reader.unread.append(Unread(Node.resource.plural, error.message))
        return None


async def _nothing() -> tuple[NodeInterfaces, ...]:
    return ()


async def _owners(reader: _Reader, static: list[SpiderIP]) -> dict[str, HolderOwners]:
    """Read what judges static holders."""
    if not static:
        return {}
    sets = {found.key: found for found in await reader.listed(StatefulSet)}
    owners = {}
    for record in static:
        holder = record.spec.holder
        if holder.kind is HolderKind.VIRTUAL_MACHINE:
            owners[record.metadata.name] = await reader.machine(holder.name, holder.namespace)
        else:
            owners[record.metadata.name] = HolderOwners(
                statefulset=sets.get((holder.namespace, statefulset_name(record) or ""))
            )
    return owners


async def _interfaces(
    reader: _Reader, agents: tuple[AgentPod, ...], ask: Fetch, busy: frozenset[str]
) -> tuple[NodeInterfaces, ...]:
    """Ask every agent; a busy node without an agent is a source that is missing."""
    answers = await asyncio.gather(*(ask(agent) for agent in agents), return_exceptions=True)
    read, failed = [], set()
    for agent, answer in zip(agents, answers, strict=True):
        if isinstance(answer, NodeInterfaces):
            read.append(answer)
        elif isinstance(answer, SpiderpoolError):
            failed.add(agent.spec.node_name)
            reader.unread.append(
                Unread(f"interfaces of node {agent.spec.node_name}", answer.message)
            )
        else:
            raise answer
    silent = busy - {answer.node for answer in read} - failed
    reader.unread.extend(
        Unread(f"interfaces of node {node}", "no agent runs there") for node in sorted(silent)
    )
    return tuple(read)


def busy_nodes(pods: Iterable[Pod], records: Iterable[SpiderIP]) -> frozenset[str]:
    """Name the nodes on which running pods hold addresses: there interfaces must be looked at."""
    running = {pod.metadata.uid for pod in pods if is_alive(pod) and pod.status.phase == "Running"}
    return frozenset(
        record.spec.holder.node for record in records if record.spec.holder.uid in running
    )
