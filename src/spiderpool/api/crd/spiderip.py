"""
SpiderIP: the record of one allocation. Its name is the address.

Creating it is the lock.

Source: docs/reference/objects.md#spiderip, docs/decisions/0001-one-object-per-address.md.
"""

from __future__ import annotations

import enum
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import Annotated, ClassVar

import msgspec

from spiderpool.addressing.sets import IPAddress, IPInterface
from spiderpool.api.crd.group import spiderpool_resource
from spiderpool.api.crd.ippool import Route
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource

IMMUTABLE = msgspec.Meta(
    extra_json_schema={
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]
    }
)


class IPState(enum.StrEnum):
    """What an address is doing."""

    HELD = "Held"
    COOLING = "Cooling"
    QUARANTINED = "Quarantined"


class HolderKind(enum.StrEnum):
    """What kind of thing holds an address."""

    POD = "Pod"
    VIRTUAL_MACHINE = "VirtualMachineInstance"
    POOL = "IPPool"  # the controller, while it moves addresses out of a pool


class Application(Kube, frozen=True, kw_only=True):
    """
    The top owner of a pod: its Deployment, StatefulSet, ….

    The pod itself when nothing owns it.
    """

    api_version: str
    kind: str
    name: str
    uid: str


class Holder(Kube, frozen=True, kw_only=True):
    """Who holds an address, and where."""

    kind: HolderKind = HolderKind.POD
    namespace: str = ""
    name: str = ""
    uid: str = ""
    nic: str = ""
    node: str = ""
    container_id: str = msgspec.field(default="", name="containerID")
    network: str = ""
    owner: Application | None = None


class SpiderIPSpec(Kube, omit_defaults=False, frozen=True, kw_only=True):
    """
    One address and its holder.

    Address, pool and family never change. Static: the record outlives its pod (StatefulSet, VM).
    Gateway, routes, prefix length and clean gateway are what the pod was given: pool edits do not
    reach running pods. The time since when the state lasts serves people and the order of cooling
    addresses; durations are measured by the observer. The conflict's MAC is that of the answer for
    a quarantined address on the wire.
    """

    # the longest IPv6 address; bounds the cost of the rules
    ip: Annotated[str, msgspec.Meta(max_length=39), IMMUTABLE]
    pool: Annotated[str, IMMUTABLE]
    family: Annotated[int, msgspec.Meta(extra_json_schema={"enum": [4, 6]}), IMMUTABLE]
    prefix_length: Annotated[int, msgspec.Meta(ge=0, le=128)]
    state: IPState = IPState.HELD
    holder: Holder
    static: bool = False
    gateway: str | None = None
    clean_gateway: bool = False
    routes: tuple[Route, ...] = ()
    state_since: str | None = None
    conflict_mac: str | None = msgspec.field(default=None, name="conflictMAC")

    @property
    def address(self) -> IPAddress:
        """`ip` as an address."""
        return ip_address(self.ip)

    @property
    def interface(self) -> IPInterface:
        """`ip` with its prefix length."""
        kind = IPv4Interface if self.family == 4 else IPv6Interface  # noqa: PLR2004
        return kind((int(self.address), self.prefix_length))

    @property
    def gateway_address(self) -> IPAddress | None:
        """`gateway` as an address."""
        return None if self.gateway is None else ip_address(self.gateway)


class SpiderIP(KubeObject, frozen=True, kw_only=True):
    """The record of one allocation."""

    resource: ClassVar[Resource] = spiderpool_resource("SpiderIP", "spiderips")

    spec: SpiderIPSpec

    @property
    def held(self) -> bool:
        """Return whether somebody has the address."""
        return self.spec.state is IPState.HELD

    @property
    def held_by_workload(self) -> bool:
        """
        Return whether a pod or a virtual machine has the address.

        The controller's own claims do not count.
        """
        return self.held and self.spec.holder.kind is not HolderKind.POOL
