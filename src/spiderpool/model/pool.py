"""A SpiderIPPool read once: text parsed, sets computed. Caches of pools hold these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final, Self

from spiderpool.addressing.hosts import no_hosts, place_problem
from spiderpool.addressing.ranges import parse_address, parse_network, parse_ranges
from spiderpool.addressing.sets import AddressSet, IPAddress, IPNetwork
from spiderpool.api.crd.group import (
    ANNO_IMPORTED,
    LABEL_INTERFACE,
    LABEL_IP_VERSION,
    LABEL_IPPOOL_RECLAIM,
    LABEL_OWNER_APP_GV,
    LABEL_OWNER_APP_KIND,
    LABEL_OWNER_APP_NAME,
    LABEL_OWNER_APP_NAMESPACE,
    LABEL_OWNER_APP_UID,
    LABEL_OWNER_SUBNET,
)
from spiderpool.api.crd.ippool import IPPoolSpec, RangeSpec, Route, SpiderIPPool
from spiderpool.api.kubernetes.meta import LabelSelector
from spiderpool.errors import InvalidRequest

# longer than neighbours believe an old MAC (Linux: base_reachable_time, 30 s)
COOL_DOWN_S: Final = 30
NO_NETWORK: Final = IPv4Network("0.0.0.0/32")  # the subnet of a pool whose subnet cannot be read


@dataclass(frozen=True, slots=True)
class Place:
    """
    What an automatic pool is for: an application's NIC and family, and the subnet.

    As the pool's labels have it, so names over 63 characters are hashes. `application` is
    `<group>_<version>_<Kind>_<namespace>_<name>`.
    """

    application: str
    subnet: str
    nic: str
    family: int

    @classmethod
    def of_labels(cls, labels: Mapping[str, str]) -> Self | None:
        """Read the labels of a pool; None when it is no automatic one."""
        if LABEL_OWNER_APP_NAME not in labels:
            return None
        parts = (
            LABEL_OWNER_APP_GV,
            LABEL_OWNER_APP_KIND,
            LABEL_OWNER_APP_NAMESPACE,
            LABEL_OWNER_APP_NAME,
        )
        return cls(
            application="_".join(labels.get(part, "") for part in parts),
            subnet=labels.get(LABEL_OWNER_SUBNET, ""),
            nic=labels.get(LABEL_INTERFACE, ""),
            family=6 if labels.get(LABEL_IP_VERSION) == "IPv6" else 4,
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """
    What decisions need to know of a pool.

    `total` = `ips` without `excludeIPs`; what status counts. `usable` = `total` without what no pod
    of the subnet can have (`withheld`); what pods may get. `broken` says why the pool cannot be
    read; then its sets are empty, and it is refused with these words. `imported` is false while
    allocations of Go Spiderpool wait for their SpiderIPs.
    `place`: what an automatic pool is for; then `application_uid` is that of the application, and
    `reclaim` says whether the pool goes with it. `cool_down_s`: how long a released address rests
    while others are free. `conflict_detection`, `gateway_detection`: None = the cluster's switch.
    """

    name: str
    uid: str
    family: int
    subnet: IPNetwork
    total: AddressSet
    usable: AddressSet
    gateway: IPAddress | None
    routes: tuple[Route, ...]
    node_names: tuple[str, ...]
    namespace_names: tuple[str, ...]
    multus_names: tuple[str, ...]
    pod_affinity: LabelSelector | None
    namespace_affinity: LabelSelector | None
    node_affinity: LabelSelector | None
    default: bool
    disabled: bool
    terminating: bool
    place: Place | None
    application_uid: str
    reclaim: bool
    imported: bool
    broken: str | None
    cool_down_s: int = COOL_DOWN_S
    conflict_detection: bool | None = None
    gateway_detection: bool | None = None

    @property
    def auto(self) -> bool:
        """Return whether the pool was made by the product for one application."""
        return self.place is not None

    def why_withheld(self, ip: IPAddress) -> str | None:
        """
        Say why no pod gets an address of the pool.

        The end of a sentence, None when pods get it.
        """
        if ip not in self.total or ip in self.usable:
            return None
        if ip == self.gateway:
            return f"is the gateway of pool {self.name}"
        return place_problem(ip, self.subnet) or f"is the gateway of a route of pool {self.name}"

    @classmethod
    def parse(cls, obj: SpiderIPPool) -> Pool:
        """Read the object; one that cannot be read gives a pool that says so."""
        spec, broken = obj.spec, None
        try:
            subnet, gateway, total = read_range(spec)
            usable = total - withheld(subnet, gateway, spec.routes or ())
        except InvalidRequest as error:
            subnet, gateway, broken = NO_NETWORK, None, error.message
            total = usable = AddressSet.empty(spec.ip_version or 4)
        return cls(
            name=obj.metadata.name,
            uid=obj.metadata.uid,
            family=total.family,
            subnet=subnet,
            total=total,
            usable=usable,
            gateway=gateway,
            routes=spec.routes or (),
            node_names=spec.node_name,
            namespace_names=spec.namespace_name,
            multus_names=spec.multus_name,
            pod_affinity=spec.pod_affinity,
            namespace_affinity=spec.namespace_affinity,
            node_affinity=spec.node_affinity,
            default=bool(spec.default),
            disabled=bool(spec.disable),
            terminating=obj.metadata.deletion_timestamp is not None,
            place=Place.of_labels(obj.metadata.labels),
            application_uid=obj.metadata.labels.get(LABEL_OWNER_APP_UID, ""),
            reclaim=obj.metadata.labels.get(LABEL_IPPOOL_RECLAIM) == "true",
            imported=is_imported(obj),
            broken=broken,
            cool_down_s=cool_down_of(spec),
            conflict_detection=spec.enable_ip_conflict_detection,
            gateway_detection=spec.enable_gateway_detection,
        )


def application_of(obj: SpiderIPPool) -> str | None:
    """
    Return the key of the application that an automatic pool is for, as its labels have it.

    None for other pools.
    """
    place = Place.of_labels(obj.metadata.labels)
    return None if place is None else place.application


def is_imported(obj: SpiderIPPool) -> bool:
    """Return whether no allocation waits to be taken over from Go Spiderpool."""
    return ANNO_IMPORTED in obj.metadata.annotations or obj.status.allocated_ips is None


def cool_down_of(spec: IPPoolSpec) -> int:
    """Return how many seconds a released address of a pool rests."""
    return COOL_DOWN_S if spec.cool_down_seconds is None else spec.cool_down_seconds


def withheld(subnet: IPNetwork, gateway: IPAddress | None, routes: Iterable[Route]) -> AddressSet:
    """
    Return the addresses that no pod of a subnet can have.

    They are those that are no host's, and the gateways, those of routes too: a pod would be its own
    next hop, which the kernel refuses.
    """
    family = subnet.version
    gateways = [gateway, *(_gateway_of(route) for route in routes)]
    known = [ip for ip in gateways if ip is not None and ip.version == family]
    return no_hosts(subnet) | AddressSet.of(known, family)


def _gateway_of(route: Route) -> IPAddress | None:
    """Return a route's gateway; None when it cannot be read, which admission refuses."""
    try:
        return parse_address(route.gw)
    except InvalidRequest:
        return None


def read_range(spec: RangeSpec) -> tuple[IPNetwork, IPAddress | None, AddressSet]:
    """
    Read subnet, gateway and addresses of a pool or subnet.

    `InvalidRequest` says what cannot be read.
    """
    subnet = parse_network(spec.subnet)
    family = subnet.version
    if spec.ip_version not in (None, family):
        raise InvalidRequest(
            f"ipVersion is {spec.ip_version}, but subnet {spec.subnet} is IPv{family}"
        )
    gateway = None if spec.gateway is None else parse_address(spec.gateway)
    if gateway is not None and gateway.version != family:
        raise InvalidRequest(f"gateway {gateway} is not an IPv{family} address")
    total = parse_ranges(family, spec.ips) - parse_ranges(family, spec.exclude_ips)
    outside = total - AddressSet.network(subnet)
    if outside:
        raise InvalidRequest(f"{outside.at(0)} is outside subnet {subnet}")
    return subnet, gateway, total
