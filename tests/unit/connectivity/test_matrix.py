"""Which cases there are, how they are shown, and what the exit code is."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from spiderpool.addressing.sets import IPAddress
from spiderpool.connectivity.diagnosis import Diagnosis, Reason
from spiderpool.connectivity.matrix import (
    Case,
    Goal,
    Kind,
    Placement,
    Result,
    Stage,
    Transfer,
    exit_code,
    plan_cases,
    plan_placements,
)
from spiderpool.connectivity.table import Names, render_report, to_json
from spiderpool.errors import InvalidRequest

NEAR, FAR = Placement("node1", "node1"), Placement("node1", "node2")
SERVER = ip_address("10.233.101.2")
NAMES = Names("Calico", "Macvlan")


def everywhere(
    *nodes: str, families: tuple[int, ...] = (4, 6)
) -> dict[tuple[str, Goal, int], IPAddress]:
    """Return addresses for all goals."""
    texts = {4: SERVER, 6: ip_address("fd00::2")}
    return {
        (node, goal, family): texts[family]
        for node in nodes
        for goal in Goal
        for family in families
    }


def result(
    source: Kind, goal: Goal, *, passed: bool = True, placement: Placement = FAR, attempts: int = 1
) -> Result:
    """Make a result."""
    client = ip_address("10.7.200.2")
    transfer = Transfer(Stage.DONE, client, 40000, SERVER, 8080, seen=client)
    diagnosis = None
    if not passed:
        transfer = Transfer(Stage.TRANSFER, client, 40000, SERVER, 8080, words="timed out")
        diagnosis = Diagnosis(Reason.INVALID_DROP, "node node1", "because")
    return Result(Case(placement, 4, source, goal), transfer, attempts, diagnosis)


def test_documented_matrix() -> None:
    """Three rows, six columns of which one has two addresses, for each family and pair of nodes."""
    placements = plan_placements(["node1", "node2"])

    assert (NEAR, FAR) == placements
    cases = list(plan_cases(placements, (4, 6), tuple(Kind), everywhere("node1", "node2")))
    assert 2 * 2 * 3 * 7 == len(cases) == len(set(cases))
    assert [NEAR.is_local, FAR.is_local] == [True, False]


def test_only_what_has_an_address() -> None:
    """A goal without an address of a family is no case."""
    addresses = everywhere("node1", families=(4,))
    del addresses["node1", Goal.MULTI_UNDERLAY_IP, 4]

    cases = list(plan_cases([NEAR], (4, 6), [Kind.OVERLAY], addresses))

    assert {Goal(goal) for goal in Goal} - {Goal.MULTI_UNDERLAY_IP} == {case.goal for case in cases}
    assert {4} == {case.family for case in cases}


@pytest.mark.parametrize("nodes", [[], ["node1", "node1"], [""]])
def test_wrong_nodes(nodes: list[str]) -> None:
    """No node, an empty name, or a node twice is refused with a sentence."""
    with pytest.raises(InvalidRequest, match="node"):
        plan_placements(nodes)


def test_kinds_of_goals() -> None:
    """Every goal knows who answers and whether kube-proxy stands in between."""
    assert {Goal.OVERLAY_SERVICE, Goal.UNDERLAY_SERVICE, Goal.MULTI_SERVICE} == {
        goal for goal in Goal if goal.is_service
    }
    assert Kind.MULTI is Goal.MULTI_UNDERLAY_IP.kind
    assert {Goal.UNDERLAY_POD, Goal.MULTI_UNDERLAY_IP} == {
        goal for goal in Goal if goal.is_underlay_ip
    }


def test_exit_code() -> None:
    """0 when all pass, 1 when one fails, and nothing tried is no success."""
    good, bad = (
        result(Kind.OVERLAY, Goal.OVERLAY_POD),
        result(Kind.UNDERLAY, Goal.OVERLAY_POD, passed=False),
    )

    assert [0, 1, 1] == [exit_code([good]), exit_code([good, bad]), exit_code([])]


def test_report() -> None:
    """A multi-NIC pod's two addresses share a column, and the report tells why a case failed."""
    failing = {(Kind.UNDERLAY, Goal.OVERLAY_POD), (Kind.UNDERLAY, Goal.MULTI_OVERLAY_IP)}
    results = [
        result(kind, goal, passed=(kind, goal) not in failing) for kind in Kind for goal in Goal
    ]

    lines = render_report(results, NAMES).splitlines()

    assert "IPv4, from node1 to node2" == lines[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:7]]
    assert [
        "Source \\ Target",
        "Calico Pod",
        "Macvlan Pod",
        "Calico + Macvlan Pod (Calico / Macvlan IP)",
        "Service of Calico Pod",
        "Service of Macvlan Pod",
        "Service of Calico + Macvlan Pod",
    ] == cells[0]
    assert ["Calico Pod", "✅", "✅", "✅ / ✅", "✅", "✅", "✅"] == cells[2]
    assert ["Macvlan Pod", "❌", "✅", "❌ / ✅", "✅", "✅", "✅"] == cells[3]
    assert ["Calico + Macvlan Pod", "✅", "✅", "✅ / ✅", "✅", "✅", "✅"] == cells[4]
    assert (
        "❌ Macvlan Pod -> Calico Pod, IPv4, from node1 to node2: 10.7.200.2 -> 10.233.101.2 port 8080"
        in lines
    )
    assert "   ended at node node1: INVALID drop: because" in lines
    assert 1 == sum(
        line.startswith("INVALID drop: set net.netfilter.nf_conntrack_tcp_be_liberal=1")
        for line in lines
    )
    assert "21 cases: 19 passed, 2 failed" == lines[-1]


def test_report_of_overlay_alone() -> None:
    """Without an underlay there are one row and two columns."""
    results = [
        result(Kind.OVERLAY, goal, placement=NEAR)
        for goal in (Goal.OVERLAY_POD, Goal.OVERLAY_SERVICE)
    ]

    lines = render_report(results, NAMES).splitlines()

    assert "IPv4, on node1" == lines[0]
    assert "| Source \\ Target | Calico Pod | Service of Calico Pod |" == lines[2]
    assert "2 cases: all passed" == lines[-1]


def test_second_attempt_is_told() -> None:
    """A case that passed only when it was tried again is counted as such."""
    late = result(Kind.OVERLAY, Goal.OVERLAY_POD, attempts=2)

    assert (
        "1 cases: all passed, 1 of them not at the first attempt"
        == render_report([late], NAMES).splitlines()[-1]
    )


def test_json() -> None:
    """Each case with its ends, what the server saw, and its diagnosis."""
    good, bad = to_json(
        [
            result(Kind.MULTI, Goal.OVERLAY_SERVICE),
            result(Kind.UNDERLAY, Goal.OVERLAY_POD, passed=False),
        ]
    )

    assert {
        "family": 4,
        "clientNode": "node1",
        "serverNode": "node2",
        "source": "multi",
        "target": "overlay-service",
        "passed": True,
        "attempts": 1,
        "stage": "done",
        "client": "10.7.200.2",
        "server": "10.233.101.2",
        "port": 8080,
        "seenSource": "10.7.200.2",
    } == good
    assert (False, "timed out", "INVALID drop", "node node1") == (
        bad["passed"],
        bad["error"],
        bad["diagnosis"]["reason"],
        bad["diagnosis"]["station"],
    )
