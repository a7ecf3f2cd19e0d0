"""
The path of a packet from namespace to namespace, as the kernels would decide it.

What is followed: routing rules and tables, veth pairs, neighbours on a common wire, translations
that conntrack remembers, the reverse path filter. Firewall rules are not: `diagnosis` looks at
their counters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.connectivity.survey import Ends, NamespaceSurvey
from spiderpool.model.netns_contents import IPV4, UNICAST, Link, Route, Rule

LONGEST: Final = 16  # hops; a packet that goes on has met a loop
LOOPBACK: Final = "lo"  # what the kernel takes for the incoming interface of its own packets
STRICT, LOOSE = 1, 2  # values of rp_filter (kernel documentation, ip-sysctl)
_CHILDREN: Final = frozenset({"macvlan", "ipvlan"})
_REFUSALS: Final = frozenset({"blackhole", "unreachable", "prohibit", "throw"})

World = Sequence[NamespaceSurvey]


class End(StrEnum):
    """Why a packet goes no further."""

    ARRIVED = "arrived"
    NO_ROUTE = "no route"
    NO_NEIGHBOUR = "no neighbour"
    REVERSE_PATH = "rp_filter"
    NO_TRANSLATION = "no translation"  # a Service's address that nothing on the node replaced
    PARENT = "parent"  # macvlan and its parent do not hear each other
    UNSEEN = "unseen"  # handed to somebody who was not looked at, such as a router
    LOOP = "loop"


@dataclass(frozen=True, slots=True)
class Hop:
    """
    One namespace that a packet passed.

    By which interface in and out (empty at the ends), where it goes next, and how the packet looked
    there, its destination already replaced.
    """

    station: str
    entered: str = ""
    left: str = ""
    next: IPAddress | None = None
    packet: Ends | None = None

    def __str__(self) -> str:
        """Write it as people read it: interface in, name, interface out."""
        came, went = (f"[{name}]" if name else "" for name in (self.entered, self.left))
        return " ".join(filter(None, (came, self.station, went)))


@dataclass(frozen=True, slots=True)
class Walk:
    """A packet's way, where and why it ended, and how the packet looked there."""

    hops: tuple[Hop, ...]
    end: End
    why: str
    last: Ends

    @property
    def stations(self) -> tuple[str, ...]:
        """The namespaces that saw it."""
        return tuple(hop.station for hop in self.hops)

    def __str__(self) -> str:
        """Write the whole way."""
        return " -> ".join(map(str, self.hops))


@dataclass(frozen=True, slots=True)
class Step:
    """A packet at the door of a namespace; `entered` is empty where it was born."""

    station: NamespaceSurvey
    packet: Ends
    entered: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a step was the last one."""

    end: End
    why: str


def walk(
    world: World, start: NamespaceSurvey, packet: Ends, *, service: IPAddress | None = None
) -> Walk:
    """
    Follow a packet.

    Args:
        world: all namespaces that were looked at.
        start: where it is born.
        packet: its addresses and ports, as its sender writes them.
        service: the address that no pod has, and that a node must replace.
    """
    hops: list[Hop] = []
    step: Step | None = Step(start, packet)
    stop = Stop(End.LOOP, f"it passes more than {LONGEST} namespaces")
    while step is not None and len(hops) < LONGEST:
        here = step
        hop, outcome = _pass(world, here, service)
        hops.append(hop)
        if isinstance(outcome, Stop):
            return Walk(
                tuple(hops), outcome.end, outcome.why, _rewritten(here.station, here.packet)
            )
        step = outcome
    return Walk(tuple(hops), stop.end, stop.why, here.packet)


def _pass(world: World, step: Step, service: IPAddress | None) -> tuple[Hop, Step | Stop]:
    """Take a packet through one namespace."""
    station, packet = step.station, step.packet
    after = _rewritten(station, packet)
    here = Hop(station.name, step.entered, packet=after)
    refusal = _reverse_path(station, packet, step.entered)
    if refusal:
        return here, refusal
    mark = _restored_mark(station, packet) if station.pod and not step.entered else 0
    if step.entered and station.owns(after.destination):
        return here, Stop(End.ARRIVED, f"{after.destination} is its own address")
    if step.entered and after.destination == service:
        return here, Stop(
            End.NO_TRANSLATION,
            f"nothing on {station.name} replaces the Service address {service} by a pod's",
        )
    route = find_route(station, after.destination, after.source, step.entered, mark)
    if route is None or route.type in _REFUSALS:
        words = f"{route.type} {route.dst}" if route else "no route"
        return here, Stop(End.NO_ROUTE, f"{words} to {after.destination} in {station.name}")
    return _leave(world, step, after, route)


def _leave(world: World, step: Step, after: Ends, route: Route) -> tuple[Hop, Step | Stop]:
    """Hand a packet to what is behind a route."""
    station = step.station
    onward = route.gateway or after.destination
    hop = Hop(station.name, step.entered, route.dev, onward, after)
    link = station.link(route.dev)
    sent = (
        after if station.pod or not step.entered else _source_rewritten(station, step.packet, after)
    )
    if link is not None and (half := _other_half(world, station, link)):
        return hop, Step(half[0], sent, half[1].name)
    missing = next(
        (n for n in station.neighbours if (n.ip, n.dev) == (onward, route.dev) and n.missing), None
    )
    if missing:
        return hop, Stop(
            End.NO_NEIGHBOUR, f"nobody answers for {onward} on {route.dev} of {station.name}"
        )
    owner = _owner(world, station, onward)
    if owner is None:
        return hop, Stop(
            End.UNSEEN,
            f"{station.name} hands it to {onward} by {route.dev}; what happens there was not "
            "looked at",
        )
    if link is not None and _are_parent_and_child(station, link, *owner):
        return hop, Stop(
            End.PARENT,
            f"{link.name} of {station.name} and {owner[1].name} of {owner[0].name} are parent and "
            "child",
        )
    return hop, Step(owner[0], sent, owner[1].name)


# --- routing


def find_route(
    station: NamespaceSurvey,
    destination: IPAddress,
    source: IPAddress | None,
    entered: str,
    mark: int = 0,
) -> Route | None:
    """
    Choose the route of a packet as the kernel does.

    Rules by priority; in a table the longest prefix, then the smallest metric.

    Args:
        station: where.
        destination: where it goes.
        source: where it comes from; None = not chosen yet, which matches rules without a source
        only.
        entered: the interface it came in by; empty for a packet of the namespace's own.
        mark: its firewall mark.
    Source: ip-rule(8); kernel, net/core/fib_rules.c.
    """
    for rule in sorted(station.rules, key=lambda rule: rule.priority or 0):
        if not _matches(rule, destination, source, entered or LOOPBACK, mark):
            continue
        route = _best(station, rule.table, destination)
        if route is not None:
            return route
    return None


def _matches(
    rule: Rule, destination: IPAddress, source: IPAddress | None, entered: str, mark: int
) -> bool:
    return (
        rule.family == destination.version
        and (rule.src is None or (source is not None and source in rule.src))
        and (rule.dst is None or destination in rule.dst)
        and (rule.mark is None or mark & rule.mask == rule.mark)
        and (not rule.iif or rule.iif == entered)
    )


def _best(station: NamespaceSurvey, table: int, destination: IPAddress) -> Route | None:
    fitting = [
        route for route in station.routes if route.table == table and destination in route.dst
    ]
    return min(fitting, key=lambda route: (-route.dst.prefixlen, route.metric), default=None)


def _reverse_path(station: NamespaceSurvey, packet: Ends, entered: str) -> Stop | None:
    """Refuse a packet as the reverse path filter does; IPv6 has none of its own."""
    filtered = entered and packet.source.version == IPV4
    strictness = station.reverse_filter(entered) if filtered else 0
    if strictness not in {STRICT, LOOSE}:
        return None
    back = find_route(station, packet.source, packet.destination, "")
    if back is not None and back.type == UNICAST and (strictness == LOOSE or back.dev == entered):
        return None
    wanted = (
        f"expects {packet.source} by {back.dev}"
        if back and back.dev
        else f"has no route back to {packet.source}"
    )
    return Stop(End.REVERSE_PATH, f"rp_filter={strictness} of {entered} in {station.name} {wanted}")


def _restored_mark(station: NamespaceSurvey, packet: Ends) -> int:
    """
    Return the mark that an answer gets back from its connection.

    Source: docs/reference/coordinator.md#way-back-by-veth0.
    """
    tracked = station.connection(packet)
    return tracked.mark if tracked and tracked.reply == packet else 0


# --- translation


def _rewritten(station: NamespaceSurvey, packet: Ends) -> Ends:
    """Replace the destination before routing, as conntrack remembers it."""
    tracked = station.connection(packet)
    if tracked is None or station.pod:
        return packet
    other = tracked.reply if packet == tracked.original else tracked.original
    return replace(packet, destination=other.source, destination_port=other.source_port)


def _source_rewritten(station: NamespaceSurvey, before: Ends, after: Ends) -> Ends:
    """Replace the source after routing."""
    tracked = station.connection(before)
    if tracked is None:
        return after
    other = tracked.reply if before == tracked.original else tracked.original
    return replace(after, source=other.destination, source_port=other.destination_port)


# --- links


def _other_half(
    world: World, station: NamespaceSurvey, link: Link
) -> tuple[NamespaceSurvey, Link] | None:
    """
    Find the other end of a veth pair.

    Numbers of interfaces repeat between nodes, so both ends must name each other.
    """
    if link.kind != "veth" or link.peer is None:
        return None
    return next(
        (
            (other, end)
            for other in world
            if other.node == station.node and bool(other.pod) != bool(station.pod)
            for end in other.links
            if end.kind == "veth" and end.index == link.peer and end.peer == link.index
        ),
        None,
    )


def _owner(
    world: World, station: NamespaceSurvey, address: IPAddress
) -> tuple[NamespaceSurvey, Link] | None:
    """Find who answers for an address on a wire."""
    return next(_owners(world, station, address), None)


def _owners(
    world: World, station: NamespaceSurvey, address: IPAddress
) -> Iterator[tuple[NamespaceSurvey, Link]]:
    for other in world:
        if other != station:
            yield from ((other, link) for link in other.links_with(address))


def _are_parent_and_child(
    station: NamespaceSurvey, link: Link, other: NamespaceSurvey, end: Link
) -> bool:
    if station.node != other.node or bool(station.pod) == bool(other.pod):
        return False
    return (link.kind in _CHILDREN and link.peer == end.index) or (
        end.kind in _CHILDREN and end.peer == link.index
    )
