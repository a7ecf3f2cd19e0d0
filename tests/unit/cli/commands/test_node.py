"""`spiderpoolctl node settings`."""

from __future__ import annotations

import pytest

from spiderpool.api.agent.node_settings import ChangedSetting, NodeReport
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.cli.agents import LABEL, AgentPod, AgentSpec, AgentStatus
from spiderpool.cli.commands.node import read_reports, show
from spiderpool.errors import NotFound, Unreachable
from tests.fakes.cluster import FakeCluster

FILTER = "net.ipv4.conf.all.rp_filter"
FORWARD = "net.ipv4.conf.all.forwarding"


def cluster(*nodes: str) -> FakeCluster:
    """Return a cluster with an agent on each node."""
    found = FakeCluster()
    for node in nodes:
        meta = ObjectMeta(name=f"agent-{node}", namespace="kube-system", labels={LABEL: "true"})
        found.seed(
            AgentPod(
                metadata=meta, spec=AgentSpec(node_name=node), status=AgentStatus(phase="Running")
            )
        )
    return found


async def answer(agent: AgentPod) -> NodeReport:
    """Answer for an agent; the one of node3 is away."""
    if agent.spec.node_name == "node3":
        raise Unreachable("agent away")
    return NodeReport(node=agent.spec.node_name)


async def test_all_nodes() -> None:
    """All agents are asked; one that does not answer is named beside the others' answers."""
    reports, unread = await read_reports(cluster("node1", "node2", "node3"), answer)

    assert ["node1", "node2"] == [report.node for report in reports]
    assert ["agent away"] == [error.message for error in unread]


async def test_one_node() -> None:
    """One node may be asked for, and must have an agent."""
    reports, unread = await read_reports(cluster("node1", "node2"), answer, "node2")

    assert (["node2"], []) == ([report.node for report in reports], unread)
    with pytest.raises(NotFound, match="no agent runs on node node9"):
        await read_reports(cluster("node1"), answer, "node9")


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Each setting with what it was, what it is and what becomes of it.

    Then each node's word on INVALID packets.
    """
    changed = (
        ChangedSetting(key=FILTER, before="2", after="0"),
        ChangedSetting(key=FORWARD, before="0", after="1", kept=True),
    )
    show(
        [
            NodeReport(node="node1", settings=changed, explanation="fine"),
            NodeReport(node="node2", explanation="bad"),
        ]
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]

    assert [
        ["NODE", "SETTING", "BEFORE", "NOW", "WHEN", "SPIDERPOOL", "GOES"],
        ["node1", FILTER, "2", "0", "is", "2", "again"],
        ["node1", FORWARD, "0", "1", "stays"],
        ["node1:", "fine"],
        ["node2:", "bad"],
    ] == lines


def test_nothing_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing was changed, that is said."""
    show([NodeReport(node="node1", explanation="fine")])

    assert "no kernel setting was changed\nnode1: fine\n" == capsys.readouterr().out
