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
    gw: str


class RangeSpec(Kube, frozen=True, kw_only=True):
    """
    Addresses of one subnet, and what goes with them: what pools and subnets have in common.

    Only `subnet` is required.
    """

    ip_version: Annotated[
        Literal[4, 6] | None, msgspec.Meta(description="family; filled from `subnet`")
    ] = None
    subnet: Annotated[str, msgspec.Meta(description="CIDR, written as a network address")]
    ips: Annotated[tuple[str, ...], msgspec.Meta(description="each item A or A-B")] = ()
    exclude_ips: Annotated[tuple[str, ...], msgspec.Meta(description="taken out of `ips`")] = (
        msgspec.field(default=(), name="excludeIPs")
    )
    gateway: Annotated[str | None, msgspec.Meta(description="inside `subnet`")] = None
    # An empty list is not the same as none: it keeps a pool from inheriting its subnet's routes
    # (docs/reference/automatic-pools.md#pools-that-belong-to-a-subnet).
    routes: tuple[Route, ...] | None = None


class IPPoolSpec(RangeSpec, frozen=True, kw_only=True):
    """What the user asks of a pool; only `subnet` is required."""

    pod_affinity: LabelSelector | None = None
    namespace_affinity: LabelSelector | None = None
    node_affinity: LabelSelector | None = None
    namespace_name: tuple[str, ...] = ()
    node_name: tuple[str, ...] = ()
    multus_name: tuple[str, ...] = ()
    default: Annotated[bool | None, SCHEMA_FALSE] = None
    disable: Annotated[bool | None, SCHEMA_FALSE] = None
    cool_down_seconds: (
        Annotated[
            int,
            msgspec.Meta(
                ge=0,
                le=86400,
                description="how long a released address rests while others are free, 30 if absent; 0 = not at all",
            ),
        ]
        | None
    ) = None
    enable_ip_conflict_detection: Annotated[
        bool | None,
        msgspec.Meta(
            description="ask the wire before an address is given; the cluster's switch if absent"
        ),
    ] = msgspec.field(default=None, name="enableIPConflictDetection")
    enable_gateway_detection: Annotated[
        bool | None,
        msgspec.Meta(
            description="ask for the gateway before a pod starts; the cluster's switch if absent"
        ),
    ] = None


class IPPoolStatus(Kube, frozen=True, kw_only=True):
    """
    A projection of the pool's SpiderIPs, in the form that other tools know.

    Nothing decides from it.
    """

    allocated_ips: Annotated[
        str | None,
        msgspec.Meta(
            description='JSON object {"<ip>":{"pod":"<ns>/<name>","podUid":"<uid>"}}; absent if none'
        ),
    ] = msgspec.field(default=None, name="allocatedIPs")
    total_ip_count: Annotated[int, msgspec.Meta(ge=0)] | None = msgspec.field(
        default=None, name="totalIPCount"
    )
    allocated_ip_count: Annotated[int, msgspec.Meta(ge=0)] | None = msgspec.field(
        default=None, name="allocatedIPCount"
    )


class SpiderIPPool(KubeObject, frozen=True, kw_only=True):
    """A pool of addresses."""

    resource: ClassVar[Resource] = spiderpool_resource("SpiderIPPool", "spiderippools")

    spec: IPPoolSpec
    status: IPPoolStatus = IPPoolStatus()
