"""The live objects that judge a static holder: its StatefulSet, or its virtual machine."""

from __future__ import annotations

from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.api.kubernetes.core import StatefulSet
from spiderpool.api.kubernetes.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.kube.cluster import Cluster, if_exists
from spiderpool.records.verdicts import NO_OWNERS, HolderOwners, statefulset_name


async def read_owners(cluster: Cluster, record: SpiderIP) -> HolderOwners:
    """Read live what judges the holder of a record; nothing is read for one that is not static."""
    if not record.spec.static:
        return NO_OWNERS
    holder = record.spec.holder
    if holder.kind is HolderKind.VIRTUAL_MACHINE:
        return await read_machine(cluster, holder.name, holder.namespace)
    name = statefulset_name(record)
    return HolderOwners(
        statefulset=await if_exists(cluster.get(StatefulSet, name, holder.namespace))
        if name
        else None
    )


async def read_machine(cluster: Cluster, name: str, namespace: str) -> HolderOwners:
    """
    Read a virtual machine and its instance, of which there may be none at the moment.

    Args:
        cluster: where to read.
        name: of both.
        namespace: of both.
    Returns:
        The metadata of what exists.
    """
    return HolderOwners(
        instance=await if_exists(cluster.get_metadata(VirtualMachineInstance, name, namespace)),
        machine=await if_exists(cluster.get_metadata(VirtualMachine, name, namespace)),
    )
