"""The lab's two underlay networks, and ranges of addresses in them that nobody else uses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

IPAddress = IPv4Address | IPv6Address

BLOCK: Final = 32  # addresses of one hand-out; more than any story needs
# 10.6.200.0, 10.7.200.0: above the nodes (168.71) and the lab's own pools
FIRST4: Final = 200 * 256
FIRST6: Final = 0xC800_0000  # fd00:6::c800:0, fd00:7::c800:0

_blocks: Iterator[int] = itertools.count()


@dataclass(frozen=True, slots=True)
class Underlay:
    """A network that the nodes' NIC `master` is on."""

    master: str
    network4: IPv4Network
    network6: IPv6Network

    def network(self, family: int) -> IPv4Network | IPv6Network:
        """Return the prefix of a family."""
        return self.network4 if family == 4 else self.network6

    def gateway(self, family: int) -> IPAddress:
        """Return the router's address: the first one."""
        return self.network(family)[1]

    def take(self, family: int, count: int) -> list[IPAddress]:
        """Return neighbouring addresses that were never given before in this run."""
        assert count <= BLOCK
        start = (FIRST4 if family == 4 else FIRST6) + next(_blocks) * BLOCK
        return [self.network(family)[start + offset] for offset in range(count)]


ENS192: Final = Underlay("ens192", IPv4Network("10.6.0.0/16"), IPv6Network("fd00:6::/64"))
ENS224: Final = Underlay("ens224", IPv4Network("10.7.0.0/16"), IPv6Network("fd00:7::/64"))
UNDERLAYS: Final = (ENS192, ENS224)


def is_underlay(address: IPAddress) -> bool:
    """Return whether an address is of one of the networks that pools are of."""
    return any(address in underlay.network(address.version) for underlay in UNDERLAYS)
