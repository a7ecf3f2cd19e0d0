"""The status of pods: an agent writes one annotation on the pods of its node, and so does Multus."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.group import ANNO_NETWORK_STATUS
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, Resource
from spiderpool.errors import Forbidden
from spiderpool.kube.client import KubeClient
from tests.contract.policies.conftest import MULTUS, Nodes

POLICY = "Policy 'spiderpool-agent-pods'"
MULTUS_POLICY = f"Policy '{MULTUS}-pods'"
STATUS = {"k8s.v1.cni.cncf.io/network-status": '[{"name":"net"}]'}
CONDITION = {"type": "Ready", "status": "True", "observedGeneration": 1}


class WholePod(KubeObject, frozen=True, kw_only=True):
    """A pod with all of its specification and status."""

    resource: ClassVar[Resource] = Pod.resource

    spec: dict[str, Any]
    status: dict[str, Any] = {}


async def make(nodes: Nodes, namespace: str, node: str) -> WholePod:
    """Have a pod that runs on a node."""
    pod = WholePod(
        metadata=ObjectMeta(
            name=node, namespace=namespace, labels={"app": "web"}, annotations={"a": "b"}
        ),
        spec={"nodeName": node, "containers": [{"name": "c", "image": "none"}]},
    )
    await nodes.admin.create(pod)
    status = {"podIP": "10.7.9.1", "podIPs": [{"ip": "10.7.9.1"}], "phase": "Running"}
    return await nodes.admin.patch(
        WholePod,
        node,
        {"status": {**status, "conditions": [CONDITION]}},
        namespace=namespace,
        subresource="status",
    )


async def patch(client: KubeClient, pod: WholePod, body: dict[str, Any]) -> WholePod:
    """Patch the status of a pod, as the meta plugin does."""
    body = {"metadata": {"uid": pod.metadata.uid}, **body}
    return await client.patch(
        WholePod,
        pod.metadata.name,
        body,
        namespace=pod.metadata.namespace,
        subresource="status",
    )


@pytest.mark.parametrize("node", ["node1", "node2"])
async def test_an_agent_writes_the_network_status(nodes: Nodes, namespace: str, node: str) -> None:
    """The annotation changes, and nothing else."""
    pod = await make(nodes, namespace, node)
    for text in ('[{"name":"net"}]', "[]"):
        written = await patch(
            nodes.agents[node], pod, {"metadata": {"annotations": {ANNO_NETWORK_STATUS: text}}}
        )
        assert {"a": "b", ANNO_NETWORK_STATUS: text} == written.metadata.annotations
        assert pod.status == written.status


@pytest.mark.parametrize(("mine", "theirs"), [("node1", "node2"), ("node2", "node1")])
async def test_an_agent_writes_nothing_on_pods_of_the_other_node(
    nodes: Nodes, namespace: str, mine: str, theirs: str
) -> None:
    """Not even the annotation."""
    pod = await make(nodes, namespace, theirs)
    with pytest.raises(Forbidden, match=POLICY):
        await patch(nodes.agents[mine], pod, {"metadata": {"annotations": STATUS}})
    with pytest.raises(Forbidden, match=MULTUS_POLICY):
        await nodes.agents[f"{MULTUS}/{mine}"].replace(pod, subresource="status")


FORGED: dict[str, dict[str, Any]] = {
    "addresses": {"status": {"podIP": "10.7.9.2", "podIPs": [{"ip": "10.7.9.2"}]}},
    "no address": {"status": {"podIP": None, "podIPs": None}},
    "its phase": {"status": {"phase": "Failed"}},
    "a condition": {"status": {"conditions": [{**CONDITION, "status": "False"}]}},
    "one more condition": {"status": {"conditions": [CONDITION, {**CONDITION, "type": "X"}]}},
    "no condition": {"status": {"conditions": None}},
    "another annotation": {"metadata": {"annotations": {"a": "c"}}},
    "a new annotation": {"metadata": {"annotations": {"ipam.spidernet.io/ippool": "{}"}}},
    "no annotation": {"metadata": {"annotations": {"a": None}}},
    "a label": {"metadata": {"labels": {"app": "other"}}},
    "a new label": {"metadata": {"labels": {"new": "x"}}},
    "a finalizer": {"metadata": {"finalizers": ["example.com/x"]}},
}


@pytest.mark.parametrize("what", FORGED)
async def test_an_agent_changes_nothing_else(nodes: Nodes, namespace: str, what: str) -> None:
    """Addresses, conditions, labels and other annotations stay, also of its own pods."""
    pod = await make(nodes, namespace, "node1")
    with pytest.raises(Forbidden, match=POLICY):
        await patch(nodes.agents["node1"], pod, FORGED[what])
    # Multus replaces the status; what it may not change is the same
    changed = await nodes.admin.patch(
        WholePod, "node1", FORGED[what], namespace=namespace, subresource="status"
    )
    restored = await nodes.admin.replace(
        _with(pod, changed.metadata.resource_version), subresource="status"
    )
    with pytest.raises(Forbidden, match=MULTUS_POLICY):
        await nodes.agents[f"{MULTUS}/node1"].replace(
            _with(changed, restored.metadata.resource_version), subresource="status"
        )


def _with(pod: WholePod, resource_version: str) -> WholePod:
    metadata = replace(pod.metadata, resource_version=resource_version)
    return replace(pod, metadata=metadata)


async def test_multus_replaces_a_status(nodes: Nodes, namespace: str) -> None:
    """An older Multus leaves out fields that it does not know."""
    pod = await make(nodes, namespace, "node1")
    assert 1 == pod.status["conditions"][0]["observedGeneration"]
    known = {key: value for key, value in CONDITION.items() if key != "observedGeneration"}
    wanted = replace(
        pod,
        metadata=replace(pod.metadata, annotations={**pod.metadata.annotations, **STATUS}),
        status={**pod.status, "conditions": [known]},
    )
    written = await nodes.agents[f"{MULTUS}/node1"].replace(wanted, subresource="status")
    assert STATUS.items() <= written.metadata.annotations.items()


async def test_an_agent_changes_no_pod(nodes: Nodes, namespace: str) -> None:
    """The role grants the status alone."""
    pod = await make(nodes, namespace, "node1")
    with pytest.raises(Forbidden, match="cannot patch resource"):
        await nodes.agents["node1"].patch(
            Pod, "node1", {"metadata": {"annotations": STATUS}}, namespace=namespace
        )
    with pytest.raises(Forbidden, match="cannot delete resource"):
        await nodes.agents["node1"].delete(Pod, pod.metadata.name, namespace)
