"""
Admission of coordinator settings, of a SpiderCoordinator or inside a SpiderMultusConfig.

Source: docs/reference/coordinator.md#fields-of-a-spidercoordinator,
docs/reference/networks.md#fields (inside a network).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeVar

from msgspec.structs import replace

from spiderpool.addressing.hosts import next_hop_problem
from spiderpool.addressing.ranges import parse_address, parse_network
from spiderpool.admission.field_errors import FieldError, Kind
from spiderpool.api.crd.coordinator import (
    CoordinatorMode,
    CoordinatorSpec,
    PodCIDRType,
    SpiderCoordinator,
)
from spiderpool.api.crd.group import FINALIZER
from spiderpool.api.crd.ippool import Route
from spiderpool.datapath.coordinator_merge import (
    KERNEL_TABLES,
    LARGEST_LENGTH,
    LARGEST_MTU,
    LARGEST_TABLE,
    is_for_a_link,
)
from spiderpool.errors import InvalidRequest
from spiderpool.model.link_names import NO_IFNAME, valid_ifname

T = TypeVar("T")

HOST_RULE_TABLE: Final = 500
VETH_MTU: Final = 1500
# of a veth: RFC 791 asks every link for that much, the kernel refuses less
SMALLEST_MTU: Final = 68
LARGEST_RP_FILTER: Final = 2  # kernel, ip-sysctl: 0 off, 1 strict, 2 loose
MAC_PREFIX: Final = re.compile(r"[0-9a-fA-F]{2}:[0-9a-fA-F]{2}")


def complete_coordinator(new: SpiderCoordinator) -> SpiderCoordinator:
    """Fill in what a SpiderCoordinator leaves open; what cannot be read stays for the validator."""
    meta, spec = new.metadata, new.spec
    if meta.deletion_timestamp is not None:
        return new
    finalizers = meta.finalizers if FINALIZER in meta.finalizers else (*meta.finalizers, FINALIZER)
    filled = replace(
        spec,
        mode=spec.mode or CoordinatorMode.AUTO,
        tune_pod_routes=_or(spec.tune_pod_routes, True),
        host_rule_table=_or(spec.host_rule_table, HOST_RULE_TABLE),
        pod_rp_filter=_or(spec.pod_rp_filter, 0),
        tx_queue_len=_or(spec.tx_queue_len, 0),
        veth_link_address=_or(spec.veth_link_address, ""),
        veth_mtu=_or(spec.veth_mtu, VETH_MTU),
    )
    return replace(new, metadata=replace(meta, finalizers=finalizers), spec=normalise(filled))


def normalise(spec: CoordinatorSpec) -> CoordinatorSpec:
    """Write bare addresses of `hijackCIDR` and `policyRoutes` as networks."""
    return replace(
        spec,
        hijack_cidr=tuple(map(_as_network, spec.hijack_cidr)),
        policy_routes=tuple(
            replace(route, dst=_as_network(route.dst)) for route in spec.policy_routes
        ),
    )


def validate_coordinator(new: SpiderCoordinator) -> list[FieldError]:
    """Return everything that is wrong with a SpiderCoordinator, after `complete_coordinator`."""
    if new.metadata.deletion_timestamp is not None:
        return []
    errors = list(spec_errors(new.spec, "spec"))
    if new.spec.pod_cidr_type is None:
        supported = ", ".join(f'"{kind}"' for kind in PodCIDRType)
        errors.append(
            FieldError(
                "spec.podCIDRType",
                Kind.NOT_SUPPORTED,
                "",
                f"is required; supported values: {supported}",
            )
        )
    if new.spec.pod_rp_filter is None:
        errors.append(
            FieldError("spec.podRPFilter", Kind.INVALID, "", "is required: 0, 1, 2 or negative")
        )
    return errors


def spec_errors(spec: CoordinatorSpec, where: str) -> Iterator[FieldError]:
    """
    Walk what is wrong with coordinator settings, wherever they stand.

    Args:
        spec: the settings.
        where: the path of the field that has them.
    """
    for index, item in enumerate(spec.hijack_cidr):
        if _family(item) is None:
            why = "is neither a CIDR nor an IP address"
            yield FieldError(f"{where}.hijackCIDR[{index}]", Kind.INVALID, item, why)
    for index, route in enumerate(spec.policy_routes):
        yield from _route_errors(route, f"{where}.policyRoutes[{index}]")
    if spec.pod_mac_prefix:
        yield from _mac_errors(spec.pod_mac_prefix, f"{where}.podMACPrefix")
    if spec.veth_link_address:
        yield from _address_errors(spec.veth_link_address, f"{where}.vethLinkAddress")
    if spec.pod_default_route_nic and not valid_ifname(spec.pod_default_route_nic):
        yield FieldError(
            f"{where}.podDefaultRouteNIC", Kind.INVALID, spec.pod_default_route_nic, NO_IFNAME
        )
    yield from _number_errors(spec, where)


def _number_errors(spec: CoordinatorSpec, where: str) -> Iterator[FieldError]:
    """Check the numbers."""
    table, length, mtu, rp_filter = (
        spec.host_rule_table,
        spec.tx_queue_len,
        spec.veth_mtu,
        spec.pod_rp_filter,
    )
    if table is not None and (not 0 <= table <= LARGEST_TABLE or table in KERNEL_TABLES):
        why = (
            f"must be a table of the pods' own: 1 to {LARGEST_TABLE}, not 253 to 255, or 0 for "
            f"{HOST_RULE_TABLE}"
        )
        yield FieldError(f"{where}.hostRuleTable", Kind.INVALID, str(table), why)
    if length is not None and not 0 <= length <= LARGEST_LENGTH:
        why = f"must be 0 (leave it alone) or more, at most {LARGEST_LENGTH}"
        yield FieldError(f"{where}.txQueueLen", Kind.INVALID, str(length), why)
    if mtu is not None and not SMALLEST_MTU <= mtu <= LARGEST_MTU:
        less = mtu < SMALLEST_MTU
        why = f"must be {SMALLEST_MTU} or more" if less else f"must be {LARGEST_MTU} or less"
        why += f", the kernel refuses {'less' if less else 'more'}"
        yield FieldError(f"{where}.vethMTU", Kind.INVALID, str(mtu), why)
    if rp_filter is not None and rp_filter > LARGEST_RP_FILTER:
        why = "must be 0, 1, 2, or negative (leave it alone)"
        yield FieldError(f"{where}.podRPFilter", Kind.INVALID, str(rp_filter), why)


def _route_errors(route: Route, where: str) -> Iterator[FieldError]:
    """Check a policy route: both ends of one family."""
    destination = _family(route.dst)
    if destination is None:
        yield FieldError(
            f"{where}.dst", Kind.INVALID, route.dst, "is neither a CIDR nor an IP address"
        )
    try:
        gateway = parse_address(route.gw)
    except InvalidRequest as error:
        yield FieldError(f"{where}.gw", Kind.INVALID, route.gw, error.message)
        return
    if destination not in (None, gateway.version):
        why = f"is IPv{gateway.version}, but dst {route.dst} is IPv{destination}"
        yield FieldError(f"{where}.gw", Kind.INVALID, route.gw, why)
    elif words := next_hop_problem(gateway):
        yield FieldError(f"{where}.gw", Kind.INVALID, route.gw, f"can be no gateway: {words}")


def _mac_errors(prefix: str, where: str) -> Iterator[FieldError]:
    """
    Check the first two bytes of a MAC: an individual address (IEEE 802.

    Lowest bit of the first byte 0).
    """
    if not MAC_PREFIX.fullmatch(prefix):
        yield FieldError(where, Kind.INVALID, prefix, "is not two bytes of a MAC, such as 0a:1b")
    elif int(prefix[:2], 16) & 1:
        why = "starts a multicast MAC: the lowest bit of the first byte must be 0"
        yield FieldError(where, Kind.INVALID, prefix, why)


def _address_errors(text: str, where: str) -> Iterator[FieldError]:
    """Check an address."""
    try:
        if not is_for_a_link(parse_address(text)):
            yield FieldError(
                where, Kind.INVALID, text, "is no address that an interface of a pod may have"
            )
    except InvalidRequest as error:
        yield FieldError(where, Kind.INVALID, text, error.message)


def _as_network(text: str) -> str:
    """Write a bare address as the network of it alone; everything else stays."""
    try:
        address = parse_address(text)
    except InvalidRequest:
        return text
    return f"{address}/{address.max_prefixlen}"


def _family(text: str) -> int | None:
    """Return the family of a CIDR or an address; None when it is neither."""
    try:
        return parse_network(_as_network(text)).version
    except InvalidRequest:
        return None


def _or(value: T | None, default: T) -> T:
    """Return a value, or what stands for an absent one."""
    return default if value is None else value
