"""Names and addresses: no two things share one, and a bad name is refused with a reason."""

from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderlab.errors import LabError
from spiderlab.topology import MAX_NODES, POD_NETWORK, POD_NETWORK6, SEGMENTS, parse_topology

TAKEN = {"switch", "router", "client"}
NAME = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(
    lambda name: name not in TAKEN
)
NAMES = st.lists(NAME, min_size=1, max_size=MAX_NODES, unique=True)


def test_node_addresses_are_those_of_the_documents() -> None:
    """The first node has the addresses that the product's documents show."""
    node = parse_topology(["node1"]).nodes[0]

    assert ["172.18.0.11/16", "10.6.168.71/16", "10.7.168.71/16"] == [
        str(segment.address(0)) for segment in SEGMENTS
    ]
    assert ("172.18.0.11", "fd00:18::11") == (str(node.ip), str(node.ip6))
    assert (IPv4Network("10.233.100.0/24"), IPv6Network("fd00:64:0:24::/64")) == (
        node.pods,
        node.pods6,
    )


@given(NAMES)
def test_no_two_nodes_share_anything(names: list[str]) -> None:
    """Addresses, MAC addresses, switch ports and pod blocks are each node's own, and lie in their networks."""
    nodes = parse_topology(names).nodes
    ports = {node.port(segment) for node in nodes for segment in SEGMENTS}
    macs = {segment.mac(node.index) for node in nodes for segment in SEGMENTS}
    addresses = {str(segment.address(node.index).ip) for node in nodes for segment in SEGMENTS}
    addresses |= {str(segment.address6(node.index).ip) for node in nodes for segment in SEGMENTS}

    assert 3 * len(nodes) == len(ports) == len(macs)
    assert 6 * len(nodes) == len(addresses)
    assert len(nodes) == len({node.pods for node in nodes}) == len({node.pods6 for node in nodes})
    assert all(
        node.pods.subnet_of(POD_NETWORK) and node.pods6.subnet_of(POD_NETWORK6) for node in nodes
    )
    assert all(
        segment.address(node.index).ip in segment.network for node in nodes for segment in SEGMENTS
    )
    assert all(len(port) <= 15 for port in ports)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "no node named"),
        (["a", "b", "a"], "repeat"),
        (["Node1"], "lower-case"),
        (["-a"], "lower-case"),
        (["a" * 41], "at most 40"),
        (["../etc"], "lower-case"),
        (["router"], "lab's own"),
        ([f"n{number}" for number in range(MAX_NODES + 1)], "at most 20"),
    ],
)
def test_bad_names_are_refused(names: list[str], reason: str) -> None:
    """A list that Kubernetes or the kernel would choke on is refused before anything is made."""
    with pytest.raises(LabError, match=reason):
        parse_topology(names)


def test_an_unknown_node_is_named_with_those_there_are() -> None:
    """Asking for a node that is not there tells which are."""
    with pytest.raises(LabError, match="no node c; the lab has a, b"):
        parse_topology(["a", "b"]).node("c")


def test_networks_are_joined_as_kubernetes_flags_want_them() -> None:
    """Both families with a comma, or IPv4 alone."""
    assert "10.233.64.0/18,fd00:64::/56" == parse_topology(["a"]).pod_networks
    assert "10.233.0.0/18" == parse_topology(["a"], ipv6=False).service_networks
