"""
CNI results and errors: one value inside, every version's form outside.

Source: CNI specification 1.1.0, section 5; the older forms: specifications 0.2.0, 0.4.0, 1.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any

import msgspec

from spiderpool.cni.versions import (
    FIRST_WITH_GC,
    FIRST_WITH_INTERFACES,
    FIRST_WITHOUT_IP_VERSION,
    at_least,
)
from spiderpool.errors import SpiderpoolError, Undecodable


@dataclass(frozen=True, slots=True)
class Interface:
    """One link that a plugin made or touched; a host's own end has no sandbox."""

    name: str = ""
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = ""


@dataclass(frozen=True, slots=True)
class Ip:
    """One address; `interface` is a position in the result's interfaces."""

    address: IPv4Interface | IPv6Interface
    gateway: IPv4Address | IPv6Address | None = None
    interface: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One route; the numbers exist from version 1.1.0 on."""

    dst: IPv4Network | IPv6Network
    gw: IPv4Address | IPv6Address | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


@dataclass(frozen=True, slots=True)
class Dns:
    """Name resolution that a plugin asks for."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a successful ADD tells."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Ip, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns = Dns()


def render(result: Result, version: str) -> str:
    """
    Return the JSON text of a result in a version's form.

    What the version cannot say is left out.
    """
    return msgspec.json.encode(document(result, version)).decode()


def document(result: Result, version: str) -> dict[str, Any]:
    """Return a result as a JSON object in a version's form."""
    body = (
        _modern(result, version) if at_least(version, FIRST_WITH_INTERFACES) else _ancient(result)
    )
    return {"cniVersion": version, **body, "dns": _dns(result.dns)}


def render_error(error: SpiderpoolError, version: str, prefix: str = "") -> str:
    """
    Return the JSON text of a CNI error.

    Args:
        error: what went wrong.
        version: the CNI version of the answer.
        prefix: what the message begins with.
    """
    message = prefix + error.message
    body: dict[str, Any] = {"cniVersion": version, "code": error.cni_code, "msg": message}
    if error.details:
        body["details"] = error.details
    return msgspec.json.encode(body).decode()


def parse_result(value: Mapping[str, Any]) -> Result:
    """
    Read a result of any version; its form, not its `cniVersion`, tells which.

    Raises:
        Undecodable: a field has another form than every version gives it.
    """
    try:
        ancient = [value[key] for key in ("ip4", "ip6") if value.get(key)]
        return Result(
            interfaces=tuple(_read_interface(item) for item in value.get("interfaces") or ()),
            ips=tuple(_read_ip(item) for item in value.get("ips") or ())
            + tuple(
                _read_ip({"address": item["ip"], "gateway": item.get("gateway")})
                for item in ancient
            ),
            routes=tuple(_read_route(item) for item in value.get("routes") or ())
            + tuple(_read_route(item) for half in ancient for item in half.get("routes") or ()),
            dns=_read_dns(value.get("dns") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Undecodable(f"CNI result cannot be read: {_reason(error)}") from error


def _modern(result: Result, version: str) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if result.interfaces:
        body["interfaces"] = [_interface(item, version) for item in result.interfaces]
    if result.ips:
        body["ips"] = [_ip(item, version) for item in result.ips]
    if result.routes:
        body["routes"] = [_route(item, version) for item in result.routes]
    return body


def _ancient(result: Result) -> dict[str, Any]:
    """Return the 0.1 and 0.2 form: the first address of each family, with that family's routes."""
    body: dict[str, Any] = {}
    for family, key in ((4, "ip4"), (6, "ip6")):
        first = next((ip for ip in result.ips if ip.address.version == family), None)
        if first is None:
            continue
        half = _present({"ip": str(first.address), "gateway": _text(first.gateway)})
        routes = [route for route in result.routes if route.dst.version == family]
        if routes:
            half["routes"] = [_route(route, "0.2.0") for route in routes]
        body[key] = half
    return body


def _interface(item: Interface, version: str) -> dict[str, Any]:
    body = _present({"mac": item.mac, "sandbox": item.sandbox})
    if at_least(version, FIRST_WITH_GC):
        body |= _present({"mtu": item.mtu, "socketPath": item.socket_path, "pciID": item.pci_id})
    return {"name": item.name, **body}


def _ip(item: Ip, version: str) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if not at_least(version, FIRST_WITHOUT_IP_VERSION):
        body["version"] = str(item.address.version)
    if item.interface is not None:
        body["interface"] = item.interface
    return {**body, "address": str(item.address), **_present({"gateway": _text(item.gateway)})}


def _route(item: Route, version: str) -> dict[str, Any]:
    body = {"dst": str(item.dst), **_present({"gw": _text(item.gw)})}
    if at_least(version, FIRST_WITH_GC):
        numbers = {
            "mtu": item.mtu,
            "advmss": item.advmss,
            "priority": item.priority,
            "table": item.table,
            "scope": item.scope,
        }
        body |= {key: value for key, value in numbers.items() if value is not None}
    return body


def _dns(dns: Dns) -> dict[str, Any]:
    return _present(
        {
            "nameservers": list(dns.nameservers),
            "domain": dns.domain,
            "search": list(dns.search),
            "options": list(dns.options),
        }
    )


def _read_interface(item: Mapping[str, Any]) -> Interface:
    return Interface(
        name=_string(item, "name"),
        mac=_string(item, "mac"),
        mtu=_number(item, "mtu") or 0,
        sandbox=_string(item, "sandbox"),
        socket_path=_string(item, "socketPath"),
        pci_id=_string(item, "pciID"),
    )


def _read_ip(item: Mapping[str, Any]) -> Ip:
    return Ip(
        ip_interface(item["address"]),
        _read_gateway(item.get("gateway")),
        _number(item, "interface"),
    )


def _read_route(item: Mapping[str, Any]) -> Route:
    return Route(
        # Not strict: Go plugins print the destination as it was configured, host bits included.
        dst=ip_network(item["dst"], strict=False),
        gw=_read_gateway(item.get("gw")),
        mtu=_number(item, "mtu"),
        advmss=_number(item, "advmss"),
        priority=_number(item, "priority"),
        table=_number(item, "table"),
        scope=_number(item, "scope"),
    )


def _read_dns(item: Mapping[str, Any]) -> Dns:
    return Dns(
        nameservers=_strings(item, "nameservers"),
        domain=_string(item, "domain"),
        search=_strings(item, "search"),
        options=_strings(item, "options"),
    )


def _read_gateway(text: str | None) -> IPv4Address | IPv6Address | None:
    return ip_address(text) if text else None


def _string(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key) or ""
    if not isinstance(value, str):
        raise TypeError(f"{key} is {value!r}, expected a string")
    return value


def _strings(item: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = item.get(key) or ()
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{key} is {values!r}, expected a list of strings")
    return tuple(values)


def _number(item: Mapping[str, Any], key: str) -> int | None:
    value = item.get(key)
    if value is not None and type(value) is not int:
        raise TypeError(f"{key} is {value!r}, expected a whole number")
    return value


def _text(value: IPv4Address | IPv6Address | None) -> str:
    return "" if value is None else str(value)


def _present(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value}


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
