"""
SpiderEndpoint.

What a pod holds on each NIC, in the form that other tools know.

Source: docs/reference/objects.md#spiderendpoint.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from spiderpool.api.crd.group import spiderpool_resource
from spiderpool.api.crd.ippool import Route
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource

SCHEMA_ZERO = msgspec.Meta(extra_json_schema={"default": 0})


class EndpointIP(Kube, frozen=True, kw_only=True):
    """The addresses of one NIC, both families."""

    interface: str
    """Name of the interface in the pod."""
    ipv4: str | None = None
    """IPv4 address, with the prefix length of the pool's subnet."""
    ipv4_pool: str | None = msgspec.field(default=None, name="ipv4Pool")
    """Pool of the IPv4 address."""
    ipv4_gateway: str | None = msgspec.field(default=None, name="ipv4Gateway")
    """IPv4 gateway."""
    ipv6: str | None = None
    """IPv6 address, with the prefix length of the pool's subnet."""
    ipv6_pool: str | None = msgspec.field(default=None, name="ipv6Pool")
    """Pool of the IPv6 address."""
    ipv6_gateway: str | None = msgspec.field(default=None, name="ipv6Gateway")
    """IPv6 gateway."""
    vlan: Annotated[Annotated[int, msgspec.Meta(ge=0, le=4094)] | None, SCHEMA_ZERO] = None
    """Always 0; kept for tools that read it."""
    clean_gateway: bool | None = None
    """Whether the pod has no default route by this interface although the pool has a gateway."""
    routes: tuple[Route, ...] = ()
    """Routes of both families, those of the pool and the pod's own, without the default route."""
    mac: str | None = None
    """Never written; kept for tools that read it."""


class EndpointCurrent(Kube, frozen=True, kw_only=True):
    """The pod that holds the addresses now."""

    uid: str
    """UID of the pod; for a fixed address of a virtual machine that of its current pod."""
    node: str
    """Node of the pod."""
    ips: tuple[EndpointIP, ...]
    """One item for each interface, `eth0` first."""


class EndpointStatus(Kube, omit_defaults=False, frozen=True, kw_only=True):
    """Who holds what."""

    current: EndpointCurrent
    """The pod that holds the addresses now."""
    owner_controller_type: str
    """Kind of the application that the pod belongs to; `Pod` when it belongs to none."""
    owner_controller_name: str
    """Name of that application; the pod's own name when it belongs to none."""


class SpiderEndpoint(KubeObject, frozen=True, kw_only=True):
    """A derived object: rebuilt from SpiderIPs, read by people and other tools."""

    resource: ClassVar[Resource] = spiderpool_resource(
        "SpiderEndpoint", "spiderendpoints", namespaced=True
    )

    status: EndpointStatus | None = None
    """Who holds what. It is derived from the SpiderIPs; nothing decides from it."""
