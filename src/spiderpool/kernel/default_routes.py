"""
Default routes of one interface: read, removed, added. Functions block.

They belong into `Namespaces.run`.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from spiderpool.errors import SpiderpoolError
from spiderpool.kernel.netlink import KernelRefusal, Netlink, is_missing

MAIN_TABLE: Final = 254
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTO_BOOT: Final = 3  # as ip(8) and Go's netlink library write routes that nobody manages
_UNICAST: Final = 1


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """A default route of the main table."""

    family: int
    gateway: IPv4Address | IPv6Address | None
    priority: int = 0


def default_routes(ifname: str) -> list[DefaultRoute]:
    """
    Return the default routes that leave by an interface.

    An interface that does not exist has none.
    """
    index = _index(ifname)
    if index is None:
        return []
    with Netlink() as netlink:
        return [_read(route) for family in _FAMILIES for route in _dump(netlink, family, index)]


def move_default_routes(
    ifname: str, remove: Collection[int], add: Sequence[IPv4Address | IPv6Address]
) -> bool:
    """
    Remove an interface's default routes of some families, then add one for each gateway.

    Returns:
        False when there is no such interface here (a NIC in user space): then nothing is touched.

    Raises:
        SpiderpoolError: a route cannot be removed or added; which, and what the kernel says.
    """
    index = _index(ifname)
    if index is None:
        return False
    with Netlink() as netlink:
        for family in sorted(remove):
            _remove(netlink, ifname, _dump(netlink, family, index))
        for gateway in add:
            _add(netlink, ifname, index, gateway)
    return True


def _index(ifname: str) -> int | None:
    try:
        return socket.if_nametoindex(ifname)
    except OSError:
        return None


def _dump(netlink: Netlink, family: int, index: int) -> list[Any]:
    """Read the main table's default routes that use an interface, also as one of several next hops."""
    request = rtmsg()
    request["family"] = _FAMILIES[family]
    return [
        route
        for route in netlink.dump(RTM_GETROUTE, request)
        if _is_default(route) and index in _interfaces(route)
    ]


def _is_default(route: Any) -> bool:
    return (
        route["dst_len"] == 0
        and route["type"] == _UNICAST
        and route.get_attr("RTA_TABLE") == MAIN_TABLE
        and not route["flags"] & _CLONED
    )


_CLONED: Final = 0x200  # RTM_F_CLONED: a cached look-up, not a route


def _interfaces(route: Any) -> set[int]:
    hops = route.get_attr("RTA_MULTIPATH") or ()
    return {route.get_attr("RTA_OIF"), *(hop["oif"] for hop in hops)}


def _read(route: Any) -> DefaultRoute:
    gateway = route.get_attr("RTA_GATEWAY")
    family = 4 if route["family"] == socket.AF_INET else 6
    return DefaultRoute(
        family, ip_address(gateway) if gateway else None, route.get_attr("RTA_PRIORITY") or 0
    )


def _remove(netlink: Netlink, ifname: str, routes: Iterable[Any]) -> None:
    for route in routes:
        request = rtmsg()
        for field in ("family", "dst_len", "table", "proto", "scope", "type"):
            request[field] = route[field]
        names = ("RTA_TABLE", "RTA_PRIORITY", "RTA_OIF", "RTA_GATEWAY")
        request["attrs"] = [
            (name, route.get_attr(name)) for name in names if route.get_attr(name) is not None
        ]
        try:
            netlink.change(RTM_DELROUTE, 0, request)
        except KernelRefusal as error:
            if not is_missing(error):
                raise SpiderpoolError(
                    f"default route of {ifname} cannot be removed: {error.message}"
                ) from error


def _add(netlink: Netlink, ifname: str, index: int, gateway: IPv4Address | IPv6Address) -> None:
    request = rtmsg()
    request["family"] = _FAMILIES[gateway.version]
    request["table"] = MAIN_TABLE
    request["proto"] = _PROTO_BOOT
    request["type"] = _UNICAST
    request["attrs"] = [
        ("RTA_TABLE", MAIN_TABLE),
        ("RTA_OIF", index),
        ("RTA_GATEWAY", str(gateway)),
    ]
    try:
        netlink.change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, request)
    except KernelRefusal as error:
        raise SpiderpoolError(
            f"default route of {ifname} via {gateway} cannot be added: {error.message}; "
            "is the gateway inside the interface's subnet?"
        ) from error
