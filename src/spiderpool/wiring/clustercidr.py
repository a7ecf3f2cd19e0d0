"""
Which addresses belong to the cluster's pods and Services, told from what others wrote down. Pure; reading is the controller's.

Source: reference datapath.md 3.2 to 3.4; where ours differs, decision 0014.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from spiderpool.addressing.ranges import parse_network
from spiderpool.api.coordinator import PHASE_NOT_READY, PHASE_SYNCED, CoordinatorStatus, PodCIDRType
from spiderpool.errors import InvalidRequest

POD_SUBNET: Final = re.compile(r"podSubnet:\s*(\S+)")
SERVICE_SUBNET: Final = re.compile(r"serviceSubnet:\s*(\S+)")
CLUSTER_CIDR: Final = "--cluster-cidr="
SERVICE_RANGE: Final = "--service-cluster-ip-range="
NO_MANAGER: Final = "No kube-controller-manager pod found, unable to get clusterCIDR"
BY_NAME: Final = {
    "calico": PodCIDRType.CALICO,
    "k8s-pod-network": PodCIDRType.CALICO,
    "cilium": PodCIDRType.CILIUM,
    "flannel": PodCIDRType.CLUSTER,
}
CILIUM_POOL_KEYS: Final = ("cluster-pool-ipv4-cidr", "cluster-pool-ipv6-cidr")
CLUSTER_POOL: Final = ("cluster-pool", "cluster-pool-v2beta")

Cidrs = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterCidrs:
    """What the cluster as a whole was set up with: an empty list was not found."""

    pods: Cidrs = ()
    services: Cidrs = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return bool(self.pods and self.services)


@dataclass(frozen=True, slots=True)
class Sources:
    """
    Everything that was read; None: it does not exist, or nobody needs it.

    `kind` is what the object asks for, `cni` the name of the node's first CNI configuration. `calico` are the CIDRs of Calico's
    IPPools, `cilium` the data of its ConfigMap, `cilium_pools` the CIDRs of its pools, `services` those of the ServiceCIDRs.
    """

    kind: PodCIDRType
    cni: str = ""
    cluster: ClusterCidrs | None = None
    services: Cidrs | None = None
    calico: Cidrs | None = None
    cilium: Mapping[str, str] | None = None
    cilium_pools: Cidrs | None = None


class _Unknown(Exception):
    """What keeps the pod network's CIDRs from being known."""


def resolve_kind(kind: PodCIDRType, cni: str) -> PodCIDRType:
    """Give where to look: `auto` goes by the name of the node's CNI, and an unknown one has no pod network of interest."""
    return BY_NAME.get(cni, PodCIDRType.NONE) if kind is PodCIDRType.AUTO else kind


def read_kubeadm(text: str) -> ClusterCidrs:
    """Read key `ClusterConfiguration` of the ConfigMap `kubeadm-config`."""
    found = (pattern.search(text) for pattern in (POD_SUBNET, SERVICE_SUBNET))
    pods, services = (valid_cidrs(_split(match[1])) if match else () for match in found)
    return ClusterCidrs(pods, services)


def read_manager(words: Iterable[str]) -> ClusterCidrs:
    """Read the command line of kube-controller-manager."""
    pods: Cidrs = ()
    services: Cidrs = ()
    for word in words:
        if word.startswith(CLUSTER_CIDR):
            pods = valid_cidrs(_split(word.removeprefix(CLUSTER_CIDR)))
        elif word.startswith(SERVICE_RANGE):
            services = valid_cidrs(_split(word.removeprefix(SERVICE_RANGE)))
    return ClusterCidrs(pods, services)


def valid_cidrs(items: Iterable[str]) -> Cidrs:
    """Keep what is a CIDR, each once, in its order."""
    return tuple(dict.fromkeys(item for item in items if _is_cidr(item)))


def judge(sources: Sources) -> CoordinatorStatus:
    """Decide what a SpiderCoordinator's status says."""
    if sources.cluster is None and (sources.services is None or _asks_the_cluster(sources)):
        return CoordinatorStatus(phase=PHASE_NOT_READY, reason=NO_MANAGER, overlay_pod_cidr=(), service_cidr=())
    cluster = sources.cluster or ClusterCidrs()
    services = sources.services if sources.services is not None else cluster.services
    try:
        pods = _pods(sources, cluster)
    except _Unknown as unknown:
        return CoordinatorStatus(phase=PHASE_NOT_READY, reason=str(unknown), overlay_pod_cidr=(), service_cidr=services)
    return CoordinatorStatus(phase=PHASE_SYNCED, reason="", overlay_pod_cidr=pods, service_cidr=services)


def _pods(sources: Sources, cluster: ClusterCidrs) -> Cidrs:
    """Give the pod network's CIDRs."""
    if _asks_the_cluster(sources):
        if not cluster.pods:
            raise _Unknown("neither kubeadm-config nor kube-controller-manager says which CIDR pods have")
        return cluster.pods
    match resolve_kind(sources.kind, sources.cni):
        case PodCIDRType.CALICO if sources.calico is None:
            raise _Unknown("podCIDRType is calico, and this cluster has no IPPools of Calico (crd.projectcalico.org/v1)")
        case PodCIDRType.CALICO:
            return sources.calico or ()
        case PodCIDRType.CILIUM:
            return _cilium(sources)
        case _:
            return ()


def _asks_the_cluster(sources: Sources) -> bool:
    """
    Whether the pod network's CIDRs are the cluster's own.

    A node whose CNI is merely named like Calico's, in a cluster that has no IPPools of Calico, is one of them.
    """
    match resolve_kind(sources.kind, sources.cni):
        case PodCIDRType.CLUSTER:
            return True
        case PodCIDRType.CALICO:
            return sources.kind is PodCIDRType.AUTO and sources.calico is None
        case PodCIDRType.CILIUM:
            return sources.cilium is not None and sources.cilium.get("ipam") == "kubernetes"
        case _:
            return False


def _cilium(sources: Sources) -> Cidrs:
    """Give Cilium's CIDRs by its own IPAM mode."""
    if sources.cilium is None:
        raise _Unknown("podCIDRType is cilium, and its ConfigMap does not exist")
    match sources.cilium.get("ipam"):
        case mode if mode in CLUSTER_POOL:
            return valid_cidrs(item for key in CILIUM_POOL_KEYS for item in _split(sources.cilium.get(key, "")))
        case "multi-pool" if sources.cilium_pools is None:
            raise _Unknown("Cilium's ipam is multi-pool, and this cluster has no CiliumPodIPPools (cilium.io/v2alpha1)")
        case "multi-pool":
            return sources.cilium_pools or ()
        case mode:
            raise _Unknown(f"Cilium's ipam mode {mode!r} is not supported")


def _split(text: str) -> list[str]:
    """Split a list of CIDRs; quotes around it are YAML's."""
    return [item for item in re.split(r"[,\s]+", text.strip("\"'")) if item]


def _is_cidr(text: str) -> bool:
    """Whether a text is a CIDR."""
    try:
        parse_network(text)
    except InvalidRequest:
        return False
    return True
