"""
The ways of packets through the three pods and nodes of the reference.

Source: docs/reference/packet-paths.md#flows.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from spiderpool.connectivity.packet_path import End, find_route, walk
from spiderpool.connectivity.survey import NamespaceSurvey
from spiderpool.model.netns_contents import Neighbour, Route
from tests.unit.connectivity.simulation import (
    NODE1,
    NODE2_STATION,
    NODE3,
    NODE3_STATION,
    POD1,
    POD1_STATION,
    POD2,
    POD2_NET1,
    POD2_STATION,
    POD3,
    POD3_STATION,
    SERVICE,
    SIMULATION,
    ends,
    link,
    routes,
    seen,
    station,
    tracked,
)


def way(
    start: NamespaceSurvey,
    source: str,
    destination: str,
    world: tuple[NamespaceSurvey, ...] = SIMULATION,
) -> list[str]:
    """Return the hops of a packet that arrives."""
    done = walk(world, start, ends(source, destination))
    assert End.ARRIVED is done.end, done.why
    return [str(hop) for hop in done.hops]


def way_back(
    start: NamespaceSurvey,
    source: str,
    destination: str,
    world: tuple[NamespaceSurvey, ...] = SIMULATION,
) -> list[str]:
    """Return the hops of an answer that arrives."""
    done = walk(world, start, ends(source, destination, 80, 40000))
    assert End.ARRIVED is done.end, done.why
    return [str(hop) for hop in done.hops]


def test_s1_overlay_to_the_overlay_address() -> None:
    """S1, lines 1 and 2: by both nodes, in and out of both pods' eth0."""
    assert [
        "pod pod1 [eth0]",
        "[cali1] node node1 [ens192]",
        "[ens192] node node2 [cali2]",
        "[eth0] pod pod2",
    ] == way(POD1_STATION, POD1, POD2)
    assert [
        "pod pod2 [eth0]",
        "[cali2] node node2 [ens192]",
        "[ens192] node node1 [cali1]",
        "[eth0] pod pod1",
    ] == way_back(POD2_STATION, POD2, POD1)


def test_s1_overlay_to_the_underlay_address() -> None:
    """
    S1: node1 masquerades and sends to net1 directly.

    Net1 answers node1, which hands the answer on.
    """
    connection = tracked(ends(POD1, POD2_NET1), ends(POD2_NET1, NODE1, 80, 40000))
    world = seen(SIMULATION, "node node1", connection)

    assert ["pod pod1 [eth0]", "[cali1] node node1 [ens192]", "[net1] pod pod2"] == way(
        POD1_STATION, POD1, POD2_NET1, world
    )
    assert ["pod pod2 [net1]", "[ens192] node node1 [cali1]", "[eth0] pod pod1"] == way_back(
        POD2_STATION, POD2_NET1, NODE1, world
    )


def test_s1_without_masquerade() -> None:
    """
    S1 without natOutgoing.

    Net1 sends the answer to its gateway, where it is lost (table 101 has no hijack routes).
    """
    answer = walk(SIMULATION, POD2_STATION, ends(POD2_NET1, POD1, 80, 40000))

    assert (End.UNSEEN, "net1", ip_address("10.7.0.1")) == (
        answer.end,
        answer.hops[0].left,
        answer.hops[0].next,
    )


def test_own_node_by_table_500() -> None:
    """
    S1.

    The node of a pod reaches its underlay address by the pod's veth pair, as table 500 says.
    """
    pod = station(
        "node2",
        "pod4",
        (link("eth0", 5, "10.233.101.4", kind="veth", peer=14),),
        main="default via 169.254.1.1 dev eth0",
    )
    node2 = replace(
        NODE2_STATION, links=(*NODE2_STATION.links, link("cali4", 14, kind="veth", peer=5)[0])
    )
    world = (node2, pod, POD2_STATION)

    assert ["pod pod4 [eth0]", "[cali4] node node2 [cali2]", "[eth0] pod pod2"] == way(
        pod, "10.233.101.4", POD2_NET1, world
    )


def test_s2_multi_to_service_of_overlay() -> None:
    """
    S2: node2 replaces the Service address, nothing replaces the source.

    The answer comes back the same way.
    """
    connection = tracked(ends(POD2, SERVICE), ends(POD1, POD2, 80, 40000))
    world = seen(SIMULATION, "node node2", connection)

    assert [
        "pod pod2 [eth0]",
        "[cali2] node node2 [ens192]",
        "[ens192] node node1 [cali1]",
        "[eth0] pod pod1",
    ] == way(POD2_STATION, POD2, SERVICE, world)
    assert ends(POD2, POD1) == walk(world, POD2_STATION, ends(POD2, SERVICE)).last
    answer = walk(world, POD1_STATION, ends(POD1, POD2, 80, 40000))
    assert ends(SERVICE, POD2, 80, 40000) == answer.last


def test_s3_underlay_to_overlay() -> None:
    """
    S3, lines 3, 4 and 6.

    The request passes node3, the answer goes from node1 to the pod's eth0 directly.
    """
    assert [
        "pod pod3 [veth0]",
        "[veth3] node node3 [ens192]",
        "[ens192] node node1 [cali1]",
        "[eth0] pod pod1",
    ] == way(POD3_STATION, POD3, POD1)
    assert ["pod pod1 [eth0]", "[cali1] node node1 [ens192]", "[eth0] pod pod3"] == way_back(
        POD1_STATION, POD1, POD3
    )


def test_s4_underlay_to_service_of_overlay() -> None:
    """
    S4, lines 3, 4 and 5.

    Node3 replaces both addresses, so the answer passes it and enters by veth0.
    """
    connection = tracked(ends(POD3, SERVICE), ends(POD1, NODE3, 80, 50000))
    world = seen(SIMULATION, "node node3", connection)

    request = walk(world, POD3_STATION, ends(POD3, SERVICE))
    assert ("pod pod3", "node node3", "node node1", "pod pod1") == request.stations
    assert ends(NODE3, POD1, 50000) == request.last
    assert [
        "pod pod1 [eth0]",
        "[cali1] node node1 [ens192]",
        "[ens192] node node3 [veth3]",
        "[veth0] pod pod3",
    ] == [str(hop) for hop in walk(world, POD1_STATION, request.last.reversed()).hops]


def test_s5_underlay_to_underlay() -> None:
    """S5: pods of one subnet talk without any node."""
    assert ["pod pod3 [eth0]", "[net1] pod pod2"] == way(POD3_STATION, POD3, POD2_NET1)


def test_s5_node_to_its_pod() -> None:
    """
    S5: a node reaches its own underlay pod by table 500.

    The answer takes the host route of veth0.
    """
    assert ["node node3 [veth3]", "[veth0] pod pod3"] == way(NODE3_STATION, NODE3, POD3)
    assert ["pod pod3 [veth0]", "[veth3] node node3"] == way_back(POD3_STATION, POD3, NODE3)


def test_s5_node_port_local() -> None:
    """
    S5: a connection that entered by veth0 has mark 1.

    Its answer leaves by veth0, not by the default route.
    """
    outside = "10.9.0.2"
    marked = tracked(ends(outside, POD3), ends(POD3, outside, 80, 40000), mark=1)
    world = seen(SIMULATION, "pod pod3", marked)
    pod3 = world[-1]

    assert "pod pod3 [veth0]" == str(walk(world, pod3, ends(POD3, outside, 80, 40000)).hops[0])
    assert "pod pod3 [eth0]" == str(
        walk(SIMULATION, POD3_STATION, ends(POD3, outside, 80, 40000)).hops[0]
    )


@pytest.mark.parametrize(
    ("address", "source", "mark", "expected"),
    [
        ("1.1.1.1", "10.7.168.173", 0, "10.7.0.1 net1"),
        ("1.1.1.1", "10.6.168.172", 0, "10.6.0.1 eth0"),
        ("1.1.1.1", None, 1, "10.6.168.121 veth0"),
        ("10.233.0.10", None, 0, "10.6.168.121 veth0"),
        ("1.1.1.1", "10.7.168.173", 1, "10.7.0.1 net1"),
    ],
)
def test_reverse_path_probes(address: str, source: str | None, mark: int, expected: str) -> None:
    """
    Which route layout B takes, by source and mark.

    Source: docs/reference/coordinator.md#layouts, H.
    """
    pod = station(
        "node",
        "b",
        (),
        "999: from 10.7.168.173 lookup 101\n1000: from all fwmark 0x1 lookup 100",
        main="""default via 10.6.0.1 dev eth0
            10.6.0.0/16 dev eth0 proto kernel scope link src 10.6.168.172
            10.233.0.0/18 via 10.6.168.121 dev veth0 src 10.6.168.172
            10.7.0.0/16 dev net1 proto kernel scope link src 10.7.168.173""",
        t100="default via 10.6.168.121 dev veth0 src 10.6.168.172",
        t101="default via 10.7.0.1 dev net1\n10.7.0.0/16 dev net1 scope link src 10.7.168.173",
    )

    route = find_route(pod, ip_address(address), ip_address(source) if source else None, "", mark)

    assert route is not None
    assert expected == f"{route.gateway} {route.dev}"


def test_metric_decides_between_equal_routes() -> None:
    """Of two routes to one network the smaller metric wins, of two networks the longer prefix."""
    (slow, fast, wide) = (
        Route(ip_network("fd00::/64"), "slow", metric=1024),
        Route(ip_network("fd00::/64"), "fast", metric=256),
        Route(ip_network("fd00::/48"), "wide", metric=1),
    )
    here = NamespaceSurvey(
        "node",
        rules=tuple(replace(rule, family=6) for rule in POD1_STATION.rules),
        routes=(wide, slow, fast),
    )

    assert fast == find_route(here, ip_address("fd00::1"), None, "")


def test_no_route() -> None:
    """A pod without a default route sends nothing."""
    pod = station("node1", "lonely", (link("eth0", 3, "10.1.0.1"),), main="10.1.0.0/24 dev eth0")

    done = walk((pod,), pod, ends("10.1.0.1", POD1))

    assert (End.NO_ROUTE, "no route to 10.233.100.1 in pod lonely") == (done.end, done.why)


def test_blackhole() -> None:
    """A pod that is gone leaves its node's blackhole behind."""
    done = walk(SIMULATION, POD1_STATION, ends(POD1, "10.233.100.9"))

    assert (End.NO_ROUTE, "blackhole 10.233.100.0/26 to 10.233.100.9 in node node1") == (
        done.end,
        done.why,
    )


def test_no_neighbour() -> None:
    """An address that nobody answers for ends the way at the host that asked for it."""
    node1 = replace(
        SIMULATION[0],
        neighbours=(Neighbour(ip_address("10.7.200.99"), "ens192", permanent=False, missing=True),),
    )
    done = walk((node1, *SIMULATION[1:]), POD1_STATION, ends(POD1, "10.7.200.99"))

    assert (End.NO_NEIGHBOUR, "node node1") == (done.end, done.hops[-1].station)


@pytest.mark.parametrize(
    ("strictness", "end"), [(0, End.ARRIVED), (1, End.REVERSE_PATH), (2, End.ARRIVED)]
)
def test_reverse_path_filter(strictness: int, end: End) -> None:
    """
    The answer of S3 enters by eth0 while the way back leads by veth0.

    Strict filters drop it, loose ones do not.
    """
    pod3 = replace(POD3_STATION, filters={"all": 0, "eth0": strictness})

    assert end is walk((*SIMULATION[:-1], pod3), POD1_STATION, ends(POD1, POD3, 80, 40000)).end


def test_parent_and_child() -> None:
    """Without table 500 a node sends to its own macvlan pod by the parent, which the kernel never hands over."""
    node3 = replace(NODE3_STATION, rules=NODE3_STATION.rules[:3])
    done = walk((node3, POD3_STATION), node3, ends(NODE3, POD3))

    assert End.PARENT is done.end


def test_service_without_translation() -> None:
    """A Service address that no node replaces ends at the node that should have done it."""
    done = walk(SIMULATION, POD3_STATION, ends(POD3, SERVICE), service=ip_address(SERVICE))

    assert (End.NO_TRANSLATION, "node node3") == (done.end, done.hops[-1].station)


def test_loop() -> None:
    """Two nodes that send to each other are noticed."""
    a = station("a", "", (link("eth0", 2, "10.0.0.1"),), main="default via 10.0.0.2 dev eth0")
    b = station("b", "", (link("eth0", 2, "10.0.0.2"),), main="default via 10.0.0.1 dev eth0")

    assert End.LOOP is walk((a, b), a, ends("10.0.0.1", "10.9.9.9")).end


def test_helper_reads_blackholes() -> None:
    """The words of `ip route` become routes."""
    assert (Route(ip_network("10.233.100.0/26"), type="blackhole"),) == routes(
        "blackhole 10.233.100.0/26"
    )
