"""
SpiderEndpoints.

Written after the answer, deleted with the addresses, right again after any crash.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from msgspec.structs import replace

import spiderpool.agent.reconcile.endpoints as endpoints_module
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import Conflict, UnknownOutcome, Unreachable
from tests.fakes.cluster import Call
from tests.fakes.objects import make_statefulset
from tests.unit.agent.simulation import Simulation, ips


async def until(condition: Callable[[], bool], timeout_s: float = 1.0) -> None:
    """Wait until a condition holds; a second is what the architecture promises."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def endpoints(simulation: Simulation) -> dict[str, list[str | None]]:
    """Return what the endpoints tell: name → IPv4 addresses by NIC."""
    return {
        endpoint.metadata.name: [nic.ipv4 for nic in endpoint.status.current.ips]
        if endpoint.status
        else []
        for endpoint in simulation.cluster.all(SpiderEndpoint)
    }


async def test_an_endpoint_appears_after_the_add(simulation: Simulation) -> None:
    """
    Within a second of the answer the endpoint says what the pod holds.

    It belongs to the pod and has no finalizer.
    """
    simulation.pool(ips=["10.6.0.10"], gateway="10.6.0.1")
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: endpoints(simulation) == {"web-1": ["10.6.0.10/16"]})

    (endpoint,) = simulation.cluster.all(SpiderEndpoint)
    assert endpoint.status is not None
    assert ("uid-web-1", "node1", "Pod") == (
        endpoint.status.current.uid,
        endpoint.status.current.node,
        endpoint.status.owner_controller_type,
    )
    assert [("Pod", "uid-web-1", False)] == [
        (ref.kind, ref.uid, ref.controller) for ref in endpoint.metadata.owner_references
    ]
    assert () == endpoint.metadata.finalizers


async def test_a_record_of_a_former_pod_of_the_name_hides_nothing(simulation: Simulation) -> None:
    """A pod that is made again has its endpoint, though an address of the former one waits to be reclaimed."""
    simulation.pool(ips=["10.6.0.10-10.6.0.11"])
    former = simulation.pod(uid="former")

    async with simulation.agent() as agent:
        before = await agent.add(former)
        simulation.cluster.drop(Pod, "web-1", "ns")
        after = await agent.add(simulation.pod(uid="new"))
        await until(lambda: endpoints(simulation) == {"web-1": [f"{ips(after)[0]}/16"]})

    assert ips(before) != ips(after)


async def test_the_addresses_of_two_calls_are_one_write(simulation: Simulation) -> None:
    """Notes of one pod are joined while the API server is busy with ADDs."""
    simulation.pool()
    pod = simulation.pod(annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"})

    async with simulation.agent() as agent:
        await agent.add(pod, "eth0")
        await agent.add(pod, "net1")
        await until(lambda: [2] == [len(nics) for nics in endpoints(simulation).values()])


async def test_the_addresses_of_one_call_are_one_write(simulation: Simulation) -> None:
    """The endpoint is written when the ADD has ended, though one of its addresses was there long before the other."""
    simulation.pool(ips=["10.6.0.10"])
    simulation.pool("six", "fd00::/64", ips=["fd00::10"])

    async def delay(call: Call) -> None:
        if call.name.startswith("fd00"):
            await asyncio.sleep(0.2)

    async with simulation.agent() as agent:
        simulation.cluster.on_write(delay)
        await agent.add(simulation.pod())
        await until(lambda: endpoints(simulation) == {"web-1": ["10.6.0.10/16"]})

    assert 1 == simulation.cluster.count("create", SpiderEndpoint)
    assert 0 == simulation.cluster.count("replace", SpiderEndpoint)
    assert ["fd00::10/64"] == [
        nic.ipv6
        for e in simulation.cluster.all(SpiderEndpoint)
        if e.status
        for nic in e.status.current.ips
    ]


async def test_a_static_pod_s_endpoint_outlives_it(simulation: Simulation) -> None:
    """The endpoint of a StatefulSet's pod has no owner, and stays while its address does."""
    simulation.pool()
    simulation.cluster.seed(make_statefulset("db", replicas=2))
    pod = simulation.pod("db-1", stateful=True)

    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: "db-1" in endpoints(simulation))
        simulation.cluster.drop(Pod, "db-1", "ns")
        await asyncio.sleep(0.02)
        await agent.delete(pod)
        await asyncio.sleep(0.1)

    (endpoint,) = simulation.cluster.all(SpiderEndpoint)
    assert () == endpoint.metadata.owner_references


async def test_the_endpoint_goes_with_the_last_address(simulation: Simulation) -> None:
    """After a DEL the endpoint is deleted."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: "web-1" in endpoints(simulation))
        simulation.cluster.drop(Pod, "web-1", "ns")
        await asyncio.sleep(0.02)
        await agent.delete(pod)
        await until(lambda: endpoints(simulation) == {})


async def test_an_endpoint_pending_at_a_crash_is_written_by_the_next_agent(
    simulation: Simulation,
) -> None:
    """Whatever the queue held when an agent died is found by comparing at the start."""
    simulation.pool(ips=["10.6.0.10"])
    pod = simulation.pod()
    simulation.cluster.faults.fail_next("create", SpiderEndpoint, Unreachable("down"), times=1000)
    async with simulation.agent() as agent:
        await agent.add(pod)
    simulation.cluster.faults._planned.clear()

    async with simulation.agent():
        await until(lambda: endpoints(simulation) == {"web-1": ["10.6.0.10/16"]})


async def test_an_endpoint_left_over_at_a_crash_is_deleted_by_the_next_agent(
    simulation: Simulation,
) -> None:
    """An endpoint of this node whose addresses are gone goes too."""
    simulation.pool()
    pod = simulation.pod()
    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: "web-1" in endpoints(simulation))
    simulation.cluster.drop(SpiderIP, next(iter(simulation.held())))
    simulation.cluster.drop(Pod, "web-1", "ns")

    async with simulation.agent():
        await until(lambda: endpoints(simulation) == {})


async def test_a_wrong_endpoint_is_put_right_and_loses_its_finalizer(
    simulation: Simulation,
) -> None:
    """
    An endpoint of a former version or another pod is overwritten.

    Foreign labels stay, the finalizer goes.
    """
    simulation.pool(ips=["10.6.0.10"])
    pod = simulation.pod()
    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: "web-1" in endpoints(simulation))
    (endpoint,) = simulation.cluster.all(SpiderEndpoint)
    assert endpoint.status is not None
    wrong = replace(
        endpoint,
        metadata=replace(
            endpoint.metadata, finalizers=("spiderpool.spidernet.io",), labels={"team": "a"}
        ),
        status=replace(
            endpoint.status, current=replace(endpoint.status.current, uid="other", ips=())
        ),
    )
    simulation.cluster.seed(wrong)

    async with simulation.agent():
        await until(lambda: endpoints(simulation) == {"web-1": ["10.6.0.10/16"]})

    (endpoint,) = simulation.cluster.all(SpiderEndpoint)
    assert "a" == endpoint.metadata.labels["team"]
    assert () == endpoint.metadata.finalizers


async def test_an_endpoint_that_is_right_is_not_written(simulation: Simulation) -> None:
    """A restart of the agent costs no write when all is right."""
    simulation.pool()
    pod = simulation.pod()
    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: "web-1" in endpoints(simulation))
    writes = simulation.cluster.count("create", SpiderEndpoint) + simulation.cluster.count(
        "replace", SpiderEndpoint
    )

    async with simulation.agent():
        await asyncio.sleep(0.05)

    assert writes == simulation.cluster.count("create", SpiderEndpoint) + simulation.cluster.count(
        "replace", SpiderEndpoint
    )


async def test_a_failed_write_is_repeated(simulation: Simulation) -> None:
    """After an error the endpoint is written all the same, a little later."""
    simulation.pool(ips=["10.6.0.10"])
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.faults.fail_next(
            "create", SpiderEndpoint, UnknownOutcome("cut"), after_commit=True
        )
        simulation.cluster.faults.fail_next("get", SpiderEndpoint, Conflict("busy"))
        await agent.add(pod)
        await until(
            lambda: (
                endpoints(simulation) == {"web-1": ["10.6.0.10/16"]}
                and not agent.app.endpoints.pending
            )
        )


async def test_the_endpoint_of_a_newer_pod_is_not_deleted(simulation: Simulation) -> None:
    """When another node wrote the endpoint of the next pod of that name, this node's delete leaves it."""
    simulation.pool()
    pod = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one:
        await one.add(pod)
        await until(lambda: "db-1" in endpoints(simulation))
        simulation.cluster.drop(Pod, "db-1", "ns")
        await asyncio.sleep(0.02)
        (endpoint,) = simulation.cluster.all(SpiderEndpoint)
        assert endpoint.status is not None
        newer = replace(
            endpoint.status, current=replace(endpoint.status.current, uid="second", node="node2")
        )
        simulation.cluster.seed(replace(endpoint, status=newer))
        await one.delete(pod)
        await asyncio.sleep(0.05)

    assert ["db-1"] == list(endpoints(simulation))


@pytest.mark.parametrize("limit_s", [endpoints_module.BUSY_LIMIT_S, 0.0], ids=["early", "late"])
async def test_endpoints_wait_while_adds_run(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, limit_s: float
) -> None:
    """While ADDs run one endpoint is written at a time, however late it is, so that they get the API server."""
    monkeypatch.setattr(endpoints_module, "BUSY_LIMIT_S", limit_s)
    simulation.pool(ips=["10.6.0.1-10.6.0.100"])
    pods = [simulation.pod(f"web-{n}") for n in range(20)]

    async with simulation.agent() as agent:
        simulation.cluster.faults.latency_s = 0.01
        adding = asyncio.gather(*(agent.add(pod) for pod in pods))
        most = 0
        while not adding.done():
            # the last ADD may have ended, unnoticed by `adding` so far
            if agent.app.ipam.pod_locks.busy:
                most = max(most, len(agent.app.endpoints._tasks))
            await asyncio.sleep(0.002)
        await adding
        simulation.cluster.faults.latency_s = 0
        await until(lambda: 20 == len(endpoints(simulation)))

    assert 1 >= most


async def test_a_late_one_that_cannot_be_written_hurries_nobody(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause between two writes depends on who is written next, not on a pod whose ADD has been waiting for long."""
    monkeypatch.setattr(endpoints_module, "BUSY_LIMIT_S", 0.2)
    simulation.pool(ips=["10.6.0.1-10.6.0.100"])

    async with simulation.agent(quiet_s=0.3) as agent:
        monkeypatch.setattr(agent.app.endpoints, "_is_busy", lambda: True)
        monkeypatch.setattr(agent.app.endpoints, "_is_served", lambda name: name == ("ns", "waits"))
        agent.app.endpoints.changed(("ns", "waits"))
        await asyncio.sleep(0.25)
        for number in range(5):
            await agent.add(simulation.pod(f"web-{number}"))
        await asyncio.sleep(0.15)

        assert 1 == len(endpoints(simulation))


async def test_a_burst_is_over_before_endpoints_are_written(simulation: Simulation) -> None:
    """Half a second after the last call, all the same within a second of the answer."""
    simulation.pool()
    pods = [simulation.pod(f"web-{n}") for n in range(5)]

    async with simulation.agent(quiet_s=0.3) as agent:
        for pod in pods:
            await agent.add(pod)
            await asyncio.sleep(0.05)
        assert 1 >= len(endpoints(simulation))  # one a second also during a burst
        await until(lambda: 5 == len(endpoints(simulation)))


async def test_an_endpoint_whose_create_got_no_answer_goes_with_the_addresses(
    simulation: Simulation,
) -> None:
    """A create that happened without an answer is found when the pod gives its addresses back before the next try."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.faults.fail_next(
            "create", SpiderEndpoint, UnknownOutcome("cut"), after_commit=True
        )
        await agent.add(pod)
        await until(lambda: simulation.cluster.count("create", SpiderEndpoint) == 1)
        await simulation.cluster.delete(Pod, pod.metadata.name, pod.metadata.namespace)
        await agent.delete(pod)
        await until(lambda: endpoints(simulation) == {})
