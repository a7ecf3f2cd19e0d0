"""
What one network namespace, of a node or of a pod, has.

Links, addresses, rules, routes, neighbours, connections and counters.

Read from what the system's own tools print (`ip -j`, `/proc/net/nf_conntrack`, `iptables-save -c`):
the same outputs that somebody would look at by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final

import msgspec

from spiderpool.addressing.sets import IPAddress, IPNetwork
from spiderpool.connectivity.firewall import Firewall, read_firewall
from spiderpool.errors import Undecodable
from spiderpool.model.netns_contents import (
    ALL_MARKS,
    ANYWHERE,
    DEFAULT_TABLE,
    IPV4,
    LINK_SCOPE,
    LOCAL_TABLE,
    MAIN_TABLE,
    NO_TABLE,
    UNICAST,
    Address,
    Link,
    Neighbour,
    Route,
    Rule,
)

_TABLES: Final = {"local": LOCAL_TABLE, "main": MAIN_TABLE, "default": DEFAULT_TABLE, "": NO_TABLE}
_SCOPES: Final = {"global": 0, "site": 200, "link": LINK_SCOPE, "host": 254, "nowhere": 255}
_SHARED: Final = frozenset({"UP", "BROADCAST", "MULTICAST"})
_UNANSWERED: Final = frozenset({"FAILED", "INCOMPLETE"})


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
class NamespaceSurvey:
    """One namespace; `pod` is empty for a node's own."""

    node: str
    pod: str = ""
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    rules: tuple[Rule, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    tracked: tuple[Tracked, ...] = ()
    firewalls: Mapping[int, Firewall] = field(default_factory=dict)  # by family
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
        return any(address == each.ip for each in self.addresses)

    def links_with(self, address: IPAddress) -> Iterator[Link]:
        """Walk the interfaces that have an address."""
        names = {each.dev for each in self.addresses if each.ip == address}
        return (link for link in self.links if link.name in names)

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


class AddressText(msgspec.Struct, frozen=True):
    """One address of `ip -j address`."""

    local: str = ""
    prefixlen: int = 0


class DriverText(msgspec.Struct, frozen=True):
    """What the driver of a virtual interface says; `id` is that of a VLAN."""

    id: int | None = None


class LinkInfo(msgspec.Struct, frozen=True):
    """The driver of an interface."""

    info_kind: str = ""
    info_data: DriverText = DriverText()


class LinkText(msgspec.Struct, frozen=True):
    """
    One interface of `ip -d -j address`; the tool prints empty objects for what a filter leaves out.

    `link_index` is that of the other end or the parent in another namespace, `link` its name in the
    same one.
    """

    ifname: str = ""
    ifindex: int = 0
    link_index: int | None = None
    link: str | None = None
    address: str = ""
    mtu: int = 0
    flags: frozenset[str] = frozenset()
    txqlen: int = 0
    linkinfo: LinkInfo = LinkInfo()
    addr_info: tuple[AddressText, ...] = ()


class RuleText(msgspec.Struct, frozen=True):
    """One rule of `ip -j rule`, as far as it is one that looks up a table."""

    priority: int
    src: str = "all"
    srclen: int | None = None
    dst: str = "all"
    dstlen: int | None = None
    fwmark: str = ""
    fwmask: str = ""
    iif: str = ""
    table: str = ""
    protocol: str = ""


class NextHop(msgspec.Struct, frozen=True):
    """One of several next hops of a route."""

    dev: str = ""
    gateway: str = ""
    flags: frozenset[str] = frozenset()


class RouteText(msgspec.Struct, frozen=True):
    """One route of `ip -j route show table all`."""

    dst: str
    type: str = UNICAST
    dev: str = ""
    gateway: str = ""
    table: str = "main"
    prefsrc: str = ""
    scope: str = "global"
    metric: int = 0
    flags: frozenset[str] = frozenset()
    nexthops: tuple[NextHop, ...] = ()


class NeighbourText(msgspec.Struct, frozen=True):
    """One entry of `ip -j neighbour`."""

    dst: str
    dev: str = ""
    lladdr: str = ""
    state: frozenset[str] = frozenset()


class Survey(msgspec.Struct, frozen=True):
    """What the survey program prints of one namespace."""

    node: str
    pod: str = ""
    links: tuple[LinkText, ...] = ()
    rules4: tuple[dict[str, Any], ...] = ()
    rules6: tuple[dict[str, Any], ...] = ()
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
    links = [link for link in survey.links if link.ifname]
    indexes = {link.ifname: link.ifindex for link in links}
    return NamespaceSurvey(
        node=survey.node,
        pod=survey.pod,
        links=tuple(_link(link, indexes) for link in links),
        addresses=tuple(address for link in links for address in _addresses(link)),
        rules=(
            *(_rule(4, rule) for rule in survey.rules4),
            *(_rule(6, rule) for rule in survey.rules6),
        ),
        routes=tuple(
            _route(family, text)
            for family, texts in ((4, survey.routes4), (6, survey.routes6))
            for text in texts
        ),
        neighbours=tuple(map(_neighbour, survey.neighbours)),
        tracked=tuple(read_conntrack(survey.conntrack)),
        firewalls={4: read_firewall(survey.filter4), 6: read_firewall(survey.filter6)},
        filters=survey.rp_filter,
    )


def _link(text: LinkText, indexes: Mapping[str, int]) -> Link:
    return Link(
        index=text.ifindex,
        name=text.ifname,
        mac=text.address,
        mtu=text.mtu,
        up="UP" in text.flags,
        shared=text.flags >= _SHARED,
        tx_queue_len=text.txqlen,
        peer=text.link_index if text.link is None else indexes.get(text.link),
        kind=text.linkinfo.info_kind,
        vlan_id=text.linkinfo.info_data.id if text.linkinfo.info_kind == "vlan" else None,
    )


def _addresses(text: LinkText) -> Iterator[Address]:
    for info in text.addr_info:
        if info.local:
            yield Address(text.ifname, ip_address(info.local), info.prefixlen)


def _rule(family: int, found: Mapping[str, Any]) -> Rule:
    text = msgspec.convert(found, RuleText)
    return Rule(
        family=family,
        table=_table(text.table),
        priority=text.priority,
        src=_selector(text.src, text.srclen),
        mark=int(text.fwmark, 16) if text.fwmark else None,
        dst=_selector(text.dst, text.dstlen),
        mask=int(text.fwmask, 16) if text.fwmask else ALL_MARKS,
        iif=text.iif,
        more=bool(found.keys() - set(RuleText.__struct_fields__)) or not text.table,
    )


def _selector(text: str, length: int | None) -> IPNetwork | None:
    if text == "all":
        return None
    return ip_network(text if length is None else f"{text}/{length}", strict=False)


def _table(text: str) -> int:
    return _TABLES[text] if text in _TABLES else int(text)


def _route(family: int, text: RouteText) -> Route:
    """Read a route; one with several next hops counts as its first, the others are as good."""
    hop = text.nexthops[0] if text.nexthops else NextHop(text.dev, text.gateway, text.flags)
    return Route(
        dst=ANYWHERE[family] if text.dst == "default" else ip_network(text.dst, strict=False),
        dev=hop.dev,
        table=_table(text.table),
        gateway=ip_address(hop.gateway) if hop.gateway else None,
        src=ip_address(text.prefsrc) if text.prefsrc else None,
        scope=_scope(text.scope) if family == IPV4 else 0,
        metric=text.metric,
        onlink="onlink" in hop.flags,
        type=text.type,
    )


def _scope(text: str) -> int:
    return _SCOPES[text] if text in _SCOPES else int(text)


def _neighbour(text: NeighbourText) -> Neighbour:
    return Neighbour(
        ip=ip_address(text.dst),
        dev=text.dev,
        mac=text.lladdr,
        permanent="PERMANENT" in text.state,
        missing=bool(text.state & _UNANSWERED),
    )


_PAIR: Final = re.compile(r"(src|dst|sport|dport|mark)=(\S+)")
_STATE: Final = re.compile(r"\b([A-Z_0-9]{4,}) src=")


def read_conntrack(text: str) -> Iterator[Tracked]:
    """
    Read connections with ports from `/proc/net/nf_conntrack` or `conntrack -L`, which are alike.

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
