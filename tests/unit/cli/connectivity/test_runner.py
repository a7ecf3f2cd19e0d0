"""Trying cases: once, once more when they fail, and with a look at the nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast

import pytest

from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.cli.agents import AgentPod, AgentSpec, Container
from spiderpool.cli.connectivity.manifests import TRANSFER_COMMAND, Recipe, plan_probes, render_pod
from spiderpool.cli.connectivity.runner import Trial
from spiderpool.cli.connectivity.workloads import Scene
from spiderpool.connectivity.diagnosis import Reason
from spiderpool.connectivity.matrix import Case, Goal, Kind, Placement
from spiderpool.errors import Forbidden, SpiderpoolError
from spiderpool.kube.client import KubeClient
from spiderpool.kube.exec import Executed
from tests.fakes.cluster import FakeCluster

RECIPE = Recipe("test", "spiderpool:1", "Never")
CASE = Case(Placement("node1", "node2"), 4, Kind.OVERLAY, Goal.OVERLAY_POD)
DONE = {
    "stage": "done",
    "client": "10.0.0.1",
    "clientPort": 4,
    "seen": "10.0.0.1",
    "name": "server-overlay-2",
    "words": "",
}
LATE = {**DONE, "stage": "transfer", "words": "timed out"}


@dataclass
class Pods:
    """
    Containers that run what they are asked to.

    Transfers end as planned, surveys show pods without any route.
    """

    transfers: list[dict[str, Any]]
    survey_error: Exception | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def execute(
        self, pod: str, namespace: str, container: str, command: Sequence[str], *, timeout_s: float
    ) -> Executed:
        """Answer."""
        assert timeout_s > 0
        self.asked.append((namespace, container))
        if tuple(command[:3]) == TRANSFER_COMMAND:
            assert ["client-overlay", [["10.0.0.2", 8080]]] == [
                pod,
                json.loads(command[3])["targets"],
            ]
            return Executed(0, json.dumps([self.transfers.pop(0)]).encode(), b"")
        if self.survey_error:
            raise self.survey_error
        node, *pods = command[3:]
        names = [word.partition("=")[2] for word in pods]
        return Executed(
            0, json.dumps([{"node": node, "pod": name} for name in ("", *names)]).encode(), b""
        )


async def trial(pods: Pods) -> Trial:
    """Make a trial of overlay pods on two nodes."""
    cluster = FakeCluster()
    probes = plan_probes(["node1", "node2"], [Kind.OVERLAY])
    for probe in probes:
        await cluster.create(render_pod(probe, RECIPE))
    agents = {
        node: AgentPod(
            metadata=ObjectMeta(name=f"agent-{node}", namespace="kube-system"),
            spec=AgentSpec(node_name=node, containers=(Container(name="agent"),)),
        )
        for node in ("node1", "node2")
    }
    addresses = {("node2", Goal.OVERLAY_POD, 4): ip_address("10.0.0.2")}
    return Trial(
        cast("KubeClient", pods),
        Scene(cluster, RECIPE, probes, lambda _: None),
        agents,
        addresses,
        timeout_s=1,
    )


async def test_first_attempt() -> None:
    """What passes is not tried again, and no node is looked at."""
    pods = Pods([DONE])

    (result,) = await (await trial(pods)).run([CASE])

    assert (True, 1, None) == (result.passed, result.attempts, result.diagnosis)
    assert [("test", "probe")] == pods.asked


async def test_second_attempt() -> None:
    """What passes at the second attempt has passed."""
    (result,) = await (await trial(Pods([LATE, DONE]))).run([CASE])

    assert (True, 2, None) == (result.passed, result.attempts, result.diagnosis)


async def test_failure_is_explained() -> None:
    """What fails twice is explained from what the agents of both nodes show."""
    pods = Pods([LATE, LATE])

    (result,) = await (await trial(pods)).run([CASE])

    assert not result.passed
    assert result.diagnosis is not None
    assert (Reason.NO_ROUTE, "pod client-overlay") == (
        result.diagnosis.reason,
        result.diagnosis.station,
    )
    assert 4 == pods.asked.count(("kube-system", "agent"))


async def test_no_right_to_look() -> None:
    """Who may not run programs in the agents' pods gets the table all the same, without reasons."""
    (result,) = await (await trial(Pods([LATE, LATE], Forbidden("pods/exec is forbidden")))).run(
        [CASE]
    )

    assert result.diagnosis is not None
    assert Reason.UNKNOWN is result.diagnosis.reason
    assert "pods/exec is forbidden" in result.diagnosis.sentence


async def test_nonsense_from_a_pod() -> None:
    """A program that prints something else is an error with a sentence."""
    with pytest.raises(SpiderpoolError, match="transfers of pod client-overlay"):
        await (await trial(Pods([{"stage": "nowhere"}]))).run([CASE])
