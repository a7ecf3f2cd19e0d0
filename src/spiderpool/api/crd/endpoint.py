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
    ipv4: str | None = None
    ipv4_pool: str | None = msgspec.field(default=None, name="ipv4Pool")
    ipv4_gateway: str | None = msgspec.field(default=None, name="ipv4Gateway")
    ipv6: str | None = None
    ipv6_pool: str | None = msgspec.field(default=None, name="ipv6Pool")
    ipv6_gateway: str | None = msgspec.field(default=None, name="ipv6Gateway")
    vlan: Annotated[Annotated[int, msgspec.Meta(ge=0, le=4094)] | None, SCHEMA_ZERO] = None
    clean_gateway: bool | None = None
    routes: tuple[Route, ...] = ()
    mac: str | None = None


class EndpointCurrent(Kube, frozen=True, kw_only=True):
    """The pod that holds the addresses now."""

    uid: str
    node: str
    ips: tuple[EndpointIP, ...]


class EndpointStatus(Kube, omit_defaults=False, frozen=True, kw_only=True):
    """Who holds what."""

    current: EndpointCurrent
    owner_controller_type: str
    owner_controller_name: str


class SpiderEndpoint(KubeObject, frozen=True, kw_only=True):
    """A derived object: rebuilt from SpiderIPs, read by people and other tools."""

    resource: ClassVar[Resource] = spiderpool_resource(
        "SpiderEndpoint", "spiderendpoints", namespaced=True
    )

    status: EndpointStatus | None = None
