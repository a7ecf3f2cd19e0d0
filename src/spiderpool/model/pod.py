"""What a pod tells about itself: whether it lives, and whose addresses it asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from spiderpool.api.crd.group import ANNO_NETWORK_STATUS
from spiderpool.api.crd.spiderip import Application, HolderKind
from spiderpool.api.kubernetes.core import Pod
from spiderpool.configuration.config import Features

# Of a mirror pod: the UID that kubelet runs it by. Nobody may add, change or remove it later.
CONFIG_MIRROR: Final = "kubernetes.io/config.mirror"

FINAL_PHASES: Final = frozenset({"Succeeded", "Failed"})


def is_alive(pod: Pod) -> bool:
    """
    Whether a pod may still use addresses.

    A phase that is final stays so whatever the restart policy (Kubernetes, "Pod phase"). The
    original takes some of these pods for alive, and they would hold their addresses for as long as
    the object exists.

    Source: docs/reference/allocation.md#alive-pods.
    """
    return pod.metadata.deletion_timestamp is None and pod.status.phase not in FINAL_PHASES


def has_networks(pod: Pod) -> bool:
    """
    Return whether all networks of a pod were attached.

    Kubelet tells a pod's addresses, and starts its containers, when its sandbox is complete.
    """
    return bool(pod.status.pod_ips) or pod.status.phase == "Running"


def shows_address(pod: Pod, ip: str) -> bool:
    """Return whether a pod's status, or what a meta plugin wrote about it, names an address."""
    listed = any(shown.ip == ip for shown in pod.status.pod_ips)
    return listed or f'"{ip}"' in pod.metadata.annotations.get(ANNO_NETWORK_STATUS, "")


def is_mirror(pod: Pod) -> bool:
    """
    Return whether kubelet made the pod from a file.

    Then the runtime's UID differs from the object's. Anybody may write the annotations
    `config.source` and `config.hash` of any pod. A pod with `config.mirror` is never run as its
    object says, and kubelet deletes one that it has no file for; the node owns a real one.

    Source: Kubernetes, "Static Pods"; admission plugin NodeRestriction ("mirror pods").
    """
    return CONFIG_MIRROR in pod.metadata.annotations and any(
        owner.controller and (owner.kind, owner.name) == ("Node", pod.spec.node_name)
        for owner in pod.metadata.owner_references
    )


def is_run_as(pod: Pod, uid: str) -> bool:
    """Return whether the runtime knows the pod by a UID: the object's, of a mirror pod another."""
    return uid in {pod.metadata.uid, _runtime_uid(pod)}


def runtime_uids(pods: Iterable[Pod]) -> dict[str, str]:
    """
    Return for each UID that the runtime knows the UID of the pod's object.

    A pod's own UID is its own, whatever a mirror pod says.
    """
    pods = tuple(pods)
    foreign = {_runtime_uid(pod): pod.metadata.uid for pod in pods if is_mirror(pod)}
    return foreign | {pod.metadata.uid: pod.metadata.uid for pod in pods if not is_mirror(pod)}


def _runtime_uid(pod: Pod) -> str:
    return pod.metadata.annotations[CONFIG_MIRROR] if is_mirror(pod) else pod.metadata.uid


def full_name(pod: Pod) -> str:
    """Return `namespace/name`."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def holder_kind(owner: Application, features: Features) -> HolderKind:
    """Return what holds the pod's addresses: the pod, or the virtual machine that it runs."""
    virtual = (owner.api_version, owner.kind) == ("kubevirt.io/v1", "VirtualMachineInstance")
    return (
        HolderKind.VIRTUAL_MACHINE
        if virtual and features.enable_kubevirt_static_ip
        else HolderKind.POD
    )


def is_static(owner: Application, features: Features) -> bool:
    """
    Return whether addresses outlive the pod.

    StatefulSets of Kubernetes itself and virtual machines.

    Source: docs/reference/release-and-reclaim.md#owners-of-fixed-addresses.
    """
    stateful = (owner.api_version, owner.kind) == (
        "apps/v1",
        "StatefulSet",
    ) and features.enable_stateful_set
    return stateful or holder_kind(owner, features) is HolderKind.VIRTUAL_MACHINE
