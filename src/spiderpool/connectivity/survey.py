"""
What one network namespace, of a node or of a pod, has: links, addresses, rules, routes, neighbours, connections, counters.

Read from what the system's own tools print (`ip -j`, `/proc/net/nf_conntrack`, `iptables-save -c`):
the same outputs that somebody would look at by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

import msgspec

from spiderpool.connectivity.matrix import IPAddress
from spiderpool.errors import Undecodable

IPNetwork = IPv4Network | IPv6Network

LOCAL, MAIN, DEFAULT = "local", "main", "default"
_TABLE_NAMES: Final = {"255": LOCAL, "254": MAIN, "253": DEFAULT}
_ANYWHERE: Final[dict[int, IPNetwork]] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
ALL_MARKS: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Link:
    """
    An interface.

    `peer` is the number of its other half or of its parent, in whatever namespace that is.
    """

    name: str
    index: int
    kind: str = ""  # veth, macvlan, …; empty for hardware
    peer: int | None = None
    addresses: tuple[IPAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing rule; `table` is empty for one that refuses."""

    priority: int
    family: int
    table: str
    source: IPNetwork | None = None
    destination: IPNetwork | None = None
    mark: int | None = None
    mask: int = ALL_MARKS
    entered: str = ""  # the interface that a packet came in by


@dataclass(frozen=True, slots=True)
class Route:
    """A route; `via` is its gateway."""

    destination: IPNetwork
    device: str = ""
    via: IPAddress | None = None
    table: str = MAIN
    type: str = "unicast"
    source: IPAddress | None = None
    metric: int = 0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What is known of the hardware address behind an address."""

    address: IPAddress
    device: str
    states: tuple[str, ...]

    @property
    def is_missing(self) -> bool:
        """Return whether nobody answered for the address."""
        return bool({"FAILED", "INCOMPLETE"} & set(self.states))


@dataclass(frozen=True, slots=True)
class Ends:
    """Source and destination of one direction of a connection."""

    source: IPAddress
    source_port: int
    destination: IPAddress
    destination_port: int

    def reversed(self) -> Ends:
        """Return the other direction."""
        return Ends(self.destination, self.destination_port, self.source, self.source_port)


@dataclass(frozen=True, slots=True)
class Tracked:
    """
    A connection as conntrack knows it.

    `reply` is what an answer would look like, whether or not one was seen.
    """

    protocol: str
    state: str
    original: Ends
    reply: Ends
    replied: bool
    assured: bool
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Counter:
    """A rule that drops, and how many packets it had."""

    family: int
    rule: str
    packets: int


@dataclass(frozen=True, slots=True)
class NamespaceSurvey:
    """One namespace; `pod` is empty for a node's own."""

    node: str
    pod: str = ""
    links: tuple[Link, ...] = ()
    rules: tuple[Rule, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    tracked: tuple[Tracked, ...] = ()
    drops: tuple[Counter, ...] = ()
    filters: Mapping[str, int] = field(default_factory=dict)  # net.ipv4.conf.*.rp_filter

    @property
    def name(self) -> str:
        """How people call it."""
        return f"pod {self.pod}" if self.pod else f"node {self.node}"

    def link(self, name: str) -> Link | None:
        """Find an interface."""
        return next((link for link in self.links if link.name == name), None)

    def owns(self, address: IPAddress) -> bool:
        """Return whether an address is one of its own."""
        return any(address in link.addresses for link in self.links)

    def connection(self, ends: Ends) -> Tracked | None:
        """Find the connection that a packet belongs to, in either direction."""
        return next((each for each in self.tracked if ends in (each.original, each.reply)), None)

    def reverse_filter(self, device: str) -> int:
        """
        Return the effective strictness of the reverse path filter.

        The kernel takes the greater (ip-sysctl).
        """
        return max(self.filters.get("all", 0), self.filters.get(device, 0))


# --- reading
# --------------------------------------------------------------------------------------------------------------


class Address(msgspec.Struct, frozen=True):
    """One address of `ip -j address`."""

    local: str = ""


class LinkInfo(msgspec.Struct, frozen=True):
    """The driver of an interface."""

    info_kind: str = ""


class LinkText(msgspec.Struct, frozen=True):
    """
    One interface of `ip -d -j address`.

    The tool prints empty objects for what a filter leaves out.
    """

    ifname: str = ""
    ifindex: int = 0
    link_index: int | None = None
    linkinfo: LinkInfo = LinkInfo()
    addr_info: tuple[Address, ...] = ()


class RuleText(msgspec.Struct, frozen=True):
    """One rule of `ip -j rule`."""

    priority: int
    src: str = "all"
    srclen: int | None = None
    dst: str = "all"
    dstlen: int | None = None
    fwmark: str = ""
    fwmask: str = ""
    iif: str = ""
    table: str = ""


class NextHop(msgspec.Struct, frozen=True):
    """One of several next hops of a route."""

    dev: str = ""
    gateway: str = ""


class RouteText(msgspec.Struct, frozen=True):
    """One route of `ip -j route show table all`."""

    dst: str
    type: str = "unicast"
    dev: str = ""
    gateway: str = ""
    table: str = MAIN
    prefsrc: str = ""
    metric: int = 0
    nexthops: tuple[NextHop, ...] = ()


class NeighbourText(msgspec.Struct, frozen=True):
    """One entry of `ip -j neighbour`."""

    dst: str
    dev: str = ""
    state: tuple[str, ...] = ()


class Survey(msgspec.Struct, frozen=True):
    """What the survey program prints of one namespace."""

    node: str
    pod: str = ""
    links: tuple[LinkText, ...] = ()
    rules4: tuple[RuleText, ...] = ()
    rules6: tuple[RuleText, ...] = ()
    routes4: tuple[RouteText, ...] = ()
    routes6: tuple[RouteText, ...] = ()
    neighbours: tuple[NeighbourText, ...] = ()
    conntrack: str = ""
    filter4: str = ""
    filter6: str = ""
    rp_filter: dict[str, int] = {}


def read_surveys(text: str | bytes) -> tuple[NamespaceSurvey, ...]:
    """Read what the survey of one node printed. Raises `Undecodable`."""
    try:
        surveys = msgspec.json.decode(text, type=tuple[Survey, ...])
        return tuple(map(read_survey, surveys))
    except (msgspec.DecodeError, ValueError) as error:
        raise Undecodable(f"survey of a node: {error}") from error


def read_survey(survey: Survey) -> NamespaceSurvey:
    """Read one namespace."""
    return NamespaceSurvey(
        node=survey.node,
        pod=survey.pod,
        links=tuple(_link(link) for link in survey.links if link.ifname),
        rules=(
            *(_rule(4, rule) for rule in survey.rules4),
            *(_rule(6, rule) for rule in survey.rules6),
        ),
        routes=tuple(
            route
            for family, texts in ((4, survey.routes4), (6, survey.routes6))
            for text in texts
            for route in _routes(family, text)
        ),
        neighbours=tuple(
            Neighbour(ip_address(each.dst), each.dev, each.state) for each in survey.neighbours
        ),
        tracked=tuple(read_conntrack(survey.conntrack)),
        drops=(*read_drops(4, survey.filter4), *read_drops(6, survey.filter6)),
        filters=survey.rp_filter,
    )


def _link(text: LinkText) -> Link:
    addresses = tuple(ip_address(info.local) for info in text.addr_info if info.local)
    return Link(text.ifname, text.ifindex, text.linkinfo.info_kind, text.link_index, addresses)


def _rule(family: int, text: RuleText) -> Rule:
    return Rule(
        priority=text.priority,
        family=family,
        table=_TABLE_NAMES.get(text.table, text.table),
        source=_selector(text.src, text.srclen),
        destination=_selector(text.dst, text.dstlen),
        mark=int(text.fwmark, 16) if text.fwmark else None,
        mask=int(text.fwmask, 16) if text.fwmask else ALL_MARKS,
        entered=text.iif,
    )


def _selector(text: str, length: int | None) -> IPNetwork | None:
    if text == "all":
        return None
    return ip_network(text if length is None else f"{text}/{length}", strict=False)


def _routes(family: int, text: RouteText) -> Iterator[Route]:
    """Return a route; one with several next hops counts as its first, the others are as good."""
    destination = _ANYWHERE[family] if text.dst == "default" else ip_network(text.dst, strict=False)
    hop = text.nexthops[0] if text.nexthops else NextHop(text.dev, text.gateway)
    yield Route(
        destination=destination,
        device=hop.dev,
        via=ip_address(hop.gateway) if hop.gateway else None,
        table=_TABLE_NAMES.get(text.table, text.table),
        type=text.type,
        source=ip_address(text.prefsrc) if text.prefsrc else None,
        metric=text.metric,
    )


_PAIR: Final = re.compile(r"(src|dst|sport|dport|mark)=(\S+)")
_STATE: Final = re.compile(r"\b([A-Z_0-9]{4,}) src=")


def read_conntrack(text: str) -> Iterator[Tracked]:
    """
    Read connections with ports from `/proc/net/nf_conntrack`, or from `conntrack -L`, which prints the same words.

    Source: Linux, net/netfilter/nf_conntrack_standalone.c, ct_seq_show.
    """
    for line in text.splitlines():
        pairs = _PAIR.findall(line)
        values = [value for key, value in pairs if key != "mark"]
        keys = [key for key, _ in pairs if key != "mark"]
        if keys != ["src", "dst", "sport", "dport"] * 2:
            continue  # ICMP has no ports
        state = _STATE.search(line)
        yield Tracked(
            protocol=next(
                (word for word in ("tcp", "udp", "sctp") if re.search(rf"\b{word}\b", line)), ""
            ),
            state=state[1] if state else "",
            original=_ends(values[:4]),
            reply=_ends(values[4:]),
            replied="[UNREPLIED]" not in line,
            assured="[ASSURED]" in line,
            mark=int(next((value for key, value in pairs if key == "mark"), "0")),
        )


def _ends(values: Sequence[str]) -> Ends:
    source, destination, source_port, destination_port = values
    return Ends(
        ip_address(source), int(source_port), ip_address(destination), int(destination_port)
    )


_COUNTED: Final = re.compile(r"\[(\d+):\d+\] (-A .*)")


def read_drops(family: int, text: str) -> Iterator[Counter]:
    """Read from `iptables-save -c` the rules that drop what conntrack finds invalid (datapath.md 6.1, S3)."""
    for line in text.splitlines():
        found = _COUNTED.fullmatch(line.strip())
        if found and drops_invalid(found[2]):
            yield Counter(family, found[2], int(found[1]))


def drops_invalid(rule: str) -> bool:
    """Return whether a rule is kube-proxy's: conntrack state INVALID, target DROP."""
    return bool(re.search(r"--ctstate INVALID\b", rule) and re.search(r"-j DROP\b", rule))
