"""
Which routes come with a pod's address: its pool's, the pod's own, the default route.

Source: docs/reference/annotations.md#routes. A destination is routed once: the kernel takes the
same route no second time, and of two that differ the pod's own word counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

from spiderpool.addressing.hosts import gateway_problem
from spiderpool.addressing.sets import IPAddress, IPNetwork
from spiderpool.api.crd.group import ANNO_ROUTES
from spiderpool.api.crd.ippool import Route
from spiderpool.api.crd.spiderip import SpiderIPSpec

DEFAULT_ROUTE: Final = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True, slots=True)
class Attached:
    """Custom routes by the network that they go with; `unmatched` fit none and are left out."""

    per_network: tuple[tuple[Route, ...], ...]
    unmatched: tuple[Route, ...]


def attach_routes(networks: Sequence[IPNetwork], routes: Iterable[Route]) -> Attached:
    """
    Assign each custom route to the first network that has its gateway.

    Args:
        networks: the pools' subnets in the order of the answer: by NIC as asked for, IPv4 before
            IPv6.
        routes: the pod's own, checked by `pod_request.read_pod_request`.
    Returns:
        The routes of each network, and those whose gateway is in none.
    Source: docs/reference/annotations.md#routes.
    """
    homes = [(route, _home(networks, route)) for route in routes]
    per_network = tuple(
        tuple(route for route, home in homes if home == index) for index in range(len(networks))
    )
    return Attached(per_network, tuple(route for route, home in homes if home is None))


def overruled_routes(attached: Attached) -> tuple[Route, ...]:
    """Return custom routes to a destination that an earlier one of their network has otherwise."""
    return tuple(
        route
        for group in attached.per_network
        for route in group
        if not any(route == first for first in _one_each(group))
    )


def network_of(spec: SpiderIPSpec) -> IPNetwork:
    """Return the network that an address is in."""
    return ip_network((spec.ip, spec.prefix_length), strict=False)


def stored_routes(
    pool: Iterable[Route], own: Iterable[Route], gateway: IPAddress | None
) -> tuple[Route, ...]:
    """
    Return the routes that are stored with an address.

    Args:
        pool: those of its pool.
        own: custom routes of the pod that go with the address; they come after those of the pool
        and win over them.
        gateway: of the default route that the pod gets anyway, None where it gets none. It is not
        stored.
    """
    mine = [route for route in _one_each(own) if not _is_default_by(route, gateway)]
    named = {_destination(route) for route in mine}
    others = _one_each(route for route in pool if _destination(route) not in named)
    return (*others, *mine)


def answered_routes(spec: SpiderIPSpec) -> tuple[Route, ...]:
    """
    Return all routes of an address.

    The stored ones, then the default route that follows from its gateway.
    """
    stored = [route for route in _one_each(spec.routes) if route.gw != spec.ip]
    default = (
        [Route(dst=DEFAULT_ROUTE[spec.family], gw=spec.gateway)]
        if spec.gateway and not spec.clean_gateway
        else []
    )
    return _one_each([*stored, *default])


def left_out_text(routes: Iterable[Route], networks: Sequence[IPNetwork]) -> str:
    """Say which custom routes a pod does not get, and why."""
    listed = "; ".join(
        f"{route.dst} via {route.gw} ({_why_left_out(route, networks)})" for route in routes
    )
    return f"annotation {ANNO_ROUTES}: left out: {listed}"


def _why_left_out(route: Route, networks: Sequence[IPNetwork]) -> str:
    gateway = ip_address(route.gw)
    if _home(networks, route) is not None:
        return "a route before it has the same destination"
    home = next((network for network in networks if gateway in network), None)
    if home is not None:
        return f"the gateway {gateway_problem(gateway, home)}"
    return (
        "the gateway is in no subnet of this pod: "
        f"{', '.join(map(str, networks)) or 'it has no address'}"
    )


def _one_each(routes: Iterable[Route]) -> tuple[Route, ...]:
    """Keep the first route to each destination."""
    first: dict[IPNetwork | str, Route] = {}
    for route in routes:
        first.setdefault(_destination(route), route)
    return tuple(first.values())


def _is_default_by(route: Route, gateway: IPAddress | None) -> bool:
    return (
        gateway is not None
        and _destination(route) == _destination_of(DEFAULT_ROUTE[gateway.version])
        and (ip_address(route.gw) == gateway)
    )


def _destination(route: Route) -> IPNetwork | str:
    return _destination_of(route.dst)


@lru_cache(maxsize=1024)  # a pool's routes are read with each of its addresses
def _destination_of(text: str) -> IPNetwork | str:
    """Read a destination; what cannot be read stands for itself."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return text


def _home(networks: Sequence[IPNetwork], route: Route) -> int | None:
    """Return the index of the first network of which a route's gateway can be a router."""
    gateway = ip_address(route.gw)
    hosts = (
        index for index, network in enumerate(networks) if gateway_problem(gateway, network) is None
    )
    return next(hosts, None)
