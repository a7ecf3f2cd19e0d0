"""
Default routes of one interface: removed, added and put back. Functions block.

They belong into `Namespaces.run`.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable, Sequence

from spiderpool.addressing.sets import IPAddress
from spiderpool.errors import SpiderpoolError
from spiderpool.kernel import rtnetlink_objects as wire
from spiderpool.kernel.rtnetlink import Refusal, RouteSocket
from spiderpool.model.netns_contents import ANYWHERE, MAIN_TABLE, Route


def move_default_routes(
    ifname: str, remove: Collection[int], add: Sequence[IPAddress]
) -> tuple[Route, ...] | None:
    """
    Remove an interface's default routes of some families, then add one for each gateway.

    Args:
        ifname: the interface.
        remove: families, 4 and 6.
        add: gateways.
    Returns:
        What was removed; None when there is no such interface here (a NIC in user space): then
        nothing is touched.

    Raises:
        SpiderpoolError: a route cannot be removed or added; which, and what the kernel says.
    """
    index = _index(ifname)
    if index is None:
        return None
    with RouteSocket() as netlink:
        removed = [
            route for family in sorted(remove) for route in _remove(netlink, family, ifname, index)
        ]
        for gateway in add:
            _add(netlink, ifname, index, gateway)
    return tuple(removed)


def restore_default_routes(removed: Iterable[Route]) -> tuple[Route, ...]:
    """
    Put default routes back where the namespace has none of their family any more.

    Args:
        removed: in the order of preference; of a family the first interface's come back.
    Returns:
        What was put back.
    """
    back: list[Route] = []
    with RouteSocket() as netlink:
        for family in ANYWHERE:
            mine = [route for route in removed if route.dst.version == family]
            if not mine or any(_defaults(netlink, family)):
                continue
            for route in (route for route in mine if route.dev == mine[0].dev):
                index = _index(route.dev)
                if index is not None:
                    netlink.change([wire.put_message(route, index)])
                    back.append(route)
    return tuple(back)


def _index(ifname: str) -> int | None:
    try:
        return socket.if_nametoindex(ifname)
    except OSError:
        return None


def _defaults(netlink: RouteSocket, family: int, ifname: str = "", index: int = 0) -> list[Route]:
    """Return the main table's default routes; those of one interface have its name."""
    found = netlink.dump_routes(wire.ask_routes(family, MAIN_TABLE))
    routes = (
        route
        for data in found
        for route in wire.read_routes(data, lambda link: ifname if link == index else "")
    )
    return [route for route in routes if route.is_default]


def _remove(netlink: RouteSocket, family: int, ifname: str, index: int) -> list[Route]:
    """
    Remove the main table's default routes that use an interface.

    Of one with several next hops only the interface's own goes: the others are of other networks.
    """
    removed: list[Route] = []
    messages = []
    for data in netlink.dump_routes(wire.ask_routes(family, MAIN_TABLE)):
        routes = wire.read_routes(data, lambda link: ifname if link == index else "")
        mine = [route for route in routes if route.is_default and route.dev == ifname]
        message = wire.without_link(data, index) if mine else None
        if message is not None:
            removed += mine
            messages.append(message)
    try:
        netlink.change(messages)
    except Refusal as error:
        raise SpiderpoolError(
            f"default route of {ifname} cannot be removed: {error.message}"
        ) from error
    return removed


def _add(netlink: RouteSocket, ifname: str, index: int, gateway: IPAddress) -> None:
    route = Route(ANYWHERE[gateway.version], ifname, gateway=gateway)
    try:
        netlink.change([wire.make_route(route, index)])
    except Refusal as error:
        others = _defaults(netlink, gateway.version, ifname, index)
        if any(route.dev == ifname and route.gateway == gateway for route in others):
            return  # it is there as wanted
        hint = "is the gateway inside the interface's subnet?"
        if error.code == errno.EEXIST:
            hint = "another interface has the pod's default route, and does not give it up"
        raise SpiderpoolError(
            f"default route of {ifname} via {gateway} cannot be added: {error.message}; {hint}"
        ) from error
