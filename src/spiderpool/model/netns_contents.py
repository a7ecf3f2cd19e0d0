"""
What a network namespace has, as values: links, addresses, routes, rules, neighbours.

One model for all who look at a namespace or plan one: the coordinator, which reads netlink
messages, and the diagnosis of connections, which reads what ip(8) prints. Devices are named, not
numbered: a plan is made before its veth pair exists. Source of fields: rtnetlink(7); Linux,
include/uapi/linux: `if_link.h`, `rtnetlink.h`, `fib_rules.h`, `neighbour.h`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from spiderpool.addressing.sets import IPAddress, IPNetwork

IPV4, IPV6 = 4, 6
DEFAULT_TABLE, MAIN_TABLE, LOCAL_TABLE = 253, 254, 255
NO_TABLE: Final = 0  # RT_TABLE_UNSPEC: of a rule that does not look up a table
LINK_SCOPE: Final = 253  # RT_SCOPE_LINK; IPv6 routes have no scope
IPV6_METRIC: Final = 1024  # IP6_RT_PRIO_USER, what the kernel gives a route without a metric
ALL_MARKS: Final = 0xFFFFFFFF
UNICAST: Final = "unicast"

ANYWHERE: Final[dict[int, IPNetwork]] = {IPV4: ip_network("0.0.0.0/0"), IPV6: ip_network("::/0")}
"""Where a default route leads, by family."""


@dataclass(frozen=True, slots=True)
class Link:
    """
    One interface.

    `shared` = up, with broadcast and multicast: an Ethernet-like NIC, neither loopback nor tunnel.
    `kind` is the driver's name of virtual ones (veth, macvlan, …), empty for hardware.
    `peer` is the index of a veth's other end (of a macvlan or VLAN: its parent), in whichever
    namespace that is. `vlan_id` is a VLAN interface's.
    """

    index: int
    name: str
    mac: str = ""
    mtu: int = 1500
    up: bool = True
    shared: bool = True
    tx_queue_len: int = 1000
    peer: int | None = None
    kind: str = ""
    vlan_id: int | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """An address on a link, with its prefix length in `network`."""

    dev: str
    ip: IPAddress
    prefix_length: int

    @property
    def network(self) -> IPNetwork:
        """The network that the address is in."""
        return ip_network(f"{self.ip}/{self.prefix_length}", strict=False)

    @property
    def usable(self) -> bool:
        """
        Return whether it is neither link-local nor multicast.

        Source: docs/reference/coordinator.md#what-one-add-makes.
        """
        return not (self.ip.is_link_local or self.ip.is_multicast)


@dataclass(frozen=True, slots=True)
class Route:
    """
    A route. `metric` 0 is the kernel's own choice for IPv4.

    `type` is ip-route(8)'s word: unicast, local, blackhole, …; only unicast ones are planned.
    `dev` is empty for a route that leads nowhere.
    """

    dst: IPNetwork
    dev: str = ""
    table: int = MAIN_TABLE
    gateway: IPAddress | None = None
    src: IPAddress | None = None
    scope: int = 0
    metric: int = 0
    onlink: bool = False
    type: str = UNICAST

    @property
    def is_default(self) -> bool:
        """Return whether it leads everywhere."""
        return self.dst.prefixlen == 0

    @property
    def place(self) -> tuple[int, IPNetwork, int]:
        """
        What the kernel lets exist once, but for next hops that share the load.

        Table, destination and metric.
        """
        return (self.table, self.dst, self.metric)


@dataclass(frozen=True, slots=True)
class Rule:
    """
    A rule `[from SRC] [to DST] [fwmark MARK/MASK] [iif IIF] lookup TABLE`.

    A wanted rule without a priority takes any.

    `more` = it looks at other things too, or does other than look up a table, so it is none of
    ours.
    """

    family: int
    table: int
    priority: int | None = None
    src: IPNetwork | None = None
    mark: int | None = None
    dst: IPNetwork | None = None
    mask: int = ALL_MARKS
    iif: str = ""  # the interface that a packet came in by
    more: bool = False

    @property
    def selector(self) -> tuple[object, ...]:
        """All but the priority."""
        networks, mark = (self.src, self.dst), (self.mark, self.mask)
        return (self.family, self.table, networks, mark, self.iif, self.more)

    @property
    def is_unconditional(self) -> bool:
        """Whether every packet of the family looks up the table."""
        return not (self.src or self.dst or self.iif or self.more) and self.mark is None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """
    What is known of the link-layer address behind an address.

    Wanted ones are permanent. Found ones may have learned `mac`; `missing` = nobody answered, so
    there is none.
    """

    ip: IPAddress
    dev: str
    mac: str = ""
    permanent: bool = True
    missing: bool = False
