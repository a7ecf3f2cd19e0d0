"""
Which addresses of a subnet a host can have.

Not those of classes that are for something else, and not those that stand for the subnet itself.

Sources: RFC 6890 and the registries of special-purpose addresses (classes); RFC 1122, 3.2.1.3, and
RFC 919 (network and broadcast address); RFC 3021 (a /31 has neither); RFC 4291, 2.6.1
(subnet-router anycast); RFC 6164 (a /127 has none).
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from spiderpool.addressing.sets import AddressSet, IPAddress, IPNetwork, Span

CLASSES: Final[tuple[tuple[IPNetwork, str], ...]] = tuple(
    (ip_network(cidr), words)
    for cidr, words in (
        ("0.0.0.0/8", "means this network"),
        ("127.0.0.0/8", "is loopback"),
        ("224.0.0.0/4", "is multicast"),
        ("255.255.255.255/32", "is the limited broadcast"),
        ("240.0.0.0/4", "is reserved"),
        ("::/128", "means no address"),
        ("::1/128", "is loopback"),
        ("::ffff:0:0/96", "stands for IPv4 addresses"),
        ("fe80::/10", "is link-local"),
        ("ff00::/8", "is multicast"),
    )
)
NO_HOSTS: Final = {
    family: AddressSet.from_spans(
        family,
        [
            span
            for network, _ in CLASSES
            if network.version == family
            for span in AddressSet.network(network).spans
        ],
    )
    for family in (4, 6)
}
# By version: the first and the last address of each class as numbers, and the end of a sentence.
_SPANS: Final = {
    version: tuple(
        (int(network.network_address), int(network.broadcast_address), f"{network} {words}")
        for network, words in CLASSES
        if network.version == version
    )
    for version in (4, 6)
}
_LONGEST_WITH_EDGES: Final = {4: 30, 6: 126}


def class_problem(subject: IPAddress | IPNetwork) -> str | None:
    """
    Return why no host can have an address, or any address of a subnet; None when a host can.

    Returns:
        The end of a sentence, such as "127.0.0.0/8 is loopback".
    """
    first, last = _ends(subject)
    for low, high, known in _SPANS[subject.version]:
        if first <= high and low <= last:
            return known
    return None


def _ends(subject: IPAddress | IPNetwork) -> Span:
    """Return the first and the last address, as numbers: lists of users have thousands."""
    if isinstance(subject, IPv4Network | IPv6Network):
        return int(subject.network_address), int(subject.broadcast_address)
    return int(subject), int(subject)


def next_hop_problem(ip: IPAddress) -> str | None:
    """
    Say why an address can be no gateway, wherever it is; None when nothing speaks against it.

    A router's link-local address may be one (RFC 4861, 8): class `fe80::/10` is no reason.
    """
    return None if ip.version == 6 and ip.is_link_local else class_problem(ip)  # noqa: PLR2004


def place_problem(ip: IPAddress, subnet: IPNetwork) -> str | None:
    """
    Say why no host of a subnet can have one of its addresses; None when nothing speaks against it.

    Returns:
        The end of a sentence, such as "is the broadcast address of 10.6.0.0/24".
    """
    if ip not in subnet:
        return f"is not an address of {subnet}"
    words = class_problem(ip)
    if words is not None:
        return f"is no address of a host: {words}"
    if ip not in edges(subnet):
        return None
    first = "network" if subnet.version == 4 else "subnet-router anycast"  # noqa: PLR2004
    return f"is the {first if ip == subnet.network_address else 'broadcast'} address of {subnet}"


def gateway_problem(ip: IPAddress, subnet: IPNetwork) -> str | None:
    """
    Say why an address cannot be a gateway of a subnet; None when nothing speaks against it.

    A router has the subnet-router anycast address of IPv6 beside its own, so that one can be a
    gateway.
    """
    if ip.version == 6 and ip == subnet.network_address:  # noqa: PLR2004
        return class_problem(ip)
    return place_problem(ip, subnet)


def edges(subnet: IPNetwork) -> AddressSet:
    """Return the addresses of a subnet that belong to the subnet itself."""
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if subnet.prefixlen > _LONGEST_WITH_EDGES[subnet.version]:
        return AddressSet.empty(subnet.version)
    ends = [(first, first)]
    if isinstance(subnet, IPv4Network):
        ends.append((last, last))
    return AddressSet.from_spans(subnet.version, ends)


def no_hosts(subnet: IPNetwork) -> AddressSet:
    """Return the addresses that no host of a subnet can have, and all those of other classes."""
    return edges(subnet) | NO_HOSTS[subnet.version]
