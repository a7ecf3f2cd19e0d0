"""
The configuration of `coordinator`: what a network says goes before what the cluster says.

Source: docs/reference/coordinator.md#configuration; lists replace each other, they are never
joined.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final, TypeVar

import msgspec

from spiderpool.addressing.hosts import next_hop_problem
from spiderpool.addressing.sets import IPAddress, IPNetwork
from spiderpool.cni.caseless_keys import lookup
from spiderpool.datapath.coordinator_settings import (
    DEFAULT_HOST_TABLE,
    DEFAULT_NIC,
    DEFAULT_VETH_MTU,
    CoordinatorSettings,
    Mode,
    PolicyRoute,
)
from spiderpool.errors import InvalidRequest
from spiderpool.model.link_names import NO_IFNAME, valid_ifname

T = TypeVar("T")

# The lowest bit of a MAC's first byte says "multicast" (IEEE 802).
_MAC_PREFIX: Final = re.compile(r"[0-9a-fA-F][02468aceACE][:-][0-9a-fA-F]{2}")
_MODES: Final = {mode.value: mode for mode in Mode} | {"disable": Mode.DISABLED}
KERNEL_TABLES: Final = frozenset({253, 254, 255})  # default, main, local
LARGEST_TABLE: Final = 2**32 - 1
LARGEST_LENGTH: Final = 2**31 - 1
LARGEST_MTU: Final = 65535  # ETH_MAX_MTU
_RP_FILTER: int | None = 0  # the cluster's default
_NAMES: Final = {
    str: "a string",
    int: "a number without quotes",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class _Source:
    """One place that says something; an empty text or list says nothing."""

    name: str
    document: Mapping[str, Any]

    def get(self, key: str, kind: type[T]) -> T | None:
        """Return a value of the right type, None when nothing is said."""
        value = lookup(self.document, key)
        if isinstance(value, tuple):  # of typed values; JSON has lists
            value = list(value)
        if value is None or value in ("", []):
            return None
        if type(value) is not kind:
            raise self.wrong(key, value, _NAMES[kind])
        return value

    def wrong(self, key: str, value: object, must: str) -> InvalidRequest:
        """Make the error about a value."""
        return InvalidRequest(
            f"{self.name}: {key} is {msgspec.json.encode(value).decode()}, write {must}"
        )


@dataclass(frozen=True, slots=True)
class _Sources:
    """The network's words, then the cluster's."""

    network: _Source
    cluster: _Source

    def first(
        self, key: str, kind: type[Any], read: Callable[[_Source, str, Any], T], default: T
    ) -> T:
        """Read the first that says something; the other one need not be right."""
        for source in (self.network, self.cluster):
            value = source.get(key, kind)
            if value is not None:
                return read(source, key, value)
        return default


def read_coordinator(config: Mapping[str, Any], cluster: Mapping[str, Any]) -> CoordinatorSettings:
    """
    Merge and check.

    Args:
        config: the plugin's object in the network configuration.
        cluster: the agent's answer of `GET /v1/coordinator/config`; empty when it is not asked
        (DEL).

    Raises:
        InvalidRequest: a value is wrong: whose, which key, what it has and what it must be.
    """
    sources = _Sources(
        _Source("coordinator configuration", config), _Source("SpiderCoordinator", cluster)
    )
    first = sources.first
    networks: tuple[IPNetwork, ...] = ()
    for key in ("overlayPodCIDR", "serviceCIDR", "hijackCIDR"):
        networks += first(key, list, _read_networks, networks[:0])
    return CoordinatorSettings(
        mode=first("mode", str, _read_mode, Mode.AUTO),
        default_nic=first("podDefaultCniNic", str, _read_nic, DEFAULT_NIC),
        hijack=networks,
        policy_routes=first("policyRoutes", list, _read_policies, ()),
        tune_pod_routes=first("tunePodRoutes", bool, _as_is, default=True),
        default_route_nic=first("podDefaultRouteNic", str, _read_nic, ""),
        host_table=first("hostRuleTable", int, _read_table, DEFAULT_HOST_TABLE),
        rp_filter=first("podRPFilter", int, _read_rp_filter, _RP_FILTER),
        tx_queue_len=_tx_queue_len(sources),
        veth_address=first("vethLinkAddress", str, _read_address, None),
        veth_mtu=first("vethMTU", int, _read_mtu, DEFAULT_VETH_MTU),
        mac_prefix=first("podMACPrefix", str, _read_mac_prefix, ""),
    )


def _tx_queue_len(sources: _Sources) -> int:
    """Read the length; a network's 0, which the original stores in every one, means unset."""
    of_network = sources.network.get("txQueueLen", int)
    if of_network:
        return _read_length(sources.network, "txQueueLen", of_network)
    of_cluster = sources.cluster.get("txQueueLen", int)
    return _read_length(sources.cluster, "txQueueLen", of_cluster) if of_cluster else 0


def default_nic(config: Mapping[str, Any]) -> str:
    """
    Return the name of the pod's first NIC, however wrong the rest is.

    DEL must not depend on it.
    """
    value = lookup(config, "podDefaultCniNic")
    return value if isinstance(value, str) and value else DEFAULT_NIC


def _as_is(_: _Source, __: str, value: T) -> T:
    return value


def _read_nic(source: _Source, key: str, value: str) -> str:
    if not valid_ifname(value):
        raise InvalidRequest(f"{source.name}: {key} {value!r} {NO_IFNAME}")
    return value


def _read_mode(source: _Source, _: str, value: str) -> Mode:
    if value not in _MODES:
        raise InvalidRequest(
            f"{source.name}: unknown tuneMode: {value}, write auto, underlay, overlay or disabled"
        )
    return _MODES[value]


def _read_networks(source: _Source, key: str, values: list[Any]) -> tuple[IPNetwork, ...]:
    return tuple(_read_cidr(source, key, value) for value in values)


def _read_cidr(source: _Source, key: str, value: object) -> IPNetwork:
    try:
        if isinstance(value, str) and "/" in value:
            return ip_network(value, strict=False)
    except ValueError:
        pass
    raise source.wrong(key, value, "CIDRs such as 10.96.0.0/12 or fd00:10::/108")


def _read_policies(source: _Source, key: str, values: list[Any]) -> tuple[PolicyRoute, ...]:
    return tuple(_read_policy(source, key, value) for value in values)


def _read_policy(source: _Source, key: str, value: object) -> PolicyRoute:
    must = 'objects such as {"dst": "10.99.0.0/16", "gw": "10.6.0.1"}, both of one family'
    if not isinstance(value, dict):
        raise source.wrong(key, value, must)
    try:
        dst = ip_network(str(lookup(value, "dst")), strict=False)
        gateway = ip_address(str(lookup(value, "gw")))
    except ValueError:
        raise source.wrong(key, value, must) from None
    if dst.version != gateway.version:
        raise source.wrong(key, value, must)
    if words := next_hop_problem(gateway):
        raise source.wrong(key, value, f"a gateway that can be one: {words}")
    return PolicyRoute(dst, gateway)


def _read_table(source: _Source, key: str, value: int) -> int:
    if value == 0:
        return DEFAULT_HOST_TABLE
    if not 1 <= value <= LARGEST_TABLE or value in KERNEL_TABLES:
        raise source.wrong(
            key,
            value,
            f"a table of your own, 1 to {LARGEST_TABLE}, not 253 to 255 (default "
            f"{DEFAULT_HOST_TABLE})",
        )
    return value


def _read_rp_filter(source: _Source, key: str, value: int) -> int | None:
    if value < 0:
        return None
    if value not in {0, 1, 2}:
        raise source.wrong(key, value, "0, 1, 2, or -1 to leave it alone")
    return value


def _read_length(source: _Source, key: str, value: int) -> int:
    if not 0 <= value <= LARGEST_LENGTH:
        raise source.wrong(key, value, "0 (leave it alone) or the length of the queue in packets")
    return value


def _read_mtu(source: _Source, key: str, value: int) -> int:
    if not 0 < value <= LARGEST_MTU:
        raise source.wrong(
            key, value, f"an MTU in bytes, 68 to {LARGEST_MTU}; 1280 or more with IPv6"
        )
    return value


def _read_address(source: _Source, key: str, value: str) -> IPAddress | None:
    must = "an address such as 169.254.100.1, without a prefix length"
    try:
        address = ip_address(value)
    except ValueError:
        raise source.wrong(key, value, must) from None
    if not is_for_a_link(address):
        raise source.wrong(key, value, must)
    return address


def is_for_a_link(address: IPAddress) -> bool:
    """Return whether an interface of a pod may have an address."""
    return next_hop_problem(address) is None


def _read_mac_prefix(source: _Source, key: str, value: str) -> str:
    if not _MAC_PREFIX.fullmatch(value):
        raise source.wrong(key, value, "two bytes such as 0a:1b, the second digit even")
    return value.lower().replace("-", ":")
