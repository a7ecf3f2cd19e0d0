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
    """API version of the application, such as `apps/v1`."""
    kind: str
    """Kind, such as `StatefulSet`."""
    name: str
    """Name."""
    uid: str
    """UID."""


class Holder(Kube, frozen=True, kw_only=True):
    """Who holds an address, and where."""

    kind: HolderKind = HolderKind.POD
    """
    What holds the address. `IPPool` is the controller itself while it takes the address out of
    an automatic pool.
    """
    namespace: str = ""
    """Namespace of the holder."""
    name: str = ""
    """Name of the pod, the virtual machine or the pool."""
    uid: str = ""
    """UID of the pod, the virtual machine or the pool."""
    nic: str = ""
    """Name of the interface in the pod."""
    node: str = ""
    """Node of the pod."""
    container_id: str = msgspec.field(default="", name="containerID")
    """ID of the pod's sandbox."""
    network: str = ""
    """Name of the CNI configuration of the interface."""
    owner: Application | None = None
    """Application that the pod belongs to; absent when it belongs to none."""


class SpiderIPSpec(Kube, omit_defaults=False, frozen=True, kw_only=True):
    """One address and its holder."""

    # 39 characters are the longest IPv6 address: the limit bounds the cost of the rules.
    ip: Annotated[str, msgspec.Meta(max_length=39), IMMUTABLE]
    """The address. It never changes, and the object's name is the same address."""
    pool: Annotated[str, IMMUTABLE]
    """Pool that the address is from. It never changes."""
    family: Annotated[int, msgspec.Meta(extra_json_schema={"enum": [4, 6]}), IMMUTABLE]
    """Family of the address, 4 or 6. It never changes."""
    prefix_length: Annotated[int, msgspec.Meta(ge=0, le=128)]
    """Prefix length of the pool's subnet when the pod got the address."""
    state: IPState = IPState.HELD
    """
    `Held` by somebody; `Cooling` after a release, until others may have it; `Quarantined`
    because another machine answered for it.
    """
    holder: Holder
    """Who holds the address, or held it last."""
    static: bool = False
    """
    Whether the address outlives the pod: it stays with the pod of a StatefulSet, or with a
    virtual machine.
    """
    gateway: Annotated[str, msgspec.Meta(max_length=39)] | None = None
    """Gateway that the pod was given. An edit of the pool does not reach running pods."""
    clean_gateway: bool = False
    """Whether the pod was given no default route although there is a gateway."""
    routes: tuple[Route, ...] = ()
    """Routes that the pod was given."""
    state_since: str | None = None
    """
    When a state other than `Held` began (RFC 3339). It serves people, and the order in which
    resting addresses are given again.
    """
    conflict_mac: str | None = msgspec.field(default=None, name="conflictMAC")
    """Hardware address of the machine that answered for a quarantined address."""

    def __post_init__(self) -> None:
        """
        Refuse what is no address, so that nobody who reads records meets one.

        The definition says the same; a record may be older than its rules.
        """
        for text in (self.ip, self.gateway):
            if text is not None and ip_address(text).version != self.family:
                raise ValueError(f"{text} is no IPv{self.family} address")

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
    """The allocation."""

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
