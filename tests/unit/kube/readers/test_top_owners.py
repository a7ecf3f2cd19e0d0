"""Top owners of pods, read from the cluster."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from msgspec.structs import replace

from spiderpool.api.kubernetes.core import Pod, ReplicaSet
from spiderpool.api.kubernetes.meta import OwnerReference
from spiderpool.kube.readers.top_owners import TopOwners
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import make_pod


def owned(uid: str = "rs-uid") -> Pod:
    """Make a pod of ReplicaSet `web-1`."""
    owner = OwnerReference(
        api_version="apps/v1", kind="ReplicaSet", name="web-1", uid=uid, controller=True
    )
    pod = make_pod()
    return replace(pod, metadata=replace(pod.metadata, owner_references=(owner,)))


def replica_set() -> ReplicaSet:
    """Make ReplicaSet `web-1` of Deployment `web`."""
    above = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "web",
        "uid": "web-uid",
        "controller": True,
    }
    metadata = {"name": "web-1", "namespace": "ns", "uid": "rs-uid", "ownerReferences": [above]}
    return msgspec.convert({"metadata": metadata}, ReplicaSet)


async def test_a_deployment_stands_above_its_replica_set() -> None:
    """The owner of a ReplicaSet is read, once for all pods that ask."""
    cluster = FakeCluster()
    cluster.seed(replica_set())
    owners = TopOwners(cluster)
    found = await asyncio.gather(*(owners.of(owned()) for _ in range(5)))
    found.append(await owners.of(owned()))

    assert {("Deployment", "web", "web-uid")} == {
        (each.kind, each.name, each.uid) for each in found
    }
    assert 1 == len([call for call in cluster.calls if call.plural == "replicasets"])


@pytest.mark.parametrize("exists", [True, False])
async def test_a_replica_set_that_is_not_the_owner(exists: bool) -> None:
    """A ReplicaSet that is gone, or another one of its name, leaves the pod's reference as the application."""
    cluster = FakeCluster()
    if exists:
        cluster.seed(replica_set())
    found = await TopOwners(cluster).of(owned(uid="older-uid"))

    assert ("ReplicaSet", "web-1", "older-uid") == (found.kind, found.name, found.uid)
