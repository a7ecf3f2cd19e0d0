"""
`GET /v1/coordinator/config` over a real socket.

Source: docs/reference/allocation.md#detection, docs/reference/coordinator.md#configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from spiderpool.agent.node.caller import PodCall
from spiderpool.api.crd.coordinator import SpiderCoordinator
from spiderpool.datapath.coordinator_merge import read_coordinator
from spiderpool.errors import Unreachable
from tests.unit.agent.client import ask
from tests.unit.agent.reconcile.test_endpoints import until
from tests.unit.agent.simulation import Agent, Simulation

POD = {"podName": "web-1", "podNamespace": "ns"}


@pytest.fixture
def socket(simulation: Simulation) -> Path:
    """Return the path of the socket of the agent of node1."""
    return simulation.folder / "node1.sock"


def coordinator(
    name: str = "default", phase: str | None = "Synced", **spec: Any
) -> SpiderCoordinator:
    """Make the cluster's settings; `phase` None: the controller has not been there yet."""
    status = {
        "phase": phase,
        "reason": "",
        "overlayPodCIDR": ["10.233.64.0/18"],
        "serviceCIDR": ["10.233.0.0/18"],
    }
    document = {"metadata": {"name": name}, "spec": spec} | (
        {} if phase is None else {"status": status}
    )
    return msgspec.convert(document, SpiderCoordinator)


async def known(agent: Agent) -> None:
    """Wait until the agent has read the settings; nothing of its start waits for them."""
    await until(lambda: len(list(agent.app.informers.coordinators)) > 0)


async def test_all_fields(simulation: Simulation, socket: Path) -> None:
    """Every field has the reference's name; the detected networks come from the status."""
    simulation.pod()
    simulation.cluster.seed(
        coordinator(
            mode="underlay",
            tunePodRoutes=False,
            hijackCIDR=["169.254.0.0/16"],
            policyRoutes=[{"dst": "10.99.0.0/16", "gw": "10.6.0.1"}],
            podMACPrefix="0a:1b",
            podDefaultRouteNIC="net1",
            hostRuleTable=600,
            podRPFilter=2,
            txQueueLen=10,
            vethLinkAddress="169.254.100.1",
            vethMTU=1400,
        )
    )
    async with simulation.serving_agent() as agent:
        await known(agent)
        answer = await ask(socket, "GET", "/v1/coordinator/config", POD)
        merged = read_coordinator(
            {}, await agent.app.configs.document_of(PodCall("ns", "web-1", ""))
        )

    assert ("10.233.64.0/18", "10.233.0.0/18", "169.254.0.0/16") == tuple(map(str, merged.hijack))
    expected = {
        "mode": "underlay",
        "overlayPodCIDR": ["10.233.64.0/18"],
        "serviceCIDR": ["10.233.0.0/18"],
        "tunePodRoutes": False,
        "hijackCIDR": ["169.254.0.0/16"],
        "policyRoutes": [{"dst": "10.99.0.0/16", "gw": "10.6.0.1"}],
        "podMACPrefix": "0a:1b",
        "podDefaultRouteNIC": "net1",
        "hostRuleTable": 600,
        "podRPFilter": 2,
        "txQueueLen": 10,
        "vethLinkAddress": "169.254.100.1",
        "vethMTU": 1400,
    }
    assert (200, expected) == (answer.status, answer.json)


async def test_a_pod_names_its_default_route(simulation: Simulation, socket: Path) -> None:
    """
    The pod's annotation goes before the cluster's word.

    What nobody says has the reference's default or is left out.
    """
    simulation.pod(annotations={"ipam.spidernet.io/default-route-nic": "net1"})
    simulation.cluster.seed(coordinator(podDefaultRouteNIC="eth0"))
    async with simulation.serving_agent() as agent:
        await known(agent)
        answer = await ask(socket, "GET", "/v1/coordinator/config", POD)

    assert {
        "mode": "auto",
        "overlayPodCIDR": ["10.233.64.0/18"],
        "serviceCIDR": ["10.233.0.0/18"],
        "tunePodRoutes": True,
        "podDefaultRouteNIC": "net1",
    } == answer.json


@pytest.mark.parametrize(
    ("phase", "words"),
    [(None, "phase is empty"), ("", "phase is empty"), ("NotReady", "phase is NotReady")],
)
async def test_not_synced(
    simulation: Simulation, socket: Path, phase: str | None, words: str
) -> None:
    """Settings that the controller has not confirmed are refused with their phase."""
    simulation.pod()
    simulation.cluster.seed(coordinator(phase=phase))
    async with simulation.serving_agent() as agent:
        await known(agent)
        answer = await ask(socket, "GET", "/v1/coordinator/config", POD)

    assert 500 == answer.status
    assert words in answer.json


async def test_the_first_by_name(simulation: Simulation, socket: Path) -> None:
    """Of several the first one counts."""
    simulation.pod()
    simulation.cluster.seed(coordinator("zebra", mode="overlay"))
    simulation.cluster.seed(coordinator("default", mode="underlay"))
    async with simulation.serving_agent() as agent:
        await until(lambda: len(list(agent.app.informers.coordinators)) == 2)
        answer = await ask(socket, "GET", "/v1/coordinator/config", POD)

    assert "underlay" == answer.json["mode"]


async def test_the_one_that_the_controller_keeps(simulation: Simulation, socket: Path) -> None:
    """One that the controller has never looked at does not stand before the cluster's own, whatever its name is."""
    simulation.pod()
    simulation.cluster.seed(coordinator("another", phase=None, mode="overlay"))
    simulation.cluster.seed(coordinator("default", mode="underlay"))
    async with simulation.serving_agent() as agent:
        await until(lambda: len(list(agent.app.informers.coordinators)) == 2)
        answer = await ask(socket, "GET", "/v1/coordinator/config", POD)

    assert (200, "underlay") == (answer.status, answer.json["mode"])


async def test_refusals(simulation: Simulation, socket: Path) -> None:
    """No settings, no such pod, no name: the original's framework's forms, with sentences."""
    async with simulation.serving_agent() as agent:
        none = await ask(socket, "GET", "/v1/coordinator/config", POD)
        simulation.cluster.seed(coordinator())
        await known(agent)
        nobody = await ask(socket, "GET", "/v1/coordinator/config", POD)
        nameless = await ask(socket, "GET", "/v1/coordinator/config", {"podNamespace": "ns"})
        empty = await ask(
            socket, "GET", "/v1/coordinator/config", {"podNamespace": "ns", "podName": ""}
        )

    assert (500, "no SpiderCoordinator exists; create one named default") == (
        none.status,
        none.json,
    )
    assert (500, "pod ns/web-1 does not exist") == (nobody.status, nobody.json)
    assert (422, "podName in body is required") == (nameless.status, nameless.json["message"])
    assert (500, 'wrong input: podNamespace is "ns" and podName is ""; name a pod') == (
        empty.status,
        empty.json,
    )


async def test_an_interrupted_watch_changes_nothing(simulation: Simulation, socket: Path) -> None:
    """
    What was read serves on while the watch is cut off.

    On a quiet cluster its next sign of life may be minutes away.
    """
    simulation.pod()
    simulation.cluster.seed(coordinator(mode="underlay"))
    async with simulation.serving_agent() as agent:
        await known(agent)
        agent.app.informers.coordinators.trouble = Unreachable("watch spidercoordinators: timeout")
        answer = await ask(socket, "GET", "/v1/coordinator/config", POD)

    assert (200, "underlay") == (answer.status, answer.json["mode"])
