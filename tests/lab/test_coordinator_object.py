"""
The SpiderCoordinator of a real cluster.

Which addresses are the cluster's own, and what is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.kube import Kube, Refused, Thing
from tests.lab.manifests import DEFAULT_NETWORK, multus_config
from tests.lab.retry import until
from tests.lab.story import Story

pytestmark = pytest.mark.still

NAME = "default"


def status(kube: Kube) -> Thing:
    """Return the coordinator's status."""
    return kube.need("SpiderCoordinator", NAME).get("status", {})


def described(kube: Kube) -> tuple[list[str], list[str]]:
    """Return the CIDRs of pods as kubeadm's configuration has them, and those of Services as the API has them."""
    text = kube.need("ConfigMap", "kubeadm-config", "kube-system")["data"]["ClusterConfiguration"]
    (pods,) = re.findall(r"podSubnet: *(\S+)", text)
    services = sorted(
        kube.list("ServiceCIDR"), key=lambda thing: thing["metadata"]["creationTimestamp"]
    )
    return pods.split(","), [cidr for thing in services for cidr in thing["spec"]["cidrs"]]


def wait_status(kube: Kube, pods: list[str], services: list[str]) -> None:
    """Wait until the status says this."""
    wanted = {"phase": "Synced", "reason": "", "overlayPodCIDR": pods, "serviceCIDR": services}
    until(
        lambda: status(kube) == wanted,
        f"the coordinator knows {wanted}",
        within_s=20,
        seen=lambda: status(kube),
    )


@pytest.fixture
def changeable(kube: Kube) -> Iterator[None]:
    """Let a test change the coordinator; it is as before at the end."""
    before = kube.need("SpiderCoordinator", NAME)["spec"]
    yield
    kube.patch("SpiderCoordinator", NAME, {"spec": before})
    wait_status(kube, *described(kube))


def test_cluster_is_known(kube: Kube) -> None:
    """
    The installed coordinator is in sync.

    Pods as kubeadm's configuration says, Services as the ServiceCIDRs say.
    """
    pods, services = described(kube)

    assert pods
    assert services
    wait_status(kube, pods, services)
    spec = kube.need("SpiderCoordinator", NAME)["spec"]
    assert ("auto", ["169.254.0.0/16"], 500, 1500) == (
        spec["mode"],
        spec["hijackCIDR"],
        spec["hostRuleTable"],
        spec["vethMTU"],
    )


@pytest.mark.usefixtures("changeable")
def test_changes_are_followed(kube: Kube) -> None:
    """Another source of the pod network's addresses, and a change of kubeadm's configuration, are in the status at once."""
    pods, services = described(kube)
    kube.patch("SpiderCoordinator", NAME, {"spec": {"podCIDRType": "none"}})
    wait_status(kube, [], [])
    kube.patch("SpiderCoordinator", NAME, {"spec": {"podCIDRType": "cluster"}})
    wait_status(kube, pods, services)
    config = kube.need("ConfigMap", "kubeadm-config", "kube-system")["data"]["ClusterConfiguration"]
    more = re.sub(r"(podSubnet: *\S+)", r"\1,10.99.0.0/16", config)
    try:
        kube.patch(
            "ConfigMap", "kubeadm-config", {"data": {"ClusterConfiguration": more}}, "kube-system"
        )
        wait_status(kube, [*pods, "10.99.0.0/16"], services)
    finally:
        kube.patch(
            "ConfigMap", "kubeadm-config", {"data": {"ClusterConfiguration": config}}, "kube-system"
        )


@pytest.mark.usefixtures("changeable")
def test_changes_reach_new_pods(story: Story) -> None:
    """
    A CIDR that is added is routed by the next pod, without a restart.

    A pod that runs keeps what it has.
    """
    kube, more = story.kube, "10.98.0.0/16"
    block = {"master": ["ens192"], "ippools": {"ipv4": [story.pool("p")]}}
    kube.create(multus_config("lan", story.namespace, cniType="macvlan", macvlan=block))
    until(
        lambda: kube.get("NetworkAttachmentDefinition", "lan", story.namespace),
        "the network is defined",
        within_s=10,
    )
    annotations = {DEFAULT_NETWORK: f"{story.namespace}/lan"}
    old = story.pod("old", annotations)
    hijacked = kube.need("SpiderCoordinator", NAME)["spec"]["hijackCIDR"]

    kube.patch("SpiderCoordinator", NAME, {"spec": {"hijackCIDR": [*hijacked, more]}})
    new = story.pod("new", annotations)

    by_node = [
        {route.dst for route in pod.inside.routes(4) if route.nic == "veth0"} for pod in (old, new)
    ]
    assert by_node[1] - by_node[0] == {more}
    assert set(described(kube)[1]) & by_node[0]
    assert set(hijacked) <= by_node[0]


@pytest.mark.usefixtures("changeable")
def test_unknown_is_said(kube: Kube) -> None:
    """Where the asked-for source is not there, the status says so and why, and keeps what is known of Services."""
    _, services = described(kube)
    kube.patch("SpiderCoordinator", NAME, {"spec": {"podCIDRType": "calico"}})

    until(lambda: status(kube)["phase"] == "NotReady", "the coordinator is not ready", within_s=20)
    found = status(kube)
    assert "no IPPools of Calico" in found["reason"]
    assert ([], services) == (found["overlayPodCIDR"], found["serviceCIDR"])


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"mode": "disable"}, "spec.mode"),
        ({"podCIDRType": "weave"}, "spec.podCIDRType"),
        ({"podCIDRType": None}, "spec.podCIDRType"),
        ({"hijackCIDR": ["10.0.0.0/8", "nonsense"]}, "spec.hijackCIDR[1]"),
        ({"policyRoutes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]}, "spec.policyRoutes[0].gw"),
        ({"podMACPrefix": "01:00"}, "spec.podMACPrefix"),
        ({"podRPFilter": 3}, "spec.podRPFilter"),
        ({"txQueueLen": -1}, "spec.txQueueLen"),
        ({"vethLinkAddress": "10.0.0.0/8"}, "spec.vethLinkAddress"),
        ({"vethMTU": 0}, "spec.vethMTU"),
        ({"hostRuleTable": "main"}, "spec.hostRuleTable"),
        ({"tunePodRoutes": "yes"}, "spec.tunePodRoutes"),
    ],
)
def test_wrong_coordinators(kube: Kube, spec: dict[str, Any], field: str) -> None:
    """Each field that is of a wrong type, out of range or in conflict with itself is refused by its name."""
    whole = {"podCIDRType": "auto", **spec}
    with pytest.raises(Refused) as caught:
        kube.create(
            {"kind": "SpiderCoordinator", "metadata": {"name": "wrong"}, "spec": whole},
            dry_run=True,
        )

    assert [field] == caught.value.fields
