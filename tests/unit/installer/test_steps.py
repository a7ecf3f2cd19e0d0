"""Steps of installation and removal, against the fake API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.kubernetes.core import Lease
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import InvalidRequest, Rejected, Unreachable
from spiderpool.installer import steps
from spiderpool.installer.kube_types import (
    CustomResourceDefinition,
    DaemonSet,
    DefinitionCondition,
    DefinitionStatus,
    Deployment,
    EndpointConditions,
    EndpointSlice,
    ServiceEndpoint,
)
from tests.fakes.cluster import FakeCluster

NAME = "spiderips.spiderpool.spidernet.io"
ESTABLISHED = DefinitionStatus(conditions=(DefinitionCondition(type="Established", status="True"),))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Return an empty cluster, and do not wait long between two looks."""
    monkeypatch.setattr(steps, "POLL_S", 0.01)
    return FakeCluster()


def pool(name: str = "default-v4-ippool", subnet: str = "10.6.0.0/16") -> SpiderIPPool:
    """Make a pool."""
    return SpiderIPPool(
        metadata=ObjectMeta(name=name), spec=IPPoolSpec(subnet=subnet, default=True)
    )


def backend(*, ready: bool | None) -> EndpointSlice:
    """Make a slice of the controller's Service."""
    labels = {"kubernetes.io/service-name": "spiderpool-controller"}
    endpoint = ServiceEndpoint(
        addresses=("172.18.0.2",), conditions=EndpointConditions(ready=ready)
    )
    meta = ObjectMeta(name="spiderpool-controller-x", namespace="kube-system", labels=labels)
    return EndpointSlice(metadata=meta, endpoints=(endpoint,))


def definition(
    spec: dict[str, Any], status: DefinitionStatus = ESTABLISHED
) -> CustomResourceDefinition:
    """Make a CRD."""
    return CustomResourceDefinition(metadata=ObjectMeta(name=NAME), spec=spec, status=status)


async def test_pools_are_created(cluster: FakeCluster) -> None:
    """Each pool is created and reported."""
    said: list[str] = []
    await steps.create_defaults(cluster, [pool()], said.append)
    assert ["10.6.0.0/16"] == [found.spec.subnet for found in cluster.all(SpiderIPPool)]
    assert ["pool default-v4-ippool created: 10.6.0.0/16, no addresses yet"] == said


async def test_pools_that_exist_stay(cluster: FakeCluster) -> None:
    """A pool of that name that the user changed stays as the user left it, and the next one is still created."""
    cluster.seed(pool(subnet="10.9.0.0/16"))
    await steps.create_defaults(
        cluster, [pool(), pool("default-v6-ippool", "fd00::/64")], lambda _: None
    )
    assert ["10.9.0.0/16", "fd00::/64"] == [
        found.spec.subnet for found in cluster.all(SpiderIPPool)
    ]


@pytest.mark.parametrize("ready", [True, None])
async def test_waits_for_a_ready_backend(cluster: FakeCluster, ready: bool | None) -> None:
    """A backend that is not ready does not count; one whose state is not given does."""
    cluster.seed(backend(ready=False))
    said: list[str] = []
    waiting = asyncio.create_task(
        steps.wait_for_controller(cluster, "kube-system", "spiderpool-controller", said.append)
    )
    await asyncio.sleep(0.05)
    assert not waiting.done()
    cluster.drop(EndpointSlice, "spiderpool-controller-x", "kube-system")
    cluster.seed(backend(ready=ready))
    await asyncio.wait_for(waiting, 1)
    assert ["waiting for a ready backend of service kube-system/spiderpool-controller"] == said


async def test_steps_are_repeated(cluster: FakeCluster) -> None:
    """A webhook that does not answer yet is asked again."""
    cluster.faults.fail_next(
        "create", SpiderIPPool, Unreachable("failed calling webhook: connection refused")
    )
    said: list[str] = []
    await steps.until_done(
        lambda: steps.create_defaults(cluster, [pool()], said.append), said.append
    )
    assert ["default-v4-ippool"] == [found.metadata.name for found in cluster.all(SpiderIPPool)]
    assert "failed calling webhook: connection refused; trying again" == said[0]


async def test_refusals_are_final(cluster: FakeCluster) -> None:
    """What the webhook refuses is refused the next time as well: the job ends with its words."""
    cluster.faults.fail_next(
        "create", SpiderIPPool, Rejected("spec.ips: Forbidden: overlaps pool blue")
    )
    with pytest.raises(Rejected, match="overlaps pool blue"):
        await steps.until_done(
            lambda: steps.create_defaults(cluster, [pool()], lambda _: None), lambda _: None
        )


async def test_definitions_are_created(cluster: FakeCluster) -> None:
    """A missing CRD is created, and the step waits until it is served."""
    applied = asyncio.create_task(
        steps.apply_definitions(
            cluster, [definition({"scope": "Cluster"}, DefinitionStatus())], lambda _: None
        )
    )
    await asyncio.sleep(0.05)
    assert not applied.done()
    cluster.drop(CustomResourceDefinition, NAME)
    cluster.seed(definition({"scope": "Cluster"}))
    await asyncio.wait_for(applied, 1)


async def test_definitions_are_updated(cluster: FakeCluster) -> None:
    """
    An older CRD gets the new versions as a whole.

    A property that is gone from the schema is gone.
    """
    old = {
        "versions": [{"name": "v2beta1", "schema": {"properties": {"old": {}, "kept": {}}}}],
        "scope": "Cluster",
    }
    new = {
        "versions": [{"name": "v2beta1", "schema": {"properties": {"kept": {}}}}],
        "scope": "Cluster",
    }
    cluster.seed(definition(old))
    await steps.apply_definitions(cluster, [definition(new)], lambda _: None)
    assert [new] == [found.spec for found in cluster.all(CustomResourceDefinition)]


async def test_others_definitions_stay(cluster: FakeCluster) -> None:
    """A CRD that belongs to another project is not touched when the cluster has it."""
    cluster.seed(definition({"scope": "Namespaced"}))
    await steps.apply_definitions(
        cluster, [definition({"scope": "Cluster"})], lambda _: None, only_if_absent=True
    )
    assert [{"scope": "Namespaced"}] == [
        found.spec for found in cluster.all(CustomResourceDefinition)
    ]
    assert 0 == cluster.count("patch")


def workload(kind: type[DaemonSet | Deployment], *finalizers: str) -> DaemonSet | Deployment:
    """Make the agents' or the controllers' workload."""
    name = "spiderpool-agent" if kind is DaemonSet else "spiderpool-controller"
    return kind(metadata=ObjectMeta(name=name, namespace="kube-system", finalizers=finalizers))


async def remove(cluster: FakeCluster, say: steps.Say) -> None:
    """Remove agents and controllers."""
    await steps.remove_programs(
        cluster, "kube-system", "spiderpool-agent", "spiderpool-controller", say
    )


async def test_programs_are_deleted_in_the_foreground(cluster: FakeCluster) -> None:
    """
    Agents are seen as being deleted until the last one is gone.

    Only then controllers go, and their lease.
    """
    cluster.seed(workload(DaemonSet, "foregroundDeletion"))
    cluster.seed(workload(Deployment))
    cluster.seed(Lease(metadata=ObjectMeta(name=steps.LEASE, namespace="kube-system")))
    said: list[str] = []
    removing = asyncio.create_task(remove(cluster, said.append))
    await asyncio.sleep(0.05)
    assert not removing.done()
    assert [True] == [bool(found.metadata.deletion_timestamp) for found in cluster.all(DaemonSet)]
    assert [False] == [bool(found.metadata.deletion_timestamp) for found in cluster.all(Deployment)]
    cluster.drop(DaemonSet, "spiderpool-agent", "kube-system")
    await asyncio.wait_for(removing, 1)
    assert ((), ()) == (cluster.all(Deployment), cluster.all(Lease))
    assert [
        "daemonset kube-system/spiderpool-agent is gone",
        "deployment kube-system/spiderpool-controller is gone",
    ] == [line for line in said if line.endswith("gone")]


async def test_a_program_that_comes_back_is_deleted_again(cluster: FakeCluster) -> None:
    """An upgrade at the same time may make the agents again: they are taken away all the same."""
    cluster.seed(workload(DaemonSet, "foregroundDeletion"))
    removing = asyncio.create_task(remove(cluster, lambda _: None))
    await asyncio.sleep(0.05)
    cluster.drop(DaemonSet, "spiderpool-agent", "kube-system")
    cluster.seed(workload(DaemonSet))
    await asyncio.wait_for(removing, 1)
    assert () == cluster.all(DaemonSet)


async def test_nothing_to_remove_is_fine(cluster: FakeCluster) -> None:
    """A removal that is repeated finds nothing to do."""
    said: list[str] = []
    await remove(cluster, said.append)
    assert [
        "daemonset kube-system/spiderpool-agent is gone",
        "deployment kube-system/spiderpool-controller is gone",
    ] == said


async def test_a_lost_answer_does_not_stop_the_removal(cluster: FakeCluster) -> None:
    """An API server that is away for a moment costs a repetition."""
    cluster.seed(workload(DaemonSet))
    cluster.faults.fail_next("delete", DaemonSet, Unreachable("connection refused"))
    await steps.until_done(lambda: remove(cluster, lambda _: None), lambda _: None)
    assert () == cluster.all(DaemonSet)


def test_folder_is_read(tmp_path: Path) -> None:
    """All documents of all files are taken, empty ones skipped."""
    text = "kind: CustomResourceDefinition\nmetadata: {name: a}\nspec: {scope: Cluster}\n"
    (tmp_path / "a.yaml").write_text(f"---\n{text}---\n---\n{text.replace('name: a', 'name: b')}")
    assert ["a", "b"] == [found.metadata.name for found in steps.read_definitions(tmp_path)]


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "holds no"), ("kind: Pod\n", "not a CustomResourceDefinition"), ("{", "is not YAML")],
)
def test_folder_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    """A folder that does not hold CRDs is refused in a sentence."""
    if text is not None:
        (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InvalidRequest, match=words):
        steps.read_definitions(tmp_path)
