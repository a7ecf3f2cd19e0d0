"""
The `k8s.v1.cni.cncf.io/network-status` annotation: what each network gave the pod.

Source: docs/reference/meta-plugin.md#result-and-status.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spiderpool.cni.result import Dns, Interface, Ip, Result


@dataclass(frozen=True, slots=True)
class Attached:
    """One delegate's outcome; `device_info` is what its plugin wrote about the device, if any."""

    name: str
    result: Result
    default: bool = False
    device_info: Mapping[str, Any] | None = None


def network_status(attached: Iterable[Attached]) -> str:
    """Return the annotation's value, empty when no delegate has anything to show."""
    entries = [entry for item in attached for entry in _entries(item)]
    if not entries:
        return ""
    return (
        "[" + ",".join(json.dumps(entry, indent=4, ensure_ascii=False) for entry in entries) + "]"
    )


def _entries(item: Attached) -> list[dict[str, Any]]:
    interfaces = item.result.interfaces
    if not interfaces:
        return []
    if len(interfaces) == 1:
        # A lone interface without sandbox (a userspace NIC) still tells its addresses, not its
        # name.
        shown = interfaces[0] if interfaces[0].sandbox else Interface()
        return [_entry(item, shown, item.result.ips, default=item.default)]
    inside = [index for index, interface in enumerate(interfaces) if interface.sandbox]
    chosen = _default_interface(item.result, inside) if item.default else None
    return [
        _entry(
            item,
            interfaces[index],
            _ips_of(item.result.ips, index, inside),
            default=index == chosen,
        )
        for index in inside
    ]


def _default_interface(result: Result, inside: Sequence[int]) -> int | None:
    """
    Return the interface of the first address with a gateway.

    A host's interface there means none.
    """
    for ip in result.ips:
        if ip.gateway is not None and ip.interface is not None:
            return ip.interface
    return inside[0] if inside else None


def _ips_of(ips: Sequence[Ip], index: int, inside: Sequence[int]) -> list[Ip]:
    """
    Return an interface's addresses.

    One that names no interface goes to the last one inside the pod.
    """
    return [
        ip for ip in ips if ip.interface == index or (ip.interface is None and index == inside[-1])
    ]


def _entry(
    item: Attached, interface: Interface, ips: Sequence[Ip], *, default: bool
) -> dict[str, Any]:
    optional = {
        "interface": interface.name,
        "ips": [str(ip.address.ip) for ip in ips],
        "mac": interface.mac,
        "mtu": interface.mtu,
        "default": default,
    }
    entry = {"name": item.name} | {key: value for key, value in optional.items() if value}
    entry["dns"] = _dns(item.result.dns)
    if item.device_info:
        entry["device-info"] = dict(item.device_info)
    gateways = _gateways(item.result)
    if gateways:
        entry["gateway"] = gateways
    return entry


def _dns(dns: Dns) -> dict[str, Any]:
    body = {
        "nameservers": list(dns.nameservers),
        "domain": dns.domain,
        "search": list(dns.search),
        "options": list(dns.options),
    }
    return {key: value for key, value in body.items() if value}


def _gateways(result: Result) -> list[str]:
    """
    Return the gateways of default routes.

    A route without one borrows its family's first gateway, or is left out.
    """
    gateways = []
    for route in result.routes:
        if not route.dst.network_address.is_unspecified:
            continue
        borrowed = (
            ip.gateway
            for ip in result.ips
            if ip.address.version == route.dst.version and ip.gateway
        )
        gateway = route.gw or next(borrowed, None)
        if gateway is not None:
            gateways.append(str(gateway))
    return gateways
