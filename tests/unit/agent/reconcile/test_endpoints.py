"""SpiderEndpoints: written after the answer, deleted with the addresses, right again after any crash."""

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
from tests.unit.agent.testbed import World, ips


async def until(condition: Callable[[], bool], timeout_s: float = 1.0) -> None:
    """Wait until a condition holds; a second is what the architecture promises."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def endpoints(world: World) -> dict[str, list[str | None]]:
    """Give what the endpoints tell: name → IPv4 addresses by NIC."""
    return {
        endpoint.metadata.name: [nic.ipv4 for nic in endpoint.status.current.ips] if endpoint.status else []
        for endpoint in world.cluster.all(SpiderEndpoint)
    }


async def test_an_endpoint_appears_after_the_add(world: World) -> None:
    """Within a second of the answer the endpoint says what the pod holds; it belongs to the pod and has no finalizer."""
    world.pool(ips=["10.6.0.10"], gateway="10.6.0.1")
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        await until(lambda: endpoints(world) == {"web-1": ["10.6.0.10/16"]})

    (endpoint,) = world.cluster.all(SpiderEndpoint)
    assert endpoint.status is not None
    assert ("uid-web-1", "node1", "Pod") == (
        endpoint.status.current.uid,
        endpoint.status.current.node,
        endpoint.status.owner_controller_type,
    )
    assert [("Pod", "uid-web-1", False)] == [(ref.kind, ref.uid, ref.controller) for ref in endpoint.metadata.owner_references]
    assert () == endpoint.metadata.finalizers


async def test_a_record_of_a_former_pod_of_the_name_hides_nothing(world: World) -> None:
    """A pod that is made anew has its endpoint, though an address of the former one waits to be reclaimed."""
    world.pool(ips=["10.6.0.10-10.6.0.11"])
    former = world.pod(uid="former")

    async with world.agent() as agent:
        before = await agent.add(former)
        world.cluster.drop(Pod, "web-1", "ns")
        after = await agent.add(world.pod(uid="new"))
        await until(lambda: endpoints(world) == {"web-1": [f"{ips(after)[0]}/16"]})

    assert ips(before) != ips(after)


async def test_the_addresses_of_two_calls_are_one_write(world: World) -> None:
    """Notes of one pod are joined while the API server is busy with ADDs."""
    world.pool()
    pod = world.pod(annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"})

    async with world.agent() as agent:
        await agent.add(pod, "eth0")
        await agent.add(pod, "net1")
        await until(lambda: [2] == [len(nics) for nics in endpoints(world).values()])


async def test_the_addresses_of_one_call_are_one_write(world: World) -> None:
    """The endpoint is written when the ADD has ended, though one of its addresses was there long before the other."""
    world.pool(ips=["10.6.0.10"])
    world.pool("six", "fd00::/64", ips=["fd00::10"])

    async def delay(call: Call) -> None:
        if call.name.startswith("fd00"):
            await asyncio.sleep(0.2)

    async with world.agent() as agent:
        world.cluster.on_write(delay)
        await agent.add(world.pod())
        await until(lambda: endpoints(world) == {"web-1": ["10.6.0.10/16"]})

    assert 1 == world.cluster.count("create", SpiderEndpoint)
    assert 0 == world.cluster.count("replace", SpiderEndpoint)
    assert ["fd00::10/64"] == [nic.ipv6 for e in world.cluster.all(SpiderEndpoint) if e.status for nic in e.status.current.ips]


async def test_a_static_pod_s_endpoint_outlives_it(world: World) -> None:
    """The endpoint of a StatefulSet's pod has no owner, and stays while its address does."""
    world.pool()
    world.cluster.seed(make_statefulset("db", replicas=2))
    pod = world.pod("db-1", stateful=True)

    async with world.agent() as agent:
        await agent.add(pod)
        await until(lambda: "db-1" in endpoints(world))
        world.cluster.drop(Pod, "db-1", "ns")
        await asyncio.sleep(0.02)
        await agent.delete(pod)
        await asyncio.sleep(0.1)

    (endpoint,) = world.cluster.all(SpiderEndpoint)
    assert () == endpoint.metadata.owner_references


async def test_the_endpoint_goes_with_the_last_address(world: World) -> None:
    """After a DEL the endpoint is deleted."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        await until(lambda: "web-1" in endpoints(world))
        world.cluster.drop(Pod, "web-1", "ns")
        await asyncio.sleep(0.02)
        await agent.delete(pod)
        await until(lambda: endpoints(world) == {})


async def test_an_endpoint_pending_at_a_crash_is_written_by_the_next_agent(world: World) -> None:
    """Whatever the queue held when an agent died is found by comparing at the start."""
    world.pool(ips=["10.6.0.10"])
    pod = world.pod()
    world.cluster.faults.fail_next("create", SpiderEndpoint, Unreachable("down"), times=1000)
    async with world.agent() as agent:
        await agent.add(pod)
    world.cluster.faults._planned.clear()

    async with world.agent():
        await until(lambda: endpoints(world) == {"web-1": ["10.6.0.10/16"]})


async def test_an_endpoint_left_over_at_a_crash_is_deleted_by_the_next_agent(world: World) -> None:
    """An endpoint of this node whose addresses are gone goes too."""
    world.pool()
    pod = world.pod()
    async with world.agent() as agent:
        await agent.add(pod)
        await until(lambda: "web-1" in endpoints(world))
    world.cluster.drop(SpiderIP, next(iter(world.held())))
    world.cluster.drop(Pod, "web-1", "ns")

    async with world.agent():
        await until(lambda: endpoints(world) == {})


async def test_a_wrong_endpoint_is_put_right_and_loses_its_finalizer(world: World) -> None:
    """An endpoint of a former version or another pod is overwritten; foreign labels stay, the finalizer goes."""
    world.pool(ips=["10.6.0.10"])
    pod = world.pod()
    async with world.agent() as agent:
        await agent.add(pod)
        await until(lambda: "web-1" in endpoints(world))
    (endpoint,) = world.cluster.all(SpiderEndpoint)
    assert endpoint.status is not None
    wrong = replace(
        endpoint,
        metadata=replace(endpoint.metadata, finalizers=("spiderpool.spidernet.io",), labels={"team": "a"}),
        status=replace(endpoint.status, current=replace(endpoint.status.current, uid="other", ips=())),
    )
    world.cluster.seed(wrong)

    async with world.agent():
        await until(lambda: endpoints(world) == {"web-1": ["10.6.0.10/16"]})

    (endpoint,) = world.cluster.all(SpiderEndpoint)
    assert "a" == endpoint.metadata.labels["team"]
    assert () == endpoint.metadata.finalizers


async def test_an_endpoint_that_is_right_is_not_written(world: World) -> None:
    """A restart of the agent costs no write when all is right."""
    world.pool()
    pod = world.pod()
    async with world.agent() as agent:
        await agent.add(pod)
        await until(lambda: "web-1" in endpoints(world))
    writes = world.cluster.count("create", SpiderEndpoint) + world.cluster.count("replace", SpiderEndpoint)

    async with world.agent():
        await asyncio.sleep(0.05)

    assert writes == world.cluster.count("create", SpiderEndpoint) + world.cluster.count("replace", SpiderEndpoint)


async def test_a_failed_write_is_repeated(world: World) -> None:
    """After an error the endpoint is written all the same, a little later."""
    world.pool(ips=["10.6.0.10"])
    pod = world.pod()

    async with world.agent() as agent:
        world.cluster.faults.fail_next("create", SpiderEndpoint, UnknownOutcome("cut"), after_commit=True)
        world.cluster.faults.fail_next("get", SpiderEndpoint, Conflict("busy"))
        await agent.add(pod)
        await until(lambda: endpoints(world) == {"web-1": ["10.6.0.10/16"]} and not agent.app.endpoints.pending)


async def test_the_endpoint_of_a_newer_pod_is_not_deleted(world: World) -> None:
    """When another node wrote the endpoint of the next pod of that name, this node's delete leaves it."""
    world.pool()
    pod = world.pod("db-1", uid="first", stateful=True)

    async with world.agent("node1") as one:
        await one.add(pod)
        await until(lambda: "db-1" in endpoints(world))
        world.cluster.drop(Pod, "db-1", "ns")
        await asyncio.sleep(0.02)
        (endpoint,) = world.cluster.all(SpiderEndpoint)
        assert endpoint.status is not None
        newer = replace(endpoint.status, current=replace(endpoint.status.current, uid="second", node="node2"))
        world.cluster.seed(replace(endpoint, status=newer))
        await one.delete(pod)
        await asyncio.sleep(0.05)

    assert ["db-1"] == list(endpoints(world))


@pytest.mark.parametrize("limit_s", [endpoints_module.BUSY_LIMIT_S, 0.0], ids=["early", "late"])
async def test_endpoints_wait_while_adds_run(world: World, monkeypatch: pytest.MonkeyPatch, limit_s: float) -> None:
    """While ADDs run one endpoint is written at a time, however late it is, so that they get the API server."""
    monkeypatch.setattr(endpoints_module, "BUSY_LIMIT_S", limit_s)
    world.pool(ips=["10.6.0.1-10.6.0.100"])
    pods = [world.pod(f"web-{n}") for n in range(20)]

    async with world.agent() as agent:
        world.cluster.faults.latency_s = 0.01
        adding = asyncio.gather(*(agent.add(pod) for pod in pods))
        most = 0
        while not adding.done():
            if agent.app.ipam.turns.busy:  # the last ADD may have ended, unnoticed by `adding` so far
                most = max(most, len(agent.app.endpoints._tasks))
            await asyncio.sleep(0.002)
        await adding
        world.cluster.faults.latency_s = 0
        await until(lambda: 20 == len(endpoints(world)))

    assert 1 >= most


async def test_a_late_one_that_cannot_be_written_hurries_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause between two writes depends on who is written next, not on a pod whose ADD has been waiting for long."""
    monkeypatch.setattr(endpoints_module, "BUSY_LIMIT_S", 0.2)
    world.pool(ips=["10.6.0.1-10.6.0.100"])

    async with world.agent(quiet_s=0.3) as agent:
        monkeypatch.setattr(agent.app.endpoints, "_is_busy", lambda: True)
        monkeypatch.setattr(agent.app.endpoints, "_is_served", lambda name: name == ("ns", "waits"))
        agent.app.endpoints.changed(("ns", "waits"))
        await asyncio.sleep(0.25)
        for number in range(5):
            await agent.add(world.pod(f"web-{number}"))
        await asyncio.sleep(0.15)

        assert 1 == len(endpoints(world))


async def test_a_burst_is_over_before_endpoints_are_written(world: World) -> None:
    """Half a second after the last call, all the same within a second of the answer."""
    world.pool()
    pods = [world.pod(f"web-{n}") for n in range(5)]

    async with world.agent(quiet_s=0.3) as agent:
        for pod in pods:
            await agent.add(pod)
            await asyncio.sleep(0.05)
        assert 1 >= len(endpoints(world))  # one a second also during a burst
        await until(lambda: 5 == len(endpoints(world)))


async def test_an_endpoint_whose_create_got_no_answer_goes_with_the_addresses(world: World) -> None:
    """A create that happened without an answer is found when the pod gives its addresses back before the next try."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        world.cluster.faults.fail_next("create", SpiderEndpoint, UnknownOutcome("cut"), after_commit=True)
        await agent.add(pod)
        await until(lambda: world.cluster.count("create", SpiderEndpoint) == 1)
        await world.cluster.delete(Pod, pod.metadata.name, pod.metadata.namespace)
        await agent.delete(pod)
        await until(lambda: endpoints(world) == {})
