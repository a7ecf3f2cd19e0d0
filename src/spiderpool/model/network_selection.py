"""
Network selections: which further networks a pod asks for.

In the short or the JSON form of the Network Plumbing Working Group.

Stricter than Multus where it would fail later with worse words: an empty name, `null` items, an
empty gateway are refused.
Source: docs/reference/meta-plugin.md#network-selections,
docs/reference/meta-plugin.md#networks-of-a-pod.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any, Final

from spiderpool.addressing.hosts import edges, next_hop_problem, place_problem
from spiderpool.addressing.ranges import parse_address
from spiderpool.addressing.sets import IPAddress
from spiderpool.api.crd.group import ANNO_DEFAULT_NETWORK, ANNO_NETWORKS
from spiderpool.errors import InvalidRequest
from spiderpool.model.json_fields import Fields, read_objects
from spiderpool.model.limits import (
    EXACT_IPS,
    NETWORK_IPS,
    NICS,
    PORT_MAPPINGS,
    check_count,
    check_text,
)
from spiderpool.model.link_names import checked_ifname, mac_problem

JSON_EXAMPLE: Final = '[{"name":"net-a","interface":"net1"}]'
NAME_FORM: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
OBJECT_NAME: Final = re.compile(rf"{NAME_FORM.pattern}(\.{NAME_FORM.pattern})*")
LONGEST_NAME: Final = {"name": 253, "namespace": 63}  # Kubernetes: DNS subdomain and DNS label
OCTETS: Final = re.compile(
    r"(?P<two>[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(\2[0-9A-Fa-f]{2})*)"
    r"|([0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4})+)"
)
IP_FORM: Final = re.compile(r"[0-9a-fA-F.:]+(/[0-9]{1,3})?")
GUID_DIGITS: Final = 16
INFINIBAND_DIGITS: Final = 40  # a link-layer address of IP over InfiniBand (RFC 4391)
LARGEST_PORT: Final = 65535
PROTOCOLS: Final = frozenset({"", "tcp", "udp", "sctp"})
LARGEST_RATE: Final = 2**63 - 1  # what Go's int holds, by which Multus and plugins read it
LARGEST_BURST: Final = 8 * (2**32 - 1)  # in bits; the kernel counts bytes in 32 bits
BANDWIDTH_KEYS: Final = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the host that leads to one of the pod."""

    host_port: int
    container_port: int
    protocol: str = ""
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Limits in bits per second and bits; all four are passed on, 0 where the user says nothing."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0


@dataclass(frozen=True, slots=True)
class NetworkSelection:
    """
    One network that a pod asks for.

    `interface` is empty when the user leaves the name to the order. `ips` as written, with or
    without a prefix length.
    `default_route`: None = not said; an empty tuple = said, and none. `cni_args` is JSON, None =
    not said.
    """

    namespace: str
    name: str
    interface: str = ""
    ips: tuple[str, ...] = ()
    mac: str = ""
    infiniband_guid: str = ""
    port_mappings: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth | None = None
    default_route: tuple[IPAddress, ...] | None = None
    cni_args: Mapping[str, Any] | None = None
    device_id: str = ""

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


def nic_name(networks: tuple[NetworkSelection, ...], index: int) -> str:
    """
    Return the NIC of the index-th network, counted from 1.

    The name asked for, else `net<index>`.

    Source: docs/reference/meta-plugin.md#networks-of-a-pod.
    """
    asked = networks[index - 1].interface if index <= len(networks) else ""
    return asked or f"net{index}"


def parse_networks(
    text: str, default_namespace: str, annotation: str = ANNO_NETWORKS
) -> tuple[NetworkSelection, ...]:
    """
    Read the annotation `k8s.v1.cni.cncf.io/networks`.

    Args:
        text: the annotation's value; empty means none.
        default_namespace: where networks without a namespace are: the pod's namespace.
        annotation: the name that errors show.
    """
    if not text:
        return ()
    try:
        check_text(text)
        if any(mark in text for mark in '[{"'):
            selections = _parse_json(text, default_namespace)
        else:
            check_count(text.count(",") + 1, NICS, "the list")
            selections = tuple(
                _parse_short(item.strip(), default_namespace) for item in text.split(",")
            )
        _check_gateways(selections)
    except InvalidRequest as error:
        raise InvalidRequest(f"wrong input: annotation {annotation}: {error.message}") from None
    return selections


def parse_default_network(text: str, default_namespace: str) -> NetworkSelection:
    """
    Read the annotation `v1.multus-cni.io/default-network`: exactly one network, in either form.

    Args:
        text: the annotation's value.
        default_namespace: where a network without a namespace is: the meta plugin's own setting.
    """
    selections = parse_networks(text, default_namespace, ANNO_DEFAULT_NETWORK)
    if len(selections) != 1:
        raise InvalidRequest(
            f"wrong input: annotation {ANNO_DEFAULT_NETWORK}: the value names {len(selections)} "
            "networks; write exactly one, as [namespace/]name"
        )
    return selections[0]


def _parse_short(item: str, default_namespace: str) -> NetworkSelection:
    """Read `[namespace/]name[@interface]`."""
    parts = [part.strip() for part in item.split("/")]
    names = [part.strip() for part in parts[-1].split("@")]
    if len(parts) > 2 or len(names) > 2:  # noqa: PLR2004
        raise InvalidRequest(
            f'item "{item}" has too many "/" or "@"; write [namespace/]name[@interface]'
        )
    namespace, name, interface = "".join(parts[:-1]), names[0], "".join(names[1:])
    for text, what in ((namespace, "namespace"), (name, "name")):
        if text and not NAME_FORM.fullmatch(text):
            raise InvalidRequest(
                f'item "{item}": {what} "{text}" must be lower-case letters, digits and "-"; for '
                "others use the JSON form"
            )
    where = f'item "{item}"'
    return NetworkSelection(
        namespace or default_namespace, _named(name, where), checked_ifname(interface, where)
    )


def _parse_json(text: str, default_namespace: str) -> tuple[NetworkSelection, ...]:
    """Read an array of objects."""
    items = read_objects(text, JSON_EXAMPLE)
    ips = sum(len(fields.texts("ips") or ()) for fields in items)
    check_count(ips, NETWORK_IPS, '"ips" of all items')
    return tuple(_parse_element(fields, default_namespace) for fields in items)


def _parse_element(fields: Fields, default_namespace: str) -> NetworkSelection:
    """Read one object of the JSON form."""
    return NetworkSelection(
        namespace=_object_name(fields, "namespace") or default_namespace,
        name=_named(_object_name(fields, "name"), fields.where),
        interface=checked_ifname(
            fields.text("interface") or fields.text("interfaceRequest"), fields.where
        ),
        ips=_checked_ips(fields),
        mac=_checked_mac(fields),
        infiniband_guid=_checked_guid(fields),
        port_mappings=_port_mappings(fields),
        bandwidth=_bandwidth(fields.nested("bandwidth")),
        default_route=_gateways(fields),
        cni_args=fields.raw_object("cni-args"),
        device_id=fields.text("deviceID"),
    )


def _named(name: str, where: str) -> str:
    """Refuse a selection that names no network."""
    if not name:
        raise InvalidRequest(
            f"{where} has no name; write the name of a NetworkAttachmentDefinition"
        )
    return name


def _object_name(fields: Fields, key: str) -> str:
    """Refuse what no object of Kubernetes is named; the short form's `namespace/name` is told."""
    text = fields.text(key)
    namespace, slash, name = text.partition("/")
    if slash and key == "name":
        raise InvalidRequest(
            f'{fields.where}: "name" is "{text}"; in the JSON form write "namespace": '
            f'"{namespace}", "name": "{name}"'
        )
    form = OBJECT_NAME if key == "name" else NAME_FORM
    if text and (len(text) > LONGEST_NAME[key] or not form.fullmatch(text)):
        raise InvalidRequest(
            f'{fields.where}: "{key}" is "{text}"; it must be lower-case letters, digits and "-"'
            f"{' or dots' if key == 'name' else ''}, at most {LONGEST_NAME[key]}"
        )
    return text


def _checked_ips(fields: Fields) -> tuple[str, ...]:
    """
    Read `ips`: texts stay as written, an address that is repeated counts once.

    Of two with the same address the one with a prefix length counts.
    """
    found: dict[IPAddress, str] = {}
    texts = fields.texts("ips") or []
    check_count(len(texts), EXACT_IPS, f'{fields.where}: "ips"')
    for text in texts:
        ip = _checked_ip(text, fields.where)
        if ip not in found or ("/" in text and "/" not in found[ip]):
            found[ip] = text
    return tuple(found.values())


def _checked_ip(text: str, where: str) -> IPAddress:
    """Refuse what is neither an address nor a CIDR, and what no interface can have."""
    try:
        # the library also takes a netmask, which plugins refuse
        interface = ip_interface(text if IP_FORM.fullmatch(text) else "")
    except ValueError:
        raise InvalidRequest(f'{where}: "ips" has "{text}"; write an address or a CIDR') from None
    ip = interface.ip
    words = next_hop_problem(ip)
    problem = f"can be no pod's address: {words}" if words else None
    if problem is None and "/" in text and ip in edges(interface.network):
        problem = place_problem(ip, interface.network)
    if problem is not None:
        raise InvalidRequest(f'{where}: "ips" has "{text}": {ip} {problem}')
    return ip


def _checked_mac(fields: Fields) -> str:
    """
    Refuse what is no hardware address of an interface; the text stays as written.

    20 octets are those of IP over InfiniBand.
    """
    text = fields.text("mac")
    digits = re.sub("[.:-]", "", text)
    if not text or (OCTETS.fullmatch(text) and len(digits) == INFINIBAND_DIGITS):
        return text
    problem = mac_problem(text)
    if OCTETS.fullmatch(text) and len(digits) == GUID_DIGITS:
        problem = 'write 6 octets; a GUID of 8 octets is "infiniband-guid"'
    if problem is not None:
        raise InvalidRequest(f'{fields.where}: "mac" is "{text}"; {problem}')
    return text


def _checked_guid(fields: Fields) -> str:
    """Refuse what is no GUID of InfiniBand; all zeros and all ones mean none."""
    text = fields.text("infiniband-guid")
    digits = re.sub("[.:-]", "", text).lower()
    formed = OCTETS.fullmatch(text) and len(digits) == GUID_DIGITS
    if text and (not formed or set(digits) in ({"0"}, {"f"})):
        raise InvalidRequest(
            f'{fields.where}: "infiniband-guid" is "{text}"; '
            "write 8 octets such as 02:00:5e:10:00:00:00:01, not all zeros or ones"
        )
    return text


def _port_mappings(fields: Fields) -> tuple[PortMapping, ...]:
    """Read `portMappings`."""
    items = fields.nested_list("portMappings")
    check_count(len(items), PORT_MAPPINGS, f'{fields.where}: "portMappings"')
    return tuple(_port_mapping(item) for item in items)


def _port_mapping(fields: Fields) -> PortMapping:
    """Read one port mapping."""
    protocol, host_ip = fields.text("protocol"), fields.text("hostIP")
    if protocol.lower() not in PROTOCOLS:
        raise InvalidRequest(f'{fields.where}: "protocol" is "{protocol}"; write tcp, udp or sctp')
    if host_ip:
        try:
            parse_address(host_ip)
        except InvalidRequest as error:
            raise InvalidRequest(f'{fields.where}: "hostIP": {error.message}') from None
    return PortMapping(_port(fields, "hostPort"), _port(fields, "containerPort"), protocol, host_ip)


def _port(fields: Fields, key: str) -> int:
    port = fields.number(key)
    if not 0 < port <= LARGEST_PORT:
        raise InvalidRequest(f'{fields.where}: "{key}" is {port}; write 1 to {LARGEST_PORT}')
    return port


def _bandwidth(fields: Fields | None) -> Bandwidth | None:
    """Read the limits; each rate needs its burst, and each burst its rate."""
    if fields is None:
        return None
    found = Bandwidth(*(fields.number(key) for key in BANDWIDTH_KEYS))
    for direction, rate, burst in (
        ("ingress", found.ingress_rate, found.ingress_burst),
        ("egress", found.egress_rate, found.egress_burst),
    ):
        if not 0 <= rate <= LARGEST_RATE or not 0 <= burst <= LARGEST_BURST:
            raise InvalidRequest(
                f"{fields.where}: {direction}Rate is {rate} and {direction}Burst {burst}; "
                f"write bits per second (at most {LARGEST_RATE}) and bits, 0 or more, "
                f"the burst at most {LARGEST_BURST}"
            )
        if bool(rate) is not bool(burst):
            raise InvalidRequest(
                f"{fields.where}: {direction}Rate is {rate} and {direction}Burst {burst}; "
                "write both, or none"
            )
    return found


def _gateways(fields: Fields) -> tuple[IPAddress, ...] | None:
    """Read `default-route`; a gateway that is repeated counts once."""
    texts = fields.texts("default-route")
    try:
        return None if texts is None else tuple(dict.fromkeys(map(_gateway, texts)))
    except InvalidRequest as error:
        raise InvalidRequest(f'{fields.where}: "default-route": {error.message}') from None


def _gateway(text: str) -> IPAddress:
    """Read an address that can be a router's."""
    gateway = parse_address(text)
    if words := next_hop_problem(gateway):
        raise InvalidRequest(f"{gateway} can be no gateway: {words}")
    return gateway


def _check_gateways(selections: Iterable[NetworkSelection]) -> None:
    """Refuse a second gateway of a family, over all networks of the pod: there is no ECMP."""
    seen: dict[int, IPAddress] = {}
    for gateway in (
        gateway for selection in selections for gateway in selection.default_route or ()
    ):
        if gateway.version in seen:
            raise InvalidRequest(
                f'"default-route" names {seen[gateway.version]} and {gateway}; '
                f"a pod may have one IPv{gateway.version} gateway (no ECMP)"
            )
        seen[gateway.version] = gateway
