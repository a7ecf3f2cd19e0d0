"""
Which addresses belong to the cluster's pods and Services, by what other components wrote down.

Pure; the controller reads.

Source: docs/reference/coordinator.md#which-cidrs; where ours differs, decision 0014.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spiderpool.api.crd.coordinator import (
    PHASE_NOT_READY,
    PHASE_SYNCED,
    CoordinatorStatus,
    PodCIDRType,
)
from spiderpool.datapath.control_plane_cidrs import Cidrs, ClusterCidrs, read_cidrs

NO_SERVICES: Final = (
    "no ServiceCIDR, kubeadm-config or kube-controller-manager says which CIDR Services have: "
    "pods on underlay networks do not reach Services"
)
NO_MANAGER: Final = "No kube-controller-manager pod found, unable to get clusterCIDR"
BY_NAME: Final = {
    "calico": PodCIDRType.CALICO,
    "k8s-pod-network": PodCIDRType.CALICO,
    "cilium": PodCIDRType.CILIUM,
    "flannel": PodCIDRType.CLUSTER,
}
CILIUM_POOL_KEYS: Final = ("cluster-pool-ipv4-cidr", "cluster-pool-ipv6-cidr")
CLUSTER_POOL: Final = ("cluster-pool", "cluster-pool-v2beta")
CILIUM_DEFAULT: Final = "cluster-pool"  # Cilium's own default of its option `ipam`


@dataclass(frozen=True, slots=True)
class Sources:
    """
    Everything that was read; None: it does not exist, or nobody needs it.

    `kind` is what the object asks for, `cni` the name of the node's first CNI configuration.
    `calico` are the CIDRs of Calico's IPPools, `cilium` the data of its ConfigMap, `cilium_pools`
    the CIDRs of its pools, `services` those of the ServiceCIDRs. `problems` are sentences about
    what could not be read on the way, `cni_problem` why the CNI's name could not.
    """

    kind: PodCIDRType
    cni: str = ""
    cluster: ClusterCidrs | None = None
    services: Cidrs | None = None
    calico: Cidrs | None = None
    cilium: Mapping[str, str] | None = None
    cilium_pools: Cidrs | None = None
    problems: tuple[str, ...] = ()
    cni_problem: str = ""


class _Unknown(Exception):
    """What keeps the pod network's CIDRs from being known."""


def resolve_kind(kind: PodCIDRType, cni: str) -> PodCIDRType:
    """
    Return where to look.

    `auto` goes by the name of the node's CNI, and an unknown one has no pod network of interest.
    """
    return BY_NAME.get(cni, PodCIDRType.NONE) if kind is PodCIDRType.AUTO else kind


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the status says, and sentences for the user about what was left out."""

    status: CoordinatorStatus
    notes: tuple[str, ...] = ()


def judge(sources: Sources) -> Judgement:
    """
    Decide what a SpiderCoordinator's status says.

    With `none` there is nothing to find: neither pods nor Services are reached through the node, as
    where eBPF programs translate Services inside pods.
    """
    if sources.kind is PodCIDRType.NONE:
        nothing = CoordinatorStatus(phase=PHASE_SYNCED, overlay_pod_cidr=(), service_cidr=())
        return Judgement(nothing, ())
    notes = [*sources.problems, *(sources.cluster.problems if sources.cluster else ())]
    cluster = sources.cluster or ClusterCidrs()
    services = sources.services if sources.services is not None else cluster.services
    reason, pods = sources.cni_problem, Cidrs()
    if reason:
        services = ()
    elif sources.cluster is None and (sources.services is None or _asks_the_cluster(sources)):
        reason, services = NO_MANAGER, ()
    else:
        try:
            pods, left_out = _pods(sources, cluster)
            notes += left_out
        except _Unknown as unknown:
            reason = str(unknown)
    if not reason and not services:
        notes.append(NO_SERVICES)
    phase = PHASE_NOT_READY if reason else PHASE_SYNCED
    told = "; ".join([reason, *dict.fromkeys(notes)]) if reason else ""
    status = CoordinatorStatus(
        phase=phase, reason=told, overlay_pod_cidr=pods, service_cidr=services
    )
    return Judgement(status, () if reason else tuple(dict.fromkeys(notes)))


def _pods(sources: Sources, cluster: ClusterCidrs) -> tuple[Cidrs, tuple[str, ...]]:
    """Return the pod network's CIDRs, and sentences about what is left out."""
    if _asks_the_cluster(sources):
        if not cluster.pods:
            raise _Unknown(
                "neither kubeadm-config nor kube-controller-manager says which CIDR pods have"
            )
        return cluster.pods, ()
    match resolve_kind(sources.kind, sources.cni):
        case PodCIDRType.CALICO if sources.calico is None:
            raise _Unknown(
                "podCIDRType is calico, and this cluster has no IPPools of Calico "
                "(crd.projectcalico.org/v1 or projectcalico.org/v3)"
            )
        case PodCIDRType.CALICO:
            return sources.calico or (), ()
        case PodCIDRType.CILIUM:
            return _cilium(sources)
        case _:
            return (), ()


def _asks_the_cluster(sources: Sources) -> bool:
    """
    Return whether the pod network's CIDRs are the cluster's own.

    A node whose CNI is merely named like Calico's, in a cluster that has no IPPools of Calico, is
    one of them.
    """
    match resolve_kind(sources.kind, sources.cni):
        case PodCIDRType.CLUSTER:
            return True
        case PodCIDRType.CALICO:
            return sources.kind is PodCIDRType.AUTO and sources.calico is None
        case PodCIDRType.CILIUM:
            return sources.cilium is not None and _cilium_mode(sources.cilium) == "kubernetes"
        case _:
            return False


def _cilium_mode(config: Mapping[str, str]) -> str:
    return config.get("ipam", "").strip() or CILIUM_DEFAULT


def _cilium(sources: Sources) -> tuple[Cidrs, tuple[str, ...]]:
    """Return Cilium's CIDRs by its own IPAM mode."""
    if sources.cilium is None:
        raise _Unknown("podCIDRType is cilium, and its ConfigMap does not exist")
    match _cilium_mode(sources.cilium):
        case mode if mode in CLUSTER_POOL:
            return _cluster_pool(sources.cilium)
        case "multi-pool" if sources.cilium_pools is None:
            raise _Unknown(
                "Cilium's ipam is multi-pool, and this cluster has no CiliumPodIPPools (cilium.io)"
            )
        case "multi-pool":
            return sources.cilium_pools or (), ()
        case mode:
            raise _Unknown(f"Cilium's ipam mode {mode!r} is not supported")


def _cluster_pool(config: Mapping[str, str]) -> tuple[Cidrs, tuple[str, ...]]:
    """
    Read the CIDRs of Cilium's mode cluster-pool.

    One list a family, separated by blanks or commas.
    """
    found = [read_cidrs(f"Cilium's {key}", config.get(key, "")) for key in CILIUM_POOL_KEYS]
    cidrs = tuple(cidr for listed, _ in found for cidr in listed)
    problems = tuple(problem for _, listed in found for problem in listed)
    if not cidrs:
        missing = (
            f"Cilium's ipam is cluster-pool, and none of {' and '.join(CILIUM_POOL_KEYS)} has a "
            "CIDR"
        )
        raise _Unknown("; ".join([missing, *problems]))
    return cidrs, problems
