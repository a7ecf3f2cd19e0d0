"""The coordinator and the network that the init job makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spiderpool.api.crd.coordinator import SpiderCoordinator
from spiderpool.api.crd.multusconfig import SpiderMultusConfig
from spiderpool.api.kubernetes.core import NetworkAttachmentDefinition
from spiderpool.api.kubernetes.meta import ObjectMeta, OwnerReference
from spiderpool.errors import InvalidRequest
from spiderpool.installer.default_network import (
    create_coordinator,
    create_default_network,
    make_default_network,
    read_coordinator,
)
from tests.fakes.cluster import FakeCluster

PREFIX = "SPIDERPOOL_INIT_DEFAULT_COORDINATOR_"
NAME = {f"{PREFIX}NAME": "default"}


def environ(folder: Path, name: str = "") -> dict[str, str]:
    """Return the environment of a job."""
    return {
        "SPIDERPOOL_INIT_DEFAULT_CNI_DIR": str(folder),
        "SPIDERPOOL_INIT_DEFAULT_CNI_NAME": name,
        "SPIDERPOOL_INIT_DEFAULT_CNI_NAMESPACE": "kube-system",
    }


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (
            "MODE",
            "fast",
            f"{PREFIX}MODE has 'fast'; it must be one of auto, underlay, overlay, disabled",
        ),
        (
            "POD_CIDR_TYPE",
            "x",
            f"{PREFIX}POD_CIDR_TYPE has 'x'; it must be one of auto, cluster, calico, cilium, none",
        ),
        ("TUNE_POD_ROUTES", "maybe", f"{PREFIX}TUNE_POD_ROUTES has 'maybe'"),
        (
            "HIJACK_CIDR",
            "10.0.0.0/8",
            f"{PREFIX}HIJACK_CIDR has '10.0.0.0/8'; it must be a JSON list",
        ),
        ("HIJACK_CIDR", '["nonsense"]', 'spec.hijackCIDR[0]: Invalid value: "nonsense"'),
        ("POLICY_ROUTES", '[{"dst":"10.0.0.0/8"}]', f"{PREFIX}POLICY_ROUTES has"),
        ("VETH_MTU", "0", f"{PREFIX}VETH_MTU has 0; it must be at least 1"),
        ("POD_MAC_PREFIX", "01:00", "spec.podMACPrefix"),
    ],
)
def test_wrong_values(variable: str, value: str, words: str) -> None:
    """A wrong value ends the job with its name and what it must be."""
    with pytest.raises(InvalidRequest) as caught:
        read_coordinator({**NAME, PREFIX + variable: value})

    assert words in caught.value.message


def test_no_name_no_coordinator() -> None:
    """A coordinator without a name is not made."""
    assert read_coordinator({f"{PREFIX}MODE": "underlay"}) is None


@pytest.mark.parametrize(
    ("wanted", "found", "name", "definition"),
    [
        ("", "k8s-pod-network", "calico", "k8s-pod-network"),
        ("", "cilium", "cilium", None),
        ("", "", "default", None),
        ("k8s-pod-network", "k8s-pod-network", "k8s-pod-network", None),
        ("macvlan-conf", "k8s-pod-network", "macvlan-conf", None),
    ],
)
def test_default_network(
    tmp_path: Path, wanted: str, found: str, name: str, definition: str | None
) -> None:
    """
    The network is named by the chart, else by the node's CNI.

    Calico's by what people call it.

    Source: docs/reference/configuration.md#jobs.
    """
    made = make_default_network(environ(tmp_path, wanted), found)

    assert ("kube-system", name) == (made.metadata.namespace, made.metadata.name)
    assert definition == made.metadata.annotations.get("multus.spidernet.io/cr-name")
    assert ("custom", False, None) == (
        made.spec.cni_type,
        made.spec.enable_coordinator,
        made.spec.custom_cni,
    )


def test_network_of_another_namespace(tmp_path: Path) -> None:
    """A default network may be written with its namespace."""
    made = make_default_network(environ(tmp_path, "nets/macvlan-conf"), "")

    assert ("nets", "macvlan-conf") == (made.metadata.namespace, made.metadata.name)


async def test_made_once(tmp_path: Path) -> None:
    """Coordinator and network are made, and stay as they are when the job runs again."""
    (tmp_path / "10-calico.conflist").write_text(
        json.dumps({"name": "k8s-pod-network", "plugins": [{"type": "calico"}]})
    )
    cluster, said = FakeCluster(), list[str]()
    made = read_coordinator({**NAME, f"{PREFIX}MODE": "underlay"})
    assert made is not None
    for _ in range(2):
        await create_coordinator(cluster, made, said.append)
        await create_default_network(cluster, environ(tmp_path), said.append)

    assert ["default"] == [found.metadata.name for found in cluster.all(SpiderCoordinator)]
    assert ["calico"] == [found.metadata.name for found in cluster.all(SpiderMultusConfig)]
    assert [
        "coordinator default created",
        "network kube-system/calico created",
        "coordinator default is there already; it stays as it is",
        "network kube-system/calico is there already; it stays as it is",
    ] == said


@pytest.mark.parametrize(
    ("owner", "keeper"),
    [
        ("", "somebody's own"),
        ("calico", "kept by SpiderMultusConfig calico"),
        ("macvlan-conf", ""),
    ],
)
async def test_definitions_of_others_stay(tmp_path: Path, owner: str, keeper: str) -> None:
    """
    A definition that somebody wrote is not replaced by an empty one.

    Nor is that of another network, which an installation with other values may have made. One of
    the network itself does not stand in the way.
    """
    owners = OwnerReference(api_version="x", kind="SpiderMultusConfig", name=owner, uid="u")
    meta = ObjectMeta(
        name="macvlan-conf", namespace="kube-system", owner_references=(owners,) * bool(owner)
    )
    cluster, said = FakeCluster(), list[str]()
    cluster.seed(NetworkAttachmentDefinition(metadata=meta))
    await create_default_network(cluster, environ(tmp_path, "macvlan-conf"), said.append)

    assert bool(keeper) != bool(cluster.all(SpiderMultusConfig))
    assert not keeper or said == [
        f"network-attachment-definition kube-system/macvlan-conf is {keeper}; it stays as it is"
    ]
