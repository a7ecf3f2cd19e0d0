"""
SpiderIPPool: a range of addresses of one subnet, and who may use it.

Source: docs/reference/objects.md#spiderippool.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from spiderpool.api.crd.group import spiderpool_resource
from spiderpool.api.kubernetes.meta import Kube, KubeObject, LabelSelector, Resource

SCHEMA_FALSE = msgspec.Meta(extra_json_schema={"default": False})


class Route(Kube, frozen=True, kw_only=True):
    """A route that pods get."""

    dst: str
    """Destination: a CIDR, or `0.0.0.0/0` or `::/0` for a default route."""
    gw: str
    """Next hop: an address of the same family."""


class RangeSpec(Kube, frozen=True, kw_only=True):
    """
    Addresses of one subnet, and what goes with them: what pools and subnets have in common.

    Only `subnet` is required.
    """

    ip_version: Literal[4, 6] | None = None
    """Family of all addresses, 4 or 6. The webhook fills it in from `subnet`; it never changes."""
    subnet: str
    """Network that the addresses belong to, as a CIDR without host bits. It never changes."""
    ips: tuple[str, ...] = ()
    """Addresses, each item `A` or `A-B`. The webhook merges and sorts the items."""
    exclude_ips: tuple[str, ...] = msgspec.field(default=(), name="excludeIPs")
    """Addresses that are taken out of `ips`, in the same form."""
    gateway: str | None = None
    """Gateway of the pods: an address inside `subnet`, which no pod ever gets."""
    routes: tuple[Route, ...] | None = None
    """
    Routes that pods get besides the default route. An empty list is not the same as none: it
    keeps a pool of a SpiderSubnet from taking over the routes of that subnet.
    """


class IPPoolSpec(RangeSpec, frozen=True, kw_only=True):
    """What the user asks of a pool; only `subnet` is required."""

    pod_affinity: LabelSelector | None = None
    """Pods that may use the pool, by their labels; absent: all."""
    namespace_affinity: LabelSelector | None = None
    """Namespaces whose pods may use the pool, by their labels; absent: all."""
    node_affinity: LabelSelector | None = None
    """Nodes whose pods may use the pool, by their labels; absent: all."""
    namespace_name: tuple[str, ...] = ()
    """
    Namespaces whose pods may use the pool, by name. If there are any, `namespaceAffinity` is
    not looked at.
    """
    node_name: tuple[str, ...] = ()
    """
    Nodes whose pods may use the pool, by name. If there are any, `nodeAffinity` is not looked
    at.
    """
    multus_name: tuple[str, ...] = ()
    """Networks whose interfaces may use the pool: `name`, or `namespace/name`; empty: all."""
    default: Annotated[bool | None, SCHEMA_FALSE] = None
    """Whether the pool serves pods that name no pool."""
    disable: Annotated[bool | None, SCHEMA_FALSE] = None
    """Whether the pool gives no new address. Releases go on."""
    cool_down_seconds: Annotated[int, msgspec.Meta(ge=0, le=86400)] | None = None
    """
    How long a released address rests while others are free, in seconds; 30 when absent, 0 for
    not at all.
    """
    enable_ip_conflict_detection: bool | None = msgspec.field(
        default=None, name="enableIPConflictDetection"
    )
    """
    Whether to ask the network for another owner before an address is given; absent: as the
    cluster is configured.
    """
    enable_gateway_detection: bool | None = None
    """
    Whether to ask the network for the gateway before a pod starts; absent: as the cluster is
    configured.
    """


class IPPoolStatus(Kube, frozen=True, kw_only=True):
    """
    A projection of the pool's SpiderIPs, in the form that other tools know.

    Nothing decides from it.
    """

    allocated_ips: str | None = msgspec.field(default=None, name="allocatedIPs")
    """
    Who holds which address: JSON text
    `{"<address>":{"pod":"<namespace>/<name>","podUid":"<uid>"}}`. Absent when nobody holds one,
    and when more are held than the controller writes here.
    """
    total_ip_count: Annotated[int, msgspec.Meta(ge=0)] | None = msgspec.field(
        default=None, name="totalIPCount"
    )
    """How many addresses `ips` without `excludeIPs` has, reserved ones included."""
    allocated_ip_count: Annotated[int, msgspec.Meta(ge=0)] | None = msgspec.field(
        default=None, name="allocatedIPCount"
    )
    """How many addresses are held. Those that rest after a release do not count."""


class SpiderIPPool(KubeObject, frozen=True, kw_only=True):
    """A pool of addresses."""

    resource: ClassVar[Resource] = spiderpool_resource("SpiderIPPool", "spiderippools")

    spec: IPPoolSpec
    """What the user asks for."""
    status: IPPoolStatus = IPPoolStatus()
    """What the controller found. Nothing decides from it."""
