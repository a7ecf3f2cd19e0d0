"""
What the coordinator looks at and plans.

A namespace's links and items as a picture, and what must be there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from spiderpool.addressing.sets import IPAddress, IPNetwork
from spiderpool.model.netns_contents import Address, Link, Neighbour, Route, Rule


class Kind(enum.StrEnum):
    """Which setting."""

    UP = "up"
    MAC = "mac"
    TX_QUEUE_LEN = "txQueueLen"
    SYSCTL = "sysctl"


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that has exactly one value: `name` is a link's, or a sysctl's with dots."""

    kind: Kind
    name: str
    value: str

    @property
    def place(self) -> tuple[Kind, str]:
        """What has the value."""
        return (self.kind, self.name)


Item = Address | Route | Rule | Neighbour | Setting
"""One thing that a namespace has or has not."""


@dataclass(frozen=True, slots=True)
class VethPair:
    """A pair of links: one end in the pod, one on the node, both up."""

    host: str
    pod: str
    mtu: int
    host_mac: str
    pod_mac: str


@dataclass(frozen=True, slots=True)
class Picture:
    """
    What was seen in a namespace, or in the part of it that matters.

    `links` are in the order of their indexes.
    """

    links: tuple[Link, ...] = ()
    items: frozenset[Item] = frozenset()

    def link(self, name: str) -> Link | None:
        """Return the link of that name."""
        return next((link for link in self.links if link.name == name), None)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All addresses, by link, then as numbers."""
        order = {link.name: number for number, link in enumerate(self.links)}
        found = [item for item in self.items if isinstance(item, Address)]
        return tuple(
            sorted(
                found, key=lambda one: (order.get(one.dev, len(order)), one.ip.version, int(one.ip))
            )
        )

    @property
    def routes(self) -> frozenset[Route]:
        """All routes."""
        return frozenset(item for item in self.items if isinstance(item, Route))

    @property
    def rules(self) -> frozenset[Rule]:
        """All rules."""
        return frozenset(item for item in self.items if isinstance(item, Rule))

    @property
    def neighbours(self) -> frozenset[Neighbour]:
        """All neighbours."""
        return frozenset(item for item in self.items if isinstance(item, Neighbour))

    def addresses_of(self, name: str) -> tuple[Address, ...]:
        """Return the usable addresses of a link, in the kernel's order of families."""
        return tuple(
            address for address in self.addresses if address.dev == name and address.usable
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must be there, and what must not; `present` in the order in which it can be made."""

    present: tuple[Item, ...] = ()
    absent: frozenset[Item] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """
    All that one call does. `veth` None: the pair is there, or not needed.

    `mangle_rules` are the families whose mangle rules are needed; `announce` are addresses to be
    told to the neighbourhood. `notes` are for the log, `left_out` for the pod's user.
    """

    veth: VethPair | None = None
    pod: Wanted = Wanted()
    node: Wanted = Wanted()
    mangle_rules: tuple[int, ...] = ()
    announce: tuple[IPAddress, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """
    Everything that a decision looks at.

    `host_end` is the node's link at the other end of the pod's veth0, else of its default NIC; None
    where there is none. `sources` are the node's own addresses from which it would reach each of
    the pod's.
    """

    ifname: str
    container_id: str
    pod: Picture
    node: Picture
    host_end: Link | None = None
    sources: Mapping[IPAddress, IPAddress] = field(default_factory=dict)


def host_network(ip: IPAddress) -> IPNetwork:
    """Return the network of one address."""
    return ip_network(ip)


def link_settings(links: Iterable[Link]) -> frozenset[Setting]:
    """Return what is set on links as items."""
    found: set[Setting] = set()
    for link in links:
        found.add(Setting(Kind.UP, link.name, str(link.up)))
        found.add(Setting(Kind.MAC, link.name, link.mac))
        found.add(Setting(Kind.TX_QUEUE_LEN, link.name, str(link.tx_queue_len)))
    return frozenset(found)
