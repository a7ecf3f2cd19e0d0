"""Which addresses a host of a subnet can have."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.hosts import class_problem, edges, no_hosts, place_problem
from spiderpool.addressing.sets import AddressSet, IPNetwork

NETWORKS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).flatmap(
    lambda ip: st.integers(1, ip.max_prefixlen).map(
        lambda length: ip_network((ip, length), strict=False)
    )
)


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("0.0.0.0/8", "0.0.0.0/8 means this network"),
        ("0.0.0.0/32", "0.0.0.0/8 means this network"),
        ("127.1.0.0/16", "127.0.0.0/8 is loopback"),
        ("224.0.0.0/24", "224.0.0.0/4 is multicast"),
        ("239.255.255.255/32", "224.0.0.0/4 is multicast"),
        ("240.0.0.0/8", "240.0.0.0/4 is reserved"),
        ("255.255.255.255/32", "255.255.255.255/32 is the limited broadcast"),
        ("::/128", "::/128 means no address"),
        ("::1/128", "::1/128 is loopback"),
        ("::ffff:10.6.0.0/112", "::ffff:0:0/96 stands for IPv4 addresses"),
        ("fe80::/64", "fe80::/10 is link-local"),
        ("ff02::/16", "ff00::/8 is multicast"),
        ("0.0.0.0/0", "0.0.0.0/8 means this network"),
        ("::/0", "::/128 means no address"),
    ],
)
def test_classes(subject: str, words: str) -> None:
    """Classes that are for something else are named, also when a subnet only reaches into one."""
    assert words == class_problem(ip_network(subject))


@pytest.mark.parametrize(
    "subject",
    [
        "10.6.0.0/16",
        "172.16.0.0/12",
        "192.0.2.0/24",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "1.1.1.1/32",
        "fd00::/8",
        "2001:db8::/32",
    ],
)
def test_ordinary(subject: str) -> None:
    """Everything else may be a host's, private or not."""
    assert class_problem(ip_network(subject)) is None


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        ("10.66.9.0/24", ["10.66.9.0", "10.66.9.255"]),
        ("10.66.8.0/22", ["10.66.8.0", "10.66.11.255"]),
        ("10.66.9.4/30", ["10.66.9.4", "10.66.9.7"]),
        ("10.66.9.4/31", []),
        ("10.66.9.4/32", []),
        ("fd00:9::/64", ["fd00:9::"]),
        ("fd00:9::/126", ["fd00:9::"]),
        ("fd00:9::/127", []),
        ("fd00:9::1/128", []),
    ],
)
def test_edges(subnet: str, expected: list[str]) -> None:
    """A subnet keeps its ends, but for those so small that every address is a host's."""
    assert expected == [str(ip) for ip in edges(ip_network(subnet))]


@pytest.mark.parametrize(
    ("ip", "subnet", "words"),
    [
        ("10.66.9.0", "10.66.9.0/24", "is the network address of 10.66.9.0/24"),
        ("10.66.9.255", "10.66.9.0/24", "is the broadcast address of 10.66.9.0/24"),
        ("10.66.9.0", "10.66.8.0/23", None),
        ("10.66.9.255", "10.66.9.254/31", None),
        ("10.66.9.1", "10.66.10.0/24", "is not an address of 10.66.10.0/24"),
        ("fd00:9::1", "10.66.10.0/24", "is not an address of 10.66.10.0/24"),
        ("127.0.0.1", "127.0.0.0/8", "is no address of a host: 127.0.0.0/8 is loopback"),
        ("fd00:9::", "fd00:9::/64", "is the subnet-router anycast address of fd00:9::/64"),
        ("fd00:9::ffff:ffff:ffff:ffff", "fd00:9::/64", None),
    ],
)
def test_places(ip: str, subnet: str, words: str | None) -> None:
    """An address is judged in its subnet."""
    assert words == place_problem(ip_address(ip), ip_network(subnet))


@given(NETWORKS, st.integers(0))
def test_one_judgement(subnet: IPNetwork, number: int) -> None:
    """The set and the sentence say the same of every address of a subnet."""
    inside = AddressSet.network(subnet)
    ip = inside.at(number % inside.size)

    assert isinstance(ip, IPv4Address | IPv6Address)
    assert (place_problem(ip, subnet) is not None) is (ip in no_hosts(subnet))


@given(NETWORKS)
def test_every_subnet_of_two_or_more_has_hosts(subnet: IPNetwork) -> None:
    """A subnet outside of all classes keeps at least one address, and loses two at the most."""
    lost = edges(subnet)

    assert lost.size <= (1 if isinstance(subnet, IPv6Network) else 2)
    assert (AddressSet.network(subnet) - lost).size >= 1
