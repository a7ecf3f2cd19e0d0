"""
Default routes of one interface: removed and added. Functions block.

They belong into `Namespaces.run`.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence

from spiderpool.addressing.sets import IPAddress
from spiderpool.errors import SpiderpoolError
from spiderpool.kernel import rtnetlink_objects as wire
from spiderpool.kernel.rtnetlink import Refusal, RouteSocket
from spiderpool.model.netns import ANYWHERE, MAIN_TABLE, Route


def move_default_routes(ifname: str, remove: Collection[int], add: Sequence[IPAddress]) -> bool:
    """
    Remove an interface's default routes of some families, then add one for each gateway.

    Args:
        ifname: the interface.
        remove: families, 4 and 6.
        add: gateways.
    Returns:
        False when there is no such interface here (a NIC in user space): then nothing is touched.

    Raises:
        SpiderpoolError: a route cannot be removed or added; which, and what the kernel says.
    """
    index = _index(ifname)
    if index is None:
        return False
    with RouteSocket() as netlink:
        for family in sorted(remove):
            _remove(netlink, family, ifname, index)
        for gateway in add:
            _add(netlink, ifname, index, gateway)
    return True


def _index(ifname: str) -> int | None:
    try:
        return socket.if_nametoindex(ifname)
    except OSError:
        return None


def _remove(netlink: RouteSocket, family: int, ifname: str, index: int) -> None:
    """Remove the main table's default routes that use an interface, also as one of several next hops."""

    def uses_it(data: bytes) -> bool:
        routes = wire.read_routes(data, lambda found: ifname if found == index else "")
        return any(route.is_default and route.dev == ifname for route in routes)

    found = netlink.dump_routes(wire.ask_routes(family, MAIN_TABLE))
    try:
        netlink.change([wire.drop_as_read(data) for data in found if uses_it(data)])
    except Refusal as error:
        raise SpiderpoolError(
            f"default route of {ifname} cannot be removed: {error.message}"
        ) from error


def _add(netlink: RouteSocket, ifname: str, index: int, gateway: IPAddress) -> None:
    route = Route(ANYWHERE[gateway.version], ifname, gateway=gateway)
    try:
        netlink.change([wire.make_route(route, index)])
    except Refusal as error:
        raise SpiderpoolError(
            f"default route of {ifname} via {gateway} cannot be added: {error.message}; "
            "is the gateway inside the interface's subnet?"
        ) from error
