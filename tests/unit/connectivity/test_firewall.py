"""Which rules can drop a packet: tables as kube-proxy, Calico's Felix and kube-router leave them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from spiderpool.connectivity.firewall import (
    Passage,
    State,
    droppings,
    read_firewall,
)

KUBE_PROXY = """
[7:420] -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
[9:540] -A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP
[1:60] -A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
"""
FELIX = """
[0:0] -A FORWARD -m comment --comment "cali:lab" -j cali-FORWARD
[0:0] -A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
[0:0] -A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
[0:0] -A cali-from-wl-dispatch -i cali1 -g cali-fw-cali1
[4:0] -A cali-from-wl-dispatch -m comment --comment "cali:lab unknown" -j DROP
[0:0] -A cali-to-wl-dispatch -o cali2 -g cali-tw-cali2
[0:0] -A cali-to-wl-dispatch -m comment --comment "cali:lab unknown" -j DROP
[0:0] -A cali-fw-cali1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
[3:0] -A cali-fw-cali1 -m conntrack --ctstate INVALID -j DROP
[0:0] -A cali-fw-cali1 -m mark --mark 0x10000/0x10000 -j RETURN
[5:0] -A cali-fw-cali1 -j DROP
[6:0] -A cali-tw-cali2 -m conntrack --ctstate INVALID -j DROP
"""
KUBE_ROUTER = """
[5:9] -A FORWARD -m comment --comment "kube-router netpol - TEMCG2JMHZYE7H7T" -j KUBE-ROUTER-FORWARD
[0:0] -A FORWARD -o eth0 -m comment --comment "allow outbound node port traffic" -j ACCEPT
[0:0] -A KUBE-ROUTER-FORWARD -s 10.6.168.135/32 -j KUBE-POD-FW-PXAHMM63GBRBNDPC
[0:0] -A KUBE-ROUTER-FORWARD -d 10.233.100.11/32 -j KUBE-POD-FW-26MTLVIPTE7ERJ6Z
[8:0] -A KUBE-POD-FW-PXAHMM63GBRBNDPC -m conntrack --ctstate INVALID -j DROP
[2:0] -A KUBE-POD-FW-PXAHMM63GBRBNDPC -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable
[0:0] -A KUBE-POD-FW-26MTLVIPTE7ERJ6Z -m conntrack --ctstate INVALID -j DROP
"""
UNDERLAY = Passage(
    ip_address("10.6.168.135"), ip_address("10.233.101.7"), "veth8b90", "eth0", State.INVALID
)


def drops(text: str, passage: Passage) -> list[tuple[str, bool]]:
    """Return chain and certainty of the rules that drop a packet."""
    return [(each.rule.chain, each.sure) for each in droppings(read_firewall(text), passage)]


def test_rules_with_their_counters() -> None:
    """A rule keeps its text as people see it, and how many packets it had; chains and comments are no rules."""
    firewall = read_firewall(f"*filter\n:FORWARD ACCEPT [0:0]\n# {KUBE_PROXY}COMMIT\n")

    assert ["FORWARD", "KUBE-FORWARD"] == list(firewall)
    first = firewall["KUBE-FORWARD"][0]
    assert (9, "DROP") == (first.packets, first.target)
    assert first.text.startswith("-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("-A FORWARD -m conntrack --ctstate INVALID -j DROP", True),
        ("-A FORWARD -m state --state INVALID -j DROP", True),
        ("-A FORWARD -m conntrack --ctstate INVALID,NEW -j DROP", True),
        ("-A FORWARD -m conntrack ! --ctstate INVALID -j DROP", False),
        ("-A FORWARD -m conntrack --ctstate INVALID -j LOG", False),
        ("-A FORWARD -m conntrack --ctstate ESTABLISHED -j DROP", False),
    ],
)
def test_drops_invalid(rule: str, expected: bool) -> None:
    """Only a rule that both matches INVALID and drops is one against such packets."""
    assert expected == read_firewall(f"[0:0] {rule}")["FORWARD"][0].drops_invalid


def test_kube_proxy() -> None:
    """Kube-proxy drops what is INVALID, and is known by its chain."""
    found = droppings(read_firewall(KUBE_PROXY), UNDERLAY)

    assert [("KUBE-FORWARD", True, True)] == [
        (each.rule.chain, each.sure, each.of_kube_proxy) for each in found
    ]
    assert [] == drops(KUBE_PROXY, replace(UNDERLAY, state=State.NEW))


def test_felix_concerns_its_own_workloads_alone() -> None:
    """A packet by the coordinator's pair meets none of Calico's rules, although each workload has one against INVALID."""
    assert [("KUBE-FORWARD", True)] == drops(FELIX + KUBE_PROXY, UNDERLAY)


@pytest.mark.parametrize(
    ("entered", "left", "state", "expected"),
    [
        ("cali1", "eth0", State.INVALID, [("cali-fw-cali1", True)]),
        ("eth0", "cali2", State.INVALID, [("cali-tw-cali2", True)]),
        ("cali1", "eth0", State.NEW, [("cali-fw-cali1", True)]),
        ("eth0", "cali2", State.NEW, []),
        ("cali9", "eth0", State.NEW, [("cali-from-wl-dispatch", True)]),
    ],
)
def test_felix_by_interface(
    entered: str, left: str, state: State, expected: list[tuple[str, bool]]
) -> None:
    """Dispatch goes by interface, and one that has its chain never meets the rule for unknown ones."""
    found = drops(FELIX, replace(UNDERLAY, entered=entered, left=left, state=state))

    assert expected == [found[0]] if expected else found == []


def test_what_is_not_understood_ends_nothing() -> None:
    """A mark may match or not: the rules behind it stay possible, and so does what it guards."""
    passage = replace(UNDERLAY, entered="cali1", state=State.NEW)
    guarded = read_firewall(FELIX + "[0:0] -A cali-fw-cali1 -m mark --mark 0x1/0x1 -j DROP")

    assert [("-j DROP", True)] == [
        (each.rule.text.removeprefix("-A cali-fw-cali1 "), each.sure)
        for each in droppings(guarded, passage)
    ]
    reject = drops(KUBE_ROUTER, replace(UNDERLAY, state=State.NEW))
    assert [("KUBE-POD-FW-PXAHMM63GBRBNDPC", False)] == reject


def test_kube_router_by_address() -> None:
    """
    Its chains go by pod address: that of the sender, not the first one with such a rule.

    What it accepts in front of kube-proxy's chain never gets there.
    """
    assert [("KUBE-POD-FW-PXAHMM63GBRBNDPC", True)] == [
        each for each in drops(KUBE_ROUTER + KUBE_PROXY, UNDERLAY) if each[1]
    ]


def test_a_destination_that_is_not_known_may_be_any() -> None:
    """Behind a Service's address there may be any pod."""
    unknown = replace(UNDERLAY, source=ip_address("10.233.100.99"), destination=None)

    assert [("KUBE-POD-FW-26MTLVIPTE7ERJ6Z", False)] == drops(KUBE_ROUTER, unknown)


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ("-s 10.6.0.0/16", True),
        ("! -s 10.6.0.0/16", False),
        ("-d fd00::/64", False),
        ("-i veth+", True),
        ("! -i veth+", False),
        ("-o ens192", False),
        ("-p tcp", True),
        ("-p udp", False),
        ('-m comment --comment "a -s 10.9.0.0/16 in words"', True),
        ("-m comment --comment it's", True),
    ],
)
def test_matches(match: str, matches: bool) -> None:
    """Addresses, interfaces and protocol are compared, turned round by `!`."""
    assert ([("FORWARD", True)] if matches else []) == drops(
        f"[0:0] -A FORWARD {match} -j DROP", UNDERLAY
    )


def test_returns_and_gotos() -> None:
    """RETURN ends a chain, ACCEPT the table; after a goto the rest of the chain is not met."""
    text = """
[0:0] -A FORWARD -j one
[0:0] -A FORWARD -g two
[0:0] -A FORWARD -j DROP
[0:0] -A one -j RETURN
[0:0] -A one -j DROP
[0:0] -A two -j ACCEPT
[0:0] -A two -j REJECT
"""
    assert [] == drops(text, UNDERLAY)
    assert [("FORWARD", True)] == drops(
        text.replace("-A FORWARD -g two", "-A FORWARD -j LOG"), UNDERLAY
    )


def test_chains_that_lead_into_each_other_end() -> None:
    """A text that no kernel would take is no endless walk."""
    text = "[0:0] -A FORWARD -j FORWARD\n[0:0] -A FORWARD -j DROP"

    assert [("FORWARD", True)] == drops(text, UNDERLAY)
