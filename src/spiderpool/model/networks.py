"""
The network selection annotations of a pod: which networks it wants, and under which interface names.

`k8s.v1.cni.cncf.io/networks` and `v1.multus-cni.io/default-network` share one syntax, in a short and a JSON form.
Whether a network exists is not asked here.
Source: Network Plumbing Working Group, "Kubernetes Network Custom Resource Definition De-facto Standard" 1.3;
reference meta-plugin.md 2.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Any

import msgspec

from spiderpool.errors import InvalidRequest

NETWORKS = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK = "v1.multus-cni.io/default-network"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_JSON_MARKS = frozenset('[{"')
_IFNAME_LIMIT = 15
_IFNAME_REFUSED = frozenset(" \t\n\v\f\r/")
_MAC_PLAIN = re.compile(r"[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1)*[0-9a-fA-F]{2}")
_MAC_DOTTED = re.compile(r"(?:[0-9a-fA-F]{4}\.)+[0-9a-fA-F]{4}")
_MAC_OCTETS = frozenset({6, 8, 20})
_BANDWIDTH_KEYS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")


@dataclass(frozen=True, slots=True)
class NetworkSelection:
    """
    One network that a pod asks for.

    Args:
        namespace: where the NetworkAttachmentDefinition is; never empty.
        name: its name; may be empty, which then fails when it is looked up.
        interface: the requested interface name, empty = automatic.
        ips: as written, each an address or a CIDR.
        port_mappings: as written, JSON objects.
        bandwidth: None when absent, else all four numbers.
        default_route: None when the key is absent; an empty list is a wish of its own.
        cni_args: goes into `args.cni` of the configuration.
    """

    namespace: str
    name: str
    interface: str = ""
    ips: tuple[str, ...] = ()
    mac: str = ""
    infiniband_guid: str = ""
    port_mappings: tuple[Mapping[str, Any], ...] = ()
    bandwidth: Mapping[str, int] | None = None
    default_route: tuple[IPv4Address | IPv6Address, ...] | None = None
    cni_args: Mapping[str, Any] | None = None
    device_id: str = ""

    @property
    def qualified_name(self) -> str:
        """The network as status, Events and messages write it."""
        return f"{self.namespace}/{self.name}"


def parse_networks(text: str, default_namespace: str, annotation: str = NETWORKS) -> tuple[NetworkSelection, ...]:
    """
    Read a network selection annotation, in either form.

    Args:
        text: the annotation's value; empty = no networks.
        default_namespace: for elements that name none.
        annotation: its key, for messages.

    Returns:
        The elements in their order; the same network may stand there several times.

    Raises:
        InvalidRequest: what is wrong with which element, and what to write.
    """
    if not text:
        return ()
    if _JSON_MARKS.intersection(text):
        selections = _parse_json(text, default_namespace, annotation)
    else:
        selections = tuple(_parse_item(item.strip(), default_namespace, annotation) for item in text.split(","))
    _refuse_many_gateways(selections, annotation)
    return selections


def parse_default_network(text: str, default_namespace: str) -> NetworkSelection:
    """
    Read the default-network annotation: exactly one element.

    Raises:
        InvalidRequest: none, several, or a malformed one; also one that would rename the runtime's own interface.
    """
    selections = parse_networks(text, default_namespace, DEFAULT_NETWORK)
    if len(selections) != 1:
        raise _wrong(DEFAULT_NETWORK, f"has {len(selections)} networks, write exactly one")
    if selections[0].interface:
        raise _wrong(DEFAULT_NETWORK, f"asks for interface {selections[0].interface}; the runtime names it, remove that")
    return selections[0]


def _wrong(annotation: str, sentence: str) -> InvalidRequest:
    return InvalidRequest(f"wrong input: annotation {annotation} {sentence}")


# --- short form -----------------------------------------------------------------------------------------------------------


def _parse_item(item: str, default_namespace: str, annotation: str) -> NetworkSelection:
    parts = [part.strip() for part in item.split("/")]
    if len(parts) > 2:  # noqa: PLR2004
        raise _wrong(annotation, f"has {item!r} with more than one '/', write [namespace/]name[@interface]")
    namespace = parts[0] if len(parts) > 1 else ""
    names = [part.strip() for part in parts[-1].split("@")]
    if len(names) > 2:  # noqa: PLR2004
        raise _wrong(annotation, f"has {item!r} with more than one '@', write [namespace/]name[@interface]")
    name, interface = names[0], names[1] if len(names) > 1 else ""
    for what, value in (("namespace", namespace), ("name", name)):
        if value and not _LABEL.fullmatch(value):
            raise _wrong(
                annotation,
                f"has the {what} {value!r}, write lower-case letters, digits and '-'; other names need the JSON form",
            )
    if interface and (len(interface.encode()) > _IFNAME_LIMIT or _IFNAME_REFUSED.intersection(interface)):
        raise _wrong(
            annotation, f"has the interface {interface!r}, write up to {_IFNAME_LIMIT} characters without '/' and blanks"
        )
    return NetworkSelection(namespace=namespace or default_namespace, name=name, interface=interface)


# --- JSON form ------------------------------------------------------------------------------------------------------------


def _parse_json(text: str, default_namespace: str, annotation: str) -> tuple[NetworkSelection, ...]:
    try:
        elements = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise _wrong(annotation, f"is no JSON ({error}), write a list of objects or [namespace/]name[@interface],…") from error
    if not isinstance(elements, list):
        raise _wrong(annotation, 'is no JSON list, write [{"name": "…"}]')
    return tuple(_Element(element, index, annotation).selection(default_namespace) for index, element in enumerate(elements))


class _Element:
    """One object of the JSON form; keys whatever their letter case."""

    def __init__(self, element: object, index: int, annotation: str) -> None:
        self._where = f"element {index}"
        self._annotation = annotation
        if not isinstance(element, dict):
            raise self._wrong(f"is {_text(element)}, write an object with a name")
        self._values = {key.casefold(): value for key, value in element.items() if value is not None}

    def selection(self, default_namespace: str) -> NetworkSelection:
        """Read the whole element."""
        return NetworkSelection(
            namespace=self._string("namespace") or default_namespace,
            name=self._string("name"),
            interface=self._string("interface") or self._string("interfaceRequest"),
            ips=self._ips(),
            mac=self._mac("mac"),
            infiniband_guid=self._mac("infiniband-guid"),
            port_mappings=self._port_mappings(),
            bandwidth=self._bandwidth(),
            default_route=self._default_route(),
            cni_args=self._object("cni-args"),
            device_id=self._string("deviceID"),
        )

    def _wrong(self, sentence: str) -> InvalidRequest:
        return _wrong(self._annotation, f"{self._where} {sentence}")

    def _refuse(self, key: str, value: object, wanted: str) -> InvalidRequest:
        return self._wrong(f"has {key} {_text(value)}, write {wanted}")

    def _typed(self, key: str, kind: type, wanted: str) -> Any:
        value = self._values.get(key.casefold())
        if value is not None and type(value) is not kind:
            raise self._refuse(key, value, wanted)
        return value

    def _string(self, key: str) -> str:
        value: str | None = self._typed(key, str, "a string")
        return value or ""

    def _object(self, key: str) -> dict[str, Any] | None:
        value: dict[str, Any] | None = self._typed(key, dict, "an object")
        return value

    def _list(self, key: str, kind: type, wanted: str) -> list[Any] | None:
        values: list[Any] | None = self._typed(key, list, wanted)
        if values is not None and not all(type(value) is kind for value in values):
            raise self._refuse(key, values, wanted)
        return values

    def _ips(self) -> tuple[str, ...]:
        wanted = "a list of addresses, each with or without a prefix length"
        values = self._list("ips", str, wanted) or []
        for value in values:
            try:
                ip_interface(value)
            except ValueError as error:
                raise self._refuse("ips", value, wanted) from error
        return tuple(values)

    def _mac(self, key: str) -> str:
        value = self._string(key)
        if value and not _is_mac(value):
            raise self._refuse(key, value, "6, 8 or 20 octets such as 02:00:00:00:00:01")
        return value

    def _port_mappings(self) -> tuple[Mapping[str, Any], ...]:
        wanted = "a list of {hostPort, containerPort, protocol, hostIP}"
        values = self._list("portMappings", dict, wanted) or []
        for value in values:
            kinds = {"hostPort": int, "containerPort": int, "protocol": str, "hostIP": str}
            if any(key in value and type(value[key]) is not kind for key, kind in kinds.items()):
                raise self._refuse("portMappings", value, wanted)
        return tuple(values)

    def _bandwidth(self) -> Mapping[str, int] | None:
        value = self._object("bandwidth")
        if value is None:
            return None
        numbers = {key: value.get(key) or 0 for key in _BANDWIDTH_KEYS}
        if any(type(number) is not int for number in numbers.values()):
            raise self._refuse("bandwidth", value, f"whole numbers for {', '.join(_BANDWIDTH_KEYS)}")
        return numbers

    def _default_route(self) -> tuple[IPv4Address | IPv6Address, ...] | None:
        wanted = 'a list of gateway addresses such as ["10.6.0.1"]'
        values = self._list("default-route", str, wanted)
        if values is None:
            return None
        try:
            return tuple(ip_address(value) for value in values)
        except ValueError as error:
            raise self._refuse("default-route", values, wanted) from error


def _is_mac(text: str) -> bool:
    """Whether Go's `net.ParseMAC` takes a text."""
    if _MAC_PLAIN.fullmatch(text):
        return (len(text) + 1) // 3 in _MAC_OCTETS
    return _MAC_DOTTED.fullmatch(text) is not None and (len(text) + 1) * 2 // 5 in _MAC_OCTETS


def _refuse_many_gateways(selections: tuple[NetworkSelection, ...], annotation: str) -> None:
    for family in (4, 6):
        gateways = [str(ip) for s in selections for ip in s.default_route or () if ip.version == family]
        if len(gateways) > 1:
            raise _wrong(
                annotation,
                f"has {len(gateways)} IPv{family} default-route gateways ({', '.join(gateways)}); no ECMP, write one at most",
            )


def _text(value: object) -> str:
    """Give a value as JSON, shortened, for a message."""
    limit = 80
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= limit else text[:limit] + "…"
