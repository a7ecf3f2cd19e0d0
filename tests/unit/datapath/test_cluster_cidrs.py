"""
Which addresses are the cluster's own.

Source: docs/reference/coordinator.md#which-cidrs.
"""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.crd.coordinator import CoordinatorStatus, PodCIDRType
from spiderpool.datapath.cluster_cidrs import NO_MANAGER, Sources, judge, resolve_kind
from spiderpool.datapath.control_plane_cidrs import ClusterCidrs

CLUSTER = ClusterCidrs(("10.233.64.0/18",), ("10.233.0.0/18",))
POOL_MODE = {
    "ipam": "cluster-pool",
    "cluster-pool-ipv4-cidr": "10.0.0.0/8",
    "cluster-pool-ipv6-cidr": "fd00:10::/104",
}


def synced(
    pods: tuple[str, ...], services: tuple[str, ...] = CLUSTER.services
) -> CoordinatorStatus:
    """Return the status of a coordinator that knows."""
    return CoordinatorStatus(
        phase="Synced", reason="", overlay_pod_cidr=pods, service_cidr=services
    )


@pytest.mark.parametrize(
    ("cni", "kind"),
    [
        ("calico", PodCIDRType.CALICO),
        ("k8s-pod-network", PodCIDRType.CALICO),
        ("cilium", PodCIDRType.CILIUM),
        ("flannel", PodCIDRType.CLUSTER),
        ("weave", PodCIDRType.NONE),
        ("", PodCIDRType.NONE),
    ],
)
def test_auto_goes_by_name(cni: str, kind: PodCIDRType) -> None:
    """`auto` goes by the CNI's name, anything else by itself."""
    assert kind is resolve_kind(PodCIDRType.AUTO, cni)
    assert PodCIDRType.CLUSTER is resolve_kind(PodCIDRType.CLUSTER, cni)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param({"kind": "cluster", "cluster": CLUSTER}, synced(CLUSTER.pods), id="cluster"),
        pytest.param(
            {"kind": "auto", "cni": "flannel", "cluster": CLUSTER},
            synced(CLUSTER.pods),
            id="auto, flannel",
        ),
        pytest.param({"kind": "none", "cluster": CLUSTER}, synced((), ()), id="none"),
        pytest.param({"kind": "none"}, synced((), ()), id="none asks nobody"),
        pytest.param(
            {"kind": "auto", "cni": "weave", "cluster": CLUSTER}, synced(()), id="auto, unknown"
        ),
        pytest.param(
            {"kind": "cluster", "cluster": CLUSTER, "services": ("10.96.0.0/12",)},
            synced(CLUSTER.pods, ("10.96.0.0/12",)),
            id="ServiceCIDRs win",
        ),
        pytest.param(
            {"kind": "calico", "cluster": CLUSTER, "calico": ("10.244.0.0/16",)},
            synced(("10.244.0.0/16",)),
            id="calico",
        ),
        pytest.param(
            {"kind": "auto", "cni": "k8s-pod-network", "cluster": CLUSTER, "calico": ()},
            synced(()),
            id="Calico without pools",
        ),
        pytest.param(
            {"kind": "auto", "cni": "k8s-pod-network", "cluster": CLUSTER},
            synced(CLUSTER.pods),
            id="named like Calico, and is not",
        ),
        pytest.param(
            {"kind": "cilium", "cluster": CLUSTER, "cilium": POOL_MODE},
            synced(("10.0.0.0/8", "fd00:10::/104")),
            id="Cilium's pool",
        ),
        pytest.param(
            {
                "kind": "auto",
                "cni": "cilium",
                "cluster": CLUSTER,
                "cilium": {**POOL_MODE, "ipam": "cluster-pool-v2beta"},
            },
            synced(("10.0.0.0/8", "fd00:10::/104")),
            id="auto, Cilium's pool of old",
        ),
        pytest.param(
            {
                "kind": "cilium",
                "cluster": CLUSTER,
                "cilium": {"cluster-pool-ipv4-cidr": "10.0.0.0/9 10.128.0.0/9"},
            },
            synced(("10.0.0.0/9", "10.128.0.0/9")),
            id="Cilium's default mode, and two CIDRs",
        ),
        pytest.param(
            {"kind": "cilium", "cluster": CLUSTER, "cilium": {"ipam": "kubernetes\n"}},
            synced(CLUSTER.pods),
            id="a blank behind the mode",
        ),
        pytest.param(
            {"kind": "cilium", "cluster": CLUSTER, "cilium": {"ipam": "kubernetes"}},
            synced(CLUSTER.pods),
            id="Cilium with the cluster's",
        ),
        pytest.param(
            {
                "kind": "cilium",
                "cluster": CLUSTER,
                "cilium": {"ipam": "multi-pool"},
                "cilium_pools": ("10.5.0.0/16",),
            },
            synced(("10.5.0.0/16",)),
            id="Cilium's pools",
        ),
        pytest.param(
            {"kind": "calico", "services": ("10.96.0.0/12",), "calico": ("10.244.0.0/16",)},
            synced(("10.244.0.0/16",), ("10.96.0.0/12",)),
            id="a cluster that nobody describes, and need not",
        ),
    ],
)
def test_known(sources: dict[str, Any], expected: CoordinatorStatus) -> None:
    """Each source gives its CIDRs."""
    assert expected == judge(Sources(**{**sources, "kind": PodCIDRType(sources["kind"])})).status


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        (
            {"kind": "calico", "cluster": CLUSTER},
            "podCIDRType is calico, and this cluster has no IPPools of Calico",
        ),
        (
            {"kind": "cilium", "cluster": CLUSTER},
            "podCIDRType is cilium, and its ConfigMap does not exist",
        ),
        (
            {"kind": "cilium", "cluster": CLUSTER, "cilium": {"ipam": "eni"}},
            "Cilium's ipam mode 'eni' is not supported",
        ),
        (
            {"kind": "cilium", "cluster": CLUSTER, "cilium": {"ipam": "multi-pool"}},
            "has no CiliumPodIPPools",
        ),
        (
            {"kind": "cluster", "cluster": ClusterCidrs((), CLUSTER.services)},
            "says which CIDR pods have",
        ),
        (
            {"kind": "cluster", "cluster": ClusterCidrs((), CLUSTER.services, ("line 3 is odd",))},
            "says which CIDR pods have; line 3 is odd",
        ),
        (
            {"kind": "cilium", "cluster": CLUSTER, "cilium": {"ipam": "cluster-pool"}},
            "none of cluster-pool-ipv4-cidr",
        ),
        (
            {
                "kind": "cilium",
                "cluster": CLUSTER,
                "cilium": {"cluster-pool-ipv4-cidr": "10.0.0.0"},
            },
            'Cilium\'s cluster-pool-ipv4-cidr: "10.0.0.0" is not a CIDR',
        ),
    ],
)
def test_unknown_pods(sources: dict[str, Any], reason: str) -> None:
    """Where the pod network's CIDRs are not known, the status says why, and keeps the Services'."""
    status = judge(Sources(**{**sources, "kind": PodCIDRType(sources["kind"])})).status

    assert reason in status.reason
    assert ("NotReady", (), CLUSTER.services) == (
        status.phase,
        status.overlay_pod_cidr,
        status.service_cidr,
    )


@pytest.mark.parametrize("kind", [PodCIDRType.CLUSTER, PodCIDRType.CALICO])
def test_unknown_cluster(kind: PodCIDRType) -> None:
    """Without any description of the cluster both lists are empty, and the words are the reference's."""
    expected = CoordinatorStatus(
        phase="NotReady", reason=NO_MANAGER, overlay_pod_cidr=(), service_cidr=()
    )

    assert expected == judge(Sources(kind=kind, calico=("10.244.0.0/16",))).status
    assert "No kube-controller-manager pod found, unable to get clusterCIDR" == expected.reason


def test_notes() -> None:
    """What is left out while the rest is in sync is told beside the status."""
    left_out = {"cluster-pool-ipv4-cidr": "10.0.0.0/8", "cluster-pool-ipv6-cidr": "fd00::"}
    cilium = judge(
        Sources(PodCIDRType.CILIUM, cluster=CLUSTER, cilium=left_out, problems=("a pool is odd",))
    )
    nothing = judge(Sources(PodCIDRType.AUTO, cni="weave", cluster=ClusterCidrs()))

    assert synced(("10.0.0.0/8",)) == cilium.status
    odd = 'Cilium\'s cluster-pool-ipv6-cidr: "fd00::" is not a CIDR and is left out'
    assert ("a pool is odd", odd) == cilium.notes
    assert "Synced" == nothing.status.phase
    assert ["no ServiceCIDR"] == [note[:14] for note in nothing.notes]


def test_cni_not_readable() -> None:
    """Without the CNI's name `auto` does not know where to look."""
    status = judge(Sources(PodCIDRType.AUTO, cni_problem="the folder is not there")).status

    assert ("NotReady", "the folder is not there", (), ()) == (
        status.phase,
        status.reason,
        status.overlay_pod_cidr,
        status.service_cidr,
    )
