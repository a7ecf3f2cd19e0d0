"""
SpiderCoordinator.

How pods reach node, cluster and each other's interfaces.

Source: docs/reference/coordinator.md#spidercoordinator.
"""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar, Final

import msgspec

from spiderpool.api.crd.group import spiderpool_resource
from spiderpool.api.crd.ippool import Route
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource

PHASE_SYNCED: Final = "Synced"
PHASE_NOT_READY: Final = "NotReady"


class CoordinatorMode(enum.StrEnum):
    """How a pod's first interface is treated."""

    AUTO = "auto"
    UNDERLAY = "underlay"
    OVERLAY = "overlay"
    DISABLED = "disabled"


class PodCIDRType(enum.StrEnum):
    """Where the pod network's CIDRs are read."""

    AUTO = "auto"
    CLUSTER = "cluster"
    CALICO = "calico"
    CILIUM = "cilium"
    NONE = "none"


def _schema(default: object) -> msgspec.Meta:
    """Name a default that the API server fills in; the type itself keeps "absent" apart from it."""
    return msgspec.Meta(extra_json_schema={"default": default})


# A field of None was not said: a network's word is then the cluster's.
class CoordinatorSpec(Kube, frozen=True, kw_only=True):
    """
    What the coordinator does with a pod.

    SpiderCoordinator says it for the whole cluster, SpiderMultusConfig for one network; the network
    has the last word.
    """

    mode: Annotated[CoordinatorMode | None, _schema("auto")] = None
    """
    What the pod's first interface is: `underlay`, `overlay`, or found out for each pod
    (`auto`). `disabled` does nothing.
    """
    pod_cidr_type: PodCIDRType | None = msgspec.field(default=None, name="podCIDRType")
    """
    Where the CIDRs of the pod network are read: of the cluster, of Calico, of Cilium, found out
    (`auto`), or nowhere (`none`).
    """
    hijack_cidr: tuple[str, ...] = msgspec.field(default=(), name="hijackCIDR")
    """Further destinations that pods reach through their node, each a CIDR."""
    policy_routes: tuple[Route, ...] = ()
    """Further routes in the routing table of the interface."""
    pod_mac_prefix: str | None = msgspec.field(default=None, name="podMACPrefix")
    """
    First two bytes of the interface's hardware address, as `0a:1b`, the second digit even. The
    other four are the last bytes of its first address.
    """
    tune_pod_routes: Annotated[bool | None, _schema(True)] = None
    """
    Whether each interface of a pod has a way out of its own, so that answers leave by the
    interface that was asked.
    """
    pod_default_route_nic: str | None = msgspec.field(default=None, name="podDefaultRouteNIC")
    """
    Interface that has the default route of the main table; empty: the one that has it already.
    """
    host_rule_table: Annotated[int | None, _schema(500)] = None
    """Number of the node's routing table for its pods: 1 to 4294967295, not 253 to 255."""
    pod_rp_filter: Annotated[int | None, _schema(0)] = msgspec.field(
        default=None, name="podRPFilter"
    )
    """`net.ipv4.conf.all.rp_filter` in the pod: 0, 1 or 2. A negative number leaves it alone."""
    tx_queue_len: Annotated[int | None, _schema(0)] = None
    """Length of the interface's transmit queue; 0 leaves it alone."""
    veth_link_address: str | None = None
    """Address of `veth0` in the pod; empty for none."""
    veth_mtu: Annotated[int, msgspec.Meta(ge=1)] | None = msgspec.field(
        default=None, name="vethMTU"
    )
    """MTU of both ends of the veth pair; 1500 when absent."""


class CoordinatorStatus(Kube, frozen=True, kw_only=True):
    """What the controller found: empty at first, then Synced, or NotReady with a reason."""

    phase: str
    """`Synced` when the CIDRs are known, otherwise `NotReady`."""
    reason: str = ""
    """Why the phase is not `Synced`."""
    overlay_pod_cidr: tuple[str, ...] | None = msgspec.field(default=None, name="overlayPodCIDR")
    """CIDRs of the pod network."""
    service_cidr: tuple[str, ...] | None = msgspec.field(default=None, name="serviceCIDR")
    """CIDRs of Services."""


class SpiderCoordinator(KubeObject, frozen=True, kw_only=True):
    """The cluster's coordinator settings; one object, named `default`."""

    resource: ClassVar[Resource] = spiderpool_resource("SpiderCoordinator", "spidercoordinators")

    spec: CoordinatorSpec = CoordinatorSpec()
    """What the user asks for."""
    status: CoordinatorStatus | None = None
    """What the controller found."""
