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


def _schema(default: object, description: str = "") -> msgspec.Meta:
    """Name a default that the API server fills in; the type itself keeps "absent" apart from it."""
    return msgspec.Meta(extra_json_schema={"default": default}, description=description or None)


# A field of None was not said: a network's word is then the cluster's.
class CoordinatorSpec(Kube, frozen=True, kw_only=True):
    """
    What the coordinator does with a pod.

    SpiderCoordinator says it for the whole cluster, SpiderMultusConfig for one network; the network
    has the last word.
    """

    mode: Annotated[CoordinatorMode | None, _schema("auto")] = None
    pod_cidr_type: Annotated[
        PodCIDRType | None, msgspec.Meta(description="where the CIDRs of the pod network are read")
    ] = msgspec.field(default=None, name="podCIDRType")
    hijack_cidr: Annotated[
        tuple[str, ...], msgspec.Meta(description="more destinations reached through the node")
    ] = msgspec.field(default=(), name="hijackCIDR")
    policy_routes: tuple[Route, ...] = ()
    pod_mac_prefix: Annotated[
        str | None,
        msgspec.Meta(
            description="first two bytes of the MAC, as 0a:1b; the rest is the IPv4 address"
        ),
    ] = msgspec.field(default=None, name="podMACPrefix")
    tune_pod_routes: Annotated[bool | None, _schema(True)] = None
    pod_default_route_nic: Annotated[
        str | None, msgspec.Meta(description="interface that keeps the default route")
    ] = msgspec.field(default=None, name="podDefaultRouteNIC")
    host_rule_table: Annotated[
        int | None, _schema(500, "routing table of the node for its pods")
    ] = None
    pod_rp_filter: Annotated[int | None, _schema(0, "0, 1 or 2; negative leaves it alone")] = (
        msgspec.field(default=None, name="podRPFilter")
    )
    tx_queue_len: Annotated[int | None, _schema(0)] = None
    veth_link_address: Annotated[
        str | None, msgspec.Meta(description="address of the pod's end of veth0")
    ] = None
    veth_mtu: Annotated[int, msgspec.Meta(ge=1)] | None = msgspec.field(
        default=None, name="vethMTU"
    )


class CoordinatorStatus(Kube, frozen=True, kw_only=True):
    """What the controller found: empty at first, then Synced, or NotReady with a reason."""

    phase: str
    reason: str = ""
    overlay_pod_cidr: tuple[str, ...] | None = msgspec.field(default=None, name="overlayPodCIDR")
    service_cidr: tuple[str, ...] | None = msgspec.field(default=None, name="serviceCIDR")


class SpiderCoordinator(KubeObject, frozen=True, kw_only=True):
    """The cluster's coordinator settings; one object, named `default`."""

    resource: ClassVar[Resource] = spiderpool_resource("SpiderCoordinator", "spidercoordinators")

    spec: CoordinatorSpec = CoordinatorSpec()
    status: CoordinatorStatus | None = None
