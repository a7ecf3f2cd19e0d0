"""
Networks that pods get without naming them.

Source: docs/reference/networks.md#pod-injection.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.admission.pod_injection import (
    Demand,
    InjectedPod,
    Injection,
    patch_pod,
    plan_injection,
    read_demand,
)
from spiderpool.api.crd.multusconfig import MultusConfigSpec, SpiderMultusConfig
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import InvalidRequest
from tests.fakes.patches import json_patch

RDMA = "cni.spidernet.io/rdma-resource-inject"
NETWORK = "cni.spidernet.io/network-resource-inject"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
POOLS = {"ipv4": ["p4"]}
NAMESPACES = ("ns", "release")


def network(name: str, namespace: str = "ns", **spec: Any) -> SpiderMultusConfig:
    """Make a network."""
    return SpiderMultusConfig(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=msgspec.convert(spec, MultusConfigSpec),
    )


def macvlan(name: str, *masters: str, resource: str = "", bond: str = "") -> SpiderMultusConfig:
    """Make a macvlan network with pools."""
    block: dict[str, Any] = {
        "master": list(masters),
        "ippools": POOLS,
        "rdmaResourceName": resource,
    }
    if bond:
        block["bond"] = {"name": bond, "mode": 1}
    return network(name, cniType="macvlan", macvlan=block)


def sriov(name: str, resource: str) -> SpiderMultusConfig:
    """Make an SR-IOV network with pools."""
    return network(name, cniType="sriov", sriov={"resourceName": resource, "ippools": POOLS})


def test_network_whose_definition_has_another_name() -> None:
    """
    The pod gets the name of the definition: the meta plugin knows no other.

    Source: docs/reference/networks.md#the-definition.
    """
    named = macvlan("one", "ens192")
    metadata = ObjectMeta(
        name="one", namespace="ns", annotations={"multus.spidernet.io/cr-name": "rail-a"}
    )

    found = plan_injection(
        Demand(NETWORK, "rail"),
        [SpiderMultusConfig(metadata=metadata, spec=named.spec), macvlan("two", "ens224")],
        NAMESPACES,
    )

    assert "ns/rail-a,ns/two" == found.networks


def pod_json(
    annotations: dict[str, str] | None = None, *limits: dict[str, str] | None
) -> dict[str, Any]:
    """Write a pod; limits of None leave the container without resources."""
    containers: list[dict[str, Any]] = [
        {
            "name": str(number),
            "image": "x",
            **({} if limit is None else {"resources": {"limits": limit, "requests": {}}}),
        }
        for number, limit in enumerate(limits or (None,))
    ]
    metadata: dict[str, Any] = (
        {"name": "p"} if annotations is None else {"name": "p", "annotations": annotations}
    )
    return {"metadata": metadata, "spec": {"containers": containers, "future": True}}


def patched(pod: dict[str, Any], injection: Injection) -> dict[str, Any]:
    """Apply an injection to a pod."""
    result: dict[str, Any] = json_patch(
        pod, patch_pod(msgspec.convert(pod, InjectedPod), injection)
    )
    return result


@pytest.mark.parametrize(
    ("pod", "namespace", "demand"),
    [
        ({}, {}, None),
        ({RDMA: "a"}, {RDMA: "b"}, Demand(RDMA, "a")),
        ({}, {RDMA: "b"}, Demand(RDMA, "b")),
        ({NETWORK: "a"}, {}, Demand(NETWORK, "a")),
        ({NETWORK: "a"}, {RDMA: "b"}, Demand(RDMA, "b")),
        ({NETWORK: "a"}, {NETWORK: "b"}, Demand(NETWORK, "a")),
    ],
)
def test_demand(pod: dict[str, str], namespace: dict[str, str], demand: Demand | None) -> None:
    """RDMA goes before networks, and for each the pod before its namespace."""
    assert demand == read_demand(pod, namespace)


def test_value_that_no_label_has() -> None:
    """A value that no label can have finds nothing, and is no part of a selector."""
    with pytest.raises(InvalidRequest, match="no label can have"):
        read_demand({NETWORK: "a,b!=c"}, {})


def test_order() -> None:
    """Networks come in the order of bond or first master, or of their resource, then of their names."""
    configs = [
        macvlan("b", "eth2", resource="x/2"),
        macvlan("a", "eth2", resource="x/1"),
        macvlan("c", "eth9", "eth8", bond="bond0", resource="x/0"),
        sriov("d", "eth1"),
        network("e", cniType="ib-sriov", ibsriov={"resourceName": "z/9", "ippools": POOLS}),
    ]
    found = plan_injection(Demand(RDMA, "v"), configs, NAMESPACES)

    assert "ns/e,ns/c,ns/d,ns/a,ns/b" == found.networks
    assert ("z/9", "x/0", "eth1", "x/1", "x/2") == found.resources


def test_a_resource_counts_once() -> None:
    """Two networks of one resource ask for one of it; without a resource none is asked for."""
    configs = [
        sriov("a", "x/y"),
        sriov("b", "x/y"),
        network("c", cniType="ipoib", ipoib={"master": "ib0"}),
    ]
    found = plan_injection(Demand(NETWORK, "v"), configs, NAMESPACES)

    assert ("x/y",) == found.resources


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ([], f"has the label {NETWORK}=v"),
        ([network("c", cniType="custom")], "SpiderMultusConfig ns/c: "),
        (
            [network("s", cniType="sriov", sriov={"resourceName": "x/y"})],
            "needs at least one IPPool",
        ),
    ],
)
def test_refusals(configs: list[SpiderMultusConfig], words: str) -> None:
    """Without a network, or with one that cannot be put into pods, the pod is refused."""
    with pytest.raises(InvalidRequest) as caught:
        plan_injection(Demand(NETWORK, "v"), configs, NAMESPACES)

    assert words in caught.value.message


@pytest.mark.parametrize("annotations", [None, {"a": "b"}, {NETWORKS: "mine"}])
def test_annotation(annotations: dict[str, str] | None) -> None:
    """The networks are written over those that the pod names; its other annotations stay."""
    found = patched(pod_json(annotations), Injection("ns/a", ()))

    assert {**(annotations or {}), NETWORKS: "ns/a"} == found["metadata"]["annotations"]
    assert found["spec"] == pod_json()["spec"]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((None, None), [{"limits": {"x/y": "1"}}, None]),
        (({"cpu": "1"},), [{"limits": {"cpu": "1", "x/y": "1"}, "requests": {}}]),
        ((None, {"x/y": "2"}), [None, {"limits": {"x/y": "2"}, "requests": {}}]),
    ],
)
def test_resources(
    limits: tuple[dict[str, str] | None, ...], expected: list[dict[str, Any] | None]
) -> None:
    """The first container gets one of each resource that no container has yet."""
    found = patched(pod_json({}, *limits), Injection("ns/a", ("x/y",)))

    assert expected == [container.get("resources") for container in found["spec"]["containers"]]


def test_resources_without_limits() -> None:
    """A container that has resources and no limits keeps what it has."""
    pod = pod_json()
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
    found = patched(pod, Injection("ns/a", ("x/y",)))

    assert {"requests": {"cpu": "1"}, "limits": {"x/y": "1"}} == found["spec"]["containers"][0][
        "resources"
    ]


def test_injecting_twice_changes_nothing() -> None:
    """An API server may ask again: what is there is not added once more."""
    injection = Injection("ns/a,ns/b", ("x/y", "z/9"))
    once = patched(pod_json({"a": "b"}, {"cpu": "1"}), injection)

    assert [] == patch_pod(msgspec.convert(once, InjectedPod), injection)
