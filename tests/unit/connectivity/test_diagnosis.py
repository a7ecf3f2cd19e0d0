"""Why transfers fail: what two looks at the namespaces tell."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from spiderpool.connectivity.diagnosis import Flow, Reason, diagnose
from spiderpool.connectivity.matrix import Stage, Transfer
from spiderpool.connectivity.survey import NamespaceSurvey
from spiderpool.model.netns_contents import Neighbour
from tests.unit.connectivity.simulation import (
    INVALID_DROP,
    POD1,
    POD1_STATION,
    POD3,
    POD3_STATION,
    SERVICE,
    SIMULATION,
    ends,
    seen,
    tracked,
)

Simulation = tuple[NamespaceSurvey, ...]


def failed(
    client: str | None, server: str, words: str = "timed out", stage: Stage = Stage.TRANSFER
) -> Transfer:
    """Make a failed transfer to port 80."""
    return Transfer(
        stage, ip_address(client) if client else None, 40000, ip_address(server), 80, words=words
    )


HALF = tracked(ends(POD3, POD1), ends(POD1, POD3, 80, 40000), "SYN_SENT", replied=False)


@pytest.mark.parametrize(
    ("before", "after", "dropped"), [(3, 12, "9 packets"), (100, 7, "7 packets"), (5, 5, "")]
)
def test_invalid_drop(before: int, after: int, dropped: str) -> None:
    """
    S3: half a connection on the client's node, the rule there, the answer passes by.

    A counter that fell began again.
    """
    flow = Flow(failed(POD3, POD1), POD3_STATION)

    found = diagnose(
        flow,
        seen(SIMULATION, "node node3", drops=before),
        seen(SIMULATION, "node node3", HALF, drops=after),
    )

    assert (Reason.INVALID_DROP, "node node3") == (found.reason, found.station)
    assert INVALID_DROP in found.sentence
    assert bool(dropped) == ("dropped" in found.sentence)
    assert dropped in found.sentence
    assert "nf_conntrack_tcp_be_liberal=1" in found.remedy


def test_rule_is_gone() -> None:
    """Without the rule half a connection explains nothing."""
    found = diagnose(
        Flow(failed(POD3, POD1), POD3_STATION), SIMULATION, seen(SIMULATION, "node node3", HALF)
    )

    assert Reason.UNKNOWN is found.reason


def test_rule_does_not_concern_whole_connections() -> None:
    """
    S4.

    Where the answer passes the node too, the rule is not blamed, even when others let its counter
    rise.
    """
    whole = tracked(ends(POD3, SERVICE), ends(POD1, "10.7.168.73", 80, 50000))
    world = seen(SIMULATION, "node node3", whole, drops=9)

    found = diagnose(
        Flow(failed(POD3, SERVICE), POD3_STATION, ip_address(SERVICE)),
        seen(SIMULATION, "node node3", drops=1),
        world,
    )

    assert Reason.UNKNOWN is found.reason


def test_a_dead_target_is_not_blamed_on_the_rule() -> None:
    """A connection is half for want of a neighbour too: the request never arrived."""
    half = tracked(
        ends(POD3, "10.233.100.9"), ends("10.233.100.9", POD3, 80, 40000), "SYN_SENT", replied=False
    )
    world = seen(SIMULATION, "node node3", half, drops=9)

    found = diagnose(Flow(failed(POD3, "10.233.100.9"), POD3_STATION), world, world)

    assert (Reason.NO_ROUTE, "node node1") == (found.reason, found.station)


def test_no_neighbour() -> None:
    """Where an address does not answer, the station that asked for it is named."""
    node1 = replace(
        SIMULATION[0],
        neighbours=(Neighbour(ip_address("10.7.200.99"), "ens192", permanent=False, missing=True),),
    )

    found = diagnose(
        Flow(failed(POD1, "10.7.200.99"), POD1_STATION), SIMULATION, (node1, *SIMULATION[1:])
    )

    assert (Reason.NO_NEIGHBOUR, "node node1") == (found.reason, found.station)
    assert "10.7.200.99" in found.sentence


def test_reverse_path_filter() -> None:
    """An answer that enters by another interface than expected is dropped by a strict filter."""
    world = (*SIMULATION[:-1], replace(POD3_STATION, filters={"all": 1}))

    found = diagnose(Flow(failed(POD3, POD1), world[-1]), world, world)

    assert (Reason.RP_FILTER, "pod pod3") == (found.reason, found.station)
    assert "the answer ends there" in found.sentence


def test_no_address_to_send_from() -> None:
    """A pod that has no route has no source address either."""
    found = diagnose(
        Flow(failed(None, POD1, "Network is unreachable", Stage.CONNECT), POD3_STATION),
        SIMULATION,
        SIMULATION,
    )

    assert (Reason.NO_ROUTE, "pod pod3") == (found.reason, found.station)


def test_service_without_endpoint() -> None:
    """A Service that kube-proxy does not know on the client's node."""
    found = diagnose(
        Flow(failed(POD3, SERVICE), POD3_STATION, ip_address(SERVICE)), SIMULATION, SIMULATION
    )

    assert (Reason.NO_ENDPOINT, "node node3") == (found.reason, found.station)


def test_refused() -> None:
    """A connection that is refused although both ways are open was refused by who was reached."""
    found = diagnose(
        Flow(failed(POD3, POD1, "[Errno 111] Connection refused", Stage.CONNECT), POD3_STATION),
        SIMULATION,
        SIMULATION,
    )

    assert (Reason.NOT_LISTENING, "pod pod1") == (found.reason, found.station)


CALICO = """
[0:0] -A FORWARD -j cali-FORWARD
[0:0] -A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
[0:0] -A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
[0:0] -A cali-from-wl-dispatch -i cali1 -g cali-fw-cali1
[0:0] -A cali-to-wl-dispatch -o cali1 -g cali-tw-cali1
[{invalid}:0] -A cali-fw-cali1 -m conntrack --ctstate INVALID -j DROP
[0:0] -A cali-fw-cali1 -m mark --mark 0x0/0x20000 -j cali-po-lab
[{out}:0] -A cali-po-lab -p tcp -j DROP
[{into}:0] -A cali-tw-cali1 -m mark --mark 0x0/0x20000 -j DROP
"""
KUBE_ROUTER = """
[0:0] -A FORWARD -j KUBE-ROUTER-FORWARD
[0:0] -A KUBE-ROUTER-FORWARD -s 10.7.200.2/32 -j KUBE-POD-FW-A
[0:0] -A KUBE-ROUTER-FORWARD -s 10.7.200.3/32 -j KUBE-POD-FW-B
[{mine}:0] -A KUBE-POD-FW-A -m conntrack --ctstate INVALID -j DROP
[{other}:0] -A KUBE-POD-FW-B -m conntrack --ctstate INVALID -j DROP
"""


def calico(invalid: int = 0, out: int = 0, into: int = 0) -> Simulation:
    """Return the world with Calico's rules on node1, and what they dropped."""
    return seen(SIMULATION, "node node1", table=CALICO.format(invalid=invalid, out=out, into=into))


def test_policy_on_the_way_to_a_service() -> None:
    """On the client's node a packet that is dropped leaves no connection: a Service looks as if it had no endpoint."""
    flow = Flow(failed(POD1, SERVICE, stage=Stage.CONNECT), POD1_STATION, ip_address(SERVICE))

    found = diagnose(flow, calico(out=2), calico(out=5))

    assert (Reason.POLICY, "node node1") == (found.reason, found.station)
    assert (
        "`-A cali-po-lab -p tcp -j DROP` of chain cali-po-lab dropped 3 packets" in found.sentence
    )
    assert "NetworkPolicies" in found.remedy
    assert Reason.NO_ENDPOINT is diagnose(flow, calico(out=5), calico(out=5)).reason


def test_policy_on_the_node_of_the_server() -> None:
    """The policy that guards the server is named with its chain."""
    flow = Flow(failed(POD3, POD1, stage=Stage.CONNECT), POD3_STATION)

    found = diagnose(flow, calico(into=0), calico(into=3))

    assert (Reason.POLICY, "node node1") == (found.reason, found.station)
    assert "chain cali-tw-cali1" in found.sentence


def test_policy_that_refuses() -> None:
    """A refusal of a policy is not taken for one of the pod."""
    table = "[{}:0] -A FORWARD -s 10.7.200.2 -j REJECT --reject-with icmp-port-unreachable"
    refused = failed(POD3, POD1, "[Errno 111] Connection refused", Stage.CONNECT)

    found = diagnose(
        Flow(refused, POD3_STATION),
        seen(SIMULATION, "node node3", table=table.format(1)),
        seen(SIMULATION, "node node3", table=table.format(2)),
    )

    assert (Reason.POLICY, "node node3") == (found.reason, found.station)
    assert "refused 1 packets" in found.sentence


def test_calicos_rules_against_invalid_packets_are_not_blamed() -> None:
    """Each of Calico's workloads has such a rule; half a connection that none of them meets is not theirs."""
    table = CALICO.format(invalid=9, out=0, into=0)
    before = seen(SIMULATION, "node node3", table=CALICO.format(invalid=1, out=0, into=0))

    found = diagnose(
        Flow(failed(POD3, POD1), POD3_STATION),
        before,
        seen(SIMULATION, "node node3", HALF, table=table),
    )

    assert Reason.UNKNOWN is found.reason


@pytest.mark.parametrize(("mine", "dropped"), [(0, False), (4, True)])
def test_kube_routers_rule_is_blamed_where_it_is_the_one(mine: int, dropped: bool) -> None:
    """The pod's own chain is named, not the first with such a rule, and nobody advises a setting that changes nothing."""
    before = seen(SIMULATION, "node node3", table=KUBE_ROUTER.format(mine=0, other=0))
    after = seen(SIMULATION, "node node3", HALF, table=KUBE_ROUTER.format(mine=mine, other=7))

    found = diagnose(Flow(failed(POD3, POD1), POD3_STATION), before, after)

    assert (Reason.INVALID_BY_POLICY, "node node3") == (found.reason, found.station)
    assert "-A KUBE-POD-FW-A " in found.sentence
    assert dropped == ("dropped 4 packets" in found.sentence)
    assert "does not change this rule" in found.remedy


def test_no_route_to_the_pod_network() -> None:
    """An underlay pod that asks the underlay's gateway for a pod of the cluster was not told the pod network."""
    lost = replace(
        POD3_STATION,
        routes=tuple(each for each in POD3_STATION.routes if each.dev != "veth0"),
    )
    world = (*SIMULATION[:-1], lost)

    found = diagnose(Flow(failed(POD3, POD1, stage=Stage.CONNECT), lost), world, world)

    assert (Reason.NO_POD_ROUTE, "pod pod3") == (found.reason, found.station)
    assert "podCIDRType" in found.remedy
