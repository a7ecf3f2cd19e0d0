"""What the system's own tools print becomes values."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest

from spiderpool.connectivity.survey import (
    Ends,
    Tracked,
    read_conntrack,
    read_surveys,
)
from spiderpool.errors import Undecodable
from spiderpool.model.netns_contents import (
    LOCAL_TABLE,
    MAIN_TABLE,
    Address,
    Link,
    Neighbour,
    Route,
    Rule,
)


def ends(source: str, source_port: int, destination: str, destination_port: int) -> Ends:
    """Make one direction of a connection."""
    return Ends(ip_address(source), source_port, ip_address(destination), destination_port)


SURVEY = {
    "node": "node3",
    "pod": "pod3",
    "links": [
        {},
        {
            "ifindex": 4,
            "link_index": 13,
            "ifname": "veth0",
            "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
            "mtu": 1480,
            "txqlen": 500,
            "address": "ee:ee:ee:ee:ee:ee",
            "link_netnsid": 0,
            "linkinfo": {"info_kind": "veth"},
            "addr_info": [{"family": "inet6", "local": "fe80::1", "prefixlen": 64}, {}],
        },
    ],
    "rules4": [
        {"priority": 0, "src": "all", "table": "local"},
        {
            "priority": 998,
            "src": "10.2.0.0",
            "srclen": 16,
            "dst": "10.3.0.1",
            "iif": "a",
            "table": "254",
        },
        {"priority": 1000, "src": "all", "fwmark": "0x1", "fwmask": "0xff", "table": "100"},
    ],
    "rules6": [{"priority": 32766, "src": "all", "table": "main"}],
    "routes4": [
        {"dst": "default", "gateway": "10.7.0.1", "dev": "eth0", "flags": ["onlink"]},
        {
            "dst": "10.7.0.0/16",
            "dev": "eth0",
            "protocol": "kernel",
            "scope": "link",
            "prefsrc": "10.7.200.2",
            "flags": [],
        },
        {"type": "blackhole", "dst": "10.233.100.0/26", "flags": []},
        {
            "type": "local",
            "dst": "10.7.200.2",
            "dev": "eth0",
            "table": "local",
            "prefsrc": "10.7.200.2",
        },
    ],
    "routes6": [
        {
            "dst": "default",
            "metric": 1024,
            "table": "100",
            "nexthops": [{"gateway": "fd00::1", "dev": "net1"}, {"dev": "eth0"}],
        }
    ],
    "neighbours": [
        {
            "dst": "10.7.168.73",
            "dev": "veth0",
            "lladdr": "ee:ee:ee:ee:ee:ee",
            "state": ["PERMANENT"],
        },
        {"dst": "10.7.0.9", "dev": "eth0", "state": ["INCOMPLETE"]},
        {"dst": "10.7.0.8", "dev": "eth0", "state": ["FAILED"]},
        {"dst": "10.7.0.1", "dev": "eth0", "lladdr": "02:00:00:00:00:01", "state": ["STALE"]},
    ],
    "rp_filter": {"all": 0, "eth0": 2},
}


def test_survey() -> None:
    """Links, rules, routes and neighbours of `ip -j`, with the tables' numbers as names."""
    (found,) = read_surveys(json.dumps([SURVEY]))

    assert ("node3", "pod3", "pod pod3") == (found.node, found.pod, found.name)
    mac = "ee:ee:ee:ee:ee:ee"
    assert (
        Link(4, "veth0", mac, 1480, up=True, shared=True, tx_queue_len=500, peer=13, kind="veth"),
    ) == found.links
    assert (Address("veth0", ip_address("fe80::1"), 64),) == found.addresses
    assert (
        Rule(4, LOCAL_TABLE, 0),
        Rule(
            4,
            MAIN_TABLE,
            998,
            src=ip_network("10.2.0.0/16"),
            dst=ip_network("10.3.0.1/32"),
            iif="a",
        ),
        Rule(4, 100, 1000, mark=1, mask=0xFF),
        Rule(6, MAIN_TABLE, 32766),
    ) == found.rules
    source = ip_address("10.7.200.2")
    assert (
        Route(ip_network("0.0.0.0/0"), "eth0", gateway=ip_address("10.7.0.1"), onlink=True),
        Route(ip_network("10.7.0.0/16"), "eth0", src=source, scope=253),
        Route(ip_network("10.233.100.0/26"), type="blackhole"),
        Route(ip_network("10.7.200.2/32"), "eth0", LOCAL_TABLE, src=source, type="local"),
        Route(ip_network("::/0"), "net1", 100, gateway=ip_address("fd00::1"), metric=1024),
    ) == found.routes
    assert Neighbour(ip_address("10.7.168.73"), "veth0", mac, permanent=True) == found.neighbours[0]
    assert [False, True, True, False] == [each.missing for each in found.neighbours]
    assert [True, False, False, False] == [each.permanent for each in found.neighbours]
    assert 2 == found.reverse_filter("eth0")
    assert 0 == found.reverse_filter("veth0")


def test_links_of_one_namespace() -> None:
    """A parent or other end in the same namespace is named by the tool, and becomes its number."""
    links = [
        {
            "ifindex": 2,
            "ifname": "ens192",
            "flags": ["BROADCAST", "MULTICAST"],
            "mtu": 1500,
            "txqlen": 1000,
        },
        {
            "ifindex": 5,
            "link": "ens192",
            "ifname": "ens192.100",
            "linkinfo": {
                "info_kind": "vlan",
                "info_data": {"protocol": "802.1Q", "id": 100, "flags": ["REORDER_HDR"]},
            },
        },
        {
            "ifindex": 6,
            "link": None,
            "ifname": "tun0",
            "linkinfo": {"info_kind": "ipip", "info_data": {"proto": "ipip"}},
        },
    ]
    (found,) = read_surveys(json.dumps([{"node": "node1", "links": links}]))

    assert Link(2, "ens192", up=False, shared=False) == found.links[0]
    assert [(None, None), (2, 100), (None, None)] == [
        (link.peer, link.vlan_id) for link in found.links
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {"priority": 1, "src": "all", "ipproto": "tcp", "action": "unreachable"},
        {"priority": 1, "not": None, "src": "10.1.0.0", "srclen": 16, "table": "100"},
        {"priority": 1, "src": "all", "oif": "eth0", "table": "100"},
        {"priority": 1, "src": "all", "goto": 32766},
    ],
)
def test_rules_that_are_more(rule: dict[str, object]) -> None:
    """A rule that looks at other things than the model has, or does something else, says so."""
    (found,) = read_surveys(json.dumps([{"node": "node1", "rules4": [rule]}]))

    assert [True] == [each.more for each in found.rules]


@pytest.mark.parametrize(
    "text", ["", "{}", '[{"node": 3}]', '[{"node": "a", "neighbours": [{"dst": "nonsense"}]}]']
)
def test_survey_that_is_none(text: str) -> None:
    """What is no survey is an error with a sentence."""
    with pytest.raises(Undecodable, match="survey of a node"):
        read_surveys(text)


PROC = (
    "ipv4     2 tcp      6 117 SYN_SENT src=10.7.200.2 dst=10.233.100.1 sport=40000 dport=80 [UNREPLIED] "
    "src=10.233.100.1 dst=10.7.200.2 sport=80 dport=40000 mark=0 zone=0 use=2\n"
    "ipv6     10 tcp      6 431999 ESTABLISHED src=fd00::1 dst=fd00::2 sport=1 dport=2 src=fd00::2 dst=fd00::3 sport=2 dport=9 "
    "[ASSURED] mark=1 zone=0 use=2\n"
    "ipv4     2 icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=1 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=1\n"
    "ipv4     2 udp      17 29 src=10.0.0.1 dst=10.0.0.2 sport=5 dport=53 src=10.0.0.2 dst=10.0.0.1 sport=53 dport=5 mark=0\n"
)
TOOL = (
    "tcp      6 117 SYN_SENT src=10.7.200.2 dst=10.233.100.1 sport=40000 dport=80 [UNREPLIED] "
    "src=10.233.100.1 dst=10.7.200.2 sport=80 dport=40000 mark=0 use=1\n"
)
HALF = Tracked(
    "tcp",
    "SYN_SENT",
    ends("10.7.200.2", 40000, "10.233.100.1", 80),
    ends("10.233.100.1", 80, "10.7.200.2", 40000),
    replied=False,
    assured=False,
)


def test_conntrack() -> None:
    """
    Connections with state, both directions, what was seen of them, and mark.

    What has no ports is left out.
    """
    six = ends("fd00::1", 1, "fd00::2", 2)
    whole = Tracked(
        "tcp",
        "ESTABLISHED",
        six,
        ends("fd00::2", 2, "fd00::3", 9),
        replied=True,
        assured=True,
        mark=1,
    )
    name = Tracked(
        "udp",
        "",
        ends("10.0.0.1", 5, "10.0.0.2", 53),
        ends("10.0.0.2", 53, "10.0.0.1", 5),
        replied=True,
        assured=False,
    )

    assert [HALF, whole, name] == list(read_conntrack(PROC))


def test_conntrack_tool() -> None:
    """`conntrack -L` prints the same words."""
    assert [HALF] == list(read_conntrack(TOOL))
