"""
Network selections: which further networks a pod asks for, in the short or the JSON form of the Network Plumbing Working Group.

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

from spiderpool.addressing.ranges import parse_address
from spiderpool.addressing.sets import IPAddress
from spiderpool.api.crd.group import ANNO_DEFAULT_NETWORK, ANNO_NETWORKS
from spiderpool.errors import InvalidRequest
from spiderpool.model.fields import Fields, read_objects

JSON_EXAMPLE: Final = '[{"name":"net-a","interface":"net1"}]'
NAME_FORM: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
NOT_IN_INTERFACE: Final = re.compile("[/ \t\n\v\f\r]")
INTERFACE_BYTES: Final = 15  # the kernel's IFNAMSIZ without the final zero
MAC_FORM: Final = re.compile(
    r"(?P<two>[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(\2[0-9A-Fa-f]{2})*)|([0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4})+)"
)
MAC_DIGITS: Final = (12, 16, 40)  # 6, 8 or 20 octets, as Go's net.ParseMAC
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
        if any(mark in text for mark in '[{"'):
            selections = _parse_json(text, default_namespace)
        else:
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
            f"wrong input: annotation {ANNO_DEFAULT_NETWORK}: the value names {len(selections)} networks; "
            "write exactly one, as [namespace/]name"
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
                f'item "{item}": {what} "{text}" must be lower-case letters, digits and "-"; for others use the JSON form'
            )
    if len(interface.encode()) > INTERFACE_BYTES or NOT_IN_INTERFACE.search(interface):
        raise InvalidRequest(
            f'item "{item}": interface "{interface}" must have at most {INTERFACE_BYTES} bytes, no blank and no "/"'
        )
    return NetworkSelection(
        namespace or default_namespace, _named(name, f'item "{item}"'), interface
    )


def _parse_json(text: str, default_namespace: str) -> tuple[NetworkSelection, ...]:
    """Read an array of objects."""
    return tuple(
        _parse_element(fields, default_namespace) for fields in read_objects(text, JSON_EXAMPLE)
    )


def _parse_element(fields: Fields, default_namespace: str) -> NetworkSelection:
    """Read one object of the JSON form."""
    return NetworkSelection(
        namespace=fields.text("namespace") or default_namespace,
        name=_named(fields.text("name"), fields.where),
        interface=fields.text("interface") or fields.text("interfaceRequest"),
        ips=tuple(_checked_ip(ip, fields.where) for ip in fields.texts("ips") or ()),
        mac=_checked_mac(fields, "mac"),
        infiniband_guid=_checked_mac(fields, "infiniband-guid"),
        port_mappings=tuple(_port_mapping(item) for item in fields.nested_list("portMappings")),
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


def _checked_ip(text: str, where: str) -> str:
    """Refuse what is neither an address nor a CIDR; the text stays as written."""
    try:
        ip_interface(text if "%" not in text else "")
    except ValueError:
        raise InvalidRequest(f'{where}: "ips" has "{text}"; write an address or a CIDR') from None
    return text


def _checked_mac(fields: Fields, key: str) -> str:
    """Refuse what Go's MAC syntax does not know; the text stays as written."""
    text = fields.text(key)
    digits = re.sub("[.:-]", "", text)
    if text and not (MAC_FORM.fullmatch(text) and len(digits) in MAC_DIGITS):
        raise InvalidRequest(
            f'{fields.where}: "{key}" is "{text}"; write 6, 8 or 20 octets such as 02:00:5e:10:00:01'
        )
    return text


def _port_mapping(fields: Fields) -> PortMapping:
    """Read one port mapping; ports are not range-checked, the plugin that makes them does that."""
    return PortMapping(
        host_port=fields.number("hostPort"),
        container_port=fields.number("containerPort"),
        protocol=fields.text("protocol"),
        host_ip=fields.text("hostIP"),
    )


def _bandwidth(fields: Fields | None) -> Bandwidth | None:
    """Read the limits."""
    return None if fields is None else Bandwidth(*(fields.number(key) for key in BANDWIDTH_KEYS))


def _gateways(fields: Fields) -> tuple[IPAddress, ...] | None:
    """Read `default-route`."""
    texts = fields.texts("default-route")
    try:
        return None if texts is None else tuple(parse_address(text) for text in texts)
    except InvalidRequest as error:
        raise InvalidRequest(f'{fields.where}: "default-route": {error.message}') from None


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
