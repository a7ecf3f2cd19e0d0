"""Which addresses are the cluster's own: the rules of datapath.md 3.3 and 3.4."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.coordinator import CoordinatorStatus, PodCIDRType
from spiderpool.wiring.clustercidr import (
    NO_MANAGER,
    ClusterCidrs,
    Sources,
    judge,
    read_kubeadm,
    read_manager,
    resolve_kind,
    valid_cidrs,
)

CLUSTER = ClusterCidrs(("10.233.64.0/18",), ("10.233.0.0/18",))
KUBEADM = """\
apiVersion: kubeadm.k8s.io/v1beta3
kind: ClusterConfiguration
networking:
  dnsDomain: cluster.local
  podSubnet: 10.233.64.0/18,fd85:ee78:d8a6:8607::1:0/112
  serviceSubnet: 10.233.0.0/18,nonsense
"""
POOL_MODE = {
    "ipam": "cluster-pool",
    "cluster-pool-ipv4-cidr": "10.0.0.0/8",
    "cluster-pool-ipv6-cidr": "fd00:10::/104",
}


def synced(pods: tuple[str, ...], services: tuple[str, ...] = CLUSTER.services) -> CoordinatorStatus:
    """Give the status of a coordinator that knows."""
    return CoordinatorStatus(phase="Synced", reason="", overlay_pod_cidr=pods, service_cidr=services)


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


def test_kubeadm() -> None:
    """Both lists are read from kubeadm's configuration; what is no CIDR is left out."""
    expected = ClusterCidrs(("10.233.64.0/18", "fd85:ee78:d8a6:8607::1:0/112"), ("10.233.0.0/18",))

    assert expected == read_kubeadm(KUBEADM)
    assert ClusterCidrs() == read_kubeadm("networking: {}")


def test_manager() -> None:
    """Both lists are read from the flags of kube-controller-manager."""
    words = [
        "kube-controller-manager",
        "--cluster-cidr=10.1.0.0/16,fd00::/48",
        "--service-cluster-ip-range=10.2.0.0/16",
        "--v=2",
    ]

    assert ClusterCidrs(("10.1.0.0/16", "fd00::/48"), ("10.2.0.0/16",)) == read_manager(words)
    assert ClusterCidrs() == read_manager(["kube-controller-manager"])


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param({"kind": "cluster", "cluster": CLUSTER}, synced(CLUSTER.pods), id="cluster"),
        pytest.param({"kind": "auto", "cni": "flannel", "cluster": CLUSTER}, synced(CLUSTER.pods), id="auto, flannel"),
        pytest.param({"kind": "none", "cluster": CLUSTER}, synced(()), id="none keeps Services"),
        pytest.param({"kind": "auto", "cni": "weave", "cluster": CLUSTER}, synced(()), id="auto, unknown"),
        pytest.param(
            {"kind": "cluster", "cluster": CLUSTER, "services": ("10.96.0.0/12",)},
            synced(CLUSTER.pods, ("10.96.0.0/12",)),
            id="ServiceCIDRs win",
        ),
        pytest.param(
            {"kind": "calico", "cluster": CLUSTER, "calico": ("10.244.0.0/16",)}, synced(("10.244.0.0/16",)), id="calico"
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
            {"kind": "auto", "cni": "cilium", "cluster": CLUSTER, "cilium": {**POOL_MODE, "ipam": "cluster-pool-v2beta"}},
            synced(("10.0.0.0/8", "fd00:10::/104")),
            id="auto, Cilium's pool of old",
        ),
        pytest.param(
            {"kind": "cilium", "cluster": CLUSTER, "cilium": {"ipam": "kubernetes"}},
            synced(CLUSTER.pods),
            id="Cilium with the cluster's",
        ),
        pytest.param(
            {"kind": "cilium", "cluster": CLUSTER, "cilium": {"ipam": "multi-pool"}, "cilium_pools": ("10.5.0.0/16",)},
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
    assert expected == judge(Sources(**{**sources, "kind": PodCIDRType(sources["kind"])}))


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        ({"kind": "calico", "cluster": CLUSTER}, "podCIDRType is calico, and this cluster has no IPPools of Calico"),
        ({"kind": "cilium", "cluster": CLUSTER}, "podCIDRType is cilium, and its ConfigMap does not exist"),
        ({"kind": "cilium", "cluster": CLUSTER, "cilium": {"ipam": "eni"}}, "Cilium's ipam mode 'eni' is not supported"),
        ({"kind": "cilium", "cluster": CLUSTER, "cilium": {"ipam": "multi-pool"}}, "has no CiliumPodIPPools"),
        ({"kind": "cluster", "cluster": ClusterCidrs((), CLUSTER.services)}, "says which CIDR pods have"),
    ],
)
def test_unknown_pods(sources: dict[str, Any], reason: str) -> None:
    """Where the pod network's CIDRs are not known, the status says why, and keeps the Services'."""
    status = judge(Sources(**{**sources, "kind": PodCIDRType(sources["kind"])}))

    assert reason in status.reason
    assert ("NotReady", (), CLUSTER.services) == (status.phase, status.overlay_pod_cidr, status.service_cidr)


@pytest.mark.parametrize("kind", [PodCIDRType.CLUSTER, PodCIDRType.NONE, PodCIDRType.CALICO])
def test_unknown_cluster(kind: PodCIDRType) -> None:
    """Without any description of the cluster both lists are empty, and the words are the reference's."""
    expected = CoordinatorStatus(phase="NotReady", reason=NO_MANAGER, overlay_pod_cidr=(), service_cidr=())

    assert expected == judge(Sources(kind=kind, calico=("10.244.0.0/16",)))
    assert "No kube-controller-manager pod found, unable to get clusterCIDR" == expected.reason


@given(st.lists(st.ip_addresses(v=4).map(lambda ip: f"{ip}/24") | st.text(max_size=5), max_size=5))
def test_valid_cidrs(items: list[str]) -> None:
    """What is left is a part of what was there, in its order, each once, and nothing more is taken from it."""
    found = valid_cidrs(items)

    assert found == valid_cidrs(found)
    assert list(found) == [item for item in dict.fromkeys(items) if item in found]
