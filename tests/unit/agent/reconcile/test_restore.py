"""When things come back: living pods without a record."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from spiderpool.api.agent.interfaces import WornInterface, WornNamespace
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Event, Pod, PodIP
from spiderpool.errors import Unreachable
from tests.fakes.objects import make_facts, make_pod, make_pool, make_record
from tests.unit.agent.reconcile.test_endpoints import until
from tests.unit.agent.testbed import World, ips


def restore(world: World) -> tuple[SpiderIP, ...]:
    """Let a backup of etcd come back from before the records were made; give the records that are lost."""
    lost = world.cluster.all(SpiderIP)
    for record in lost:
        world.cluster.drop(SpiderIP, record.metadata.name)
    return lost


async def test_a_record_deleted_by_hand_is_made_again(world: World) -> None:
    """While its pod lives a record comes back with all that it said."""
    world.pool(gateway="10.6.0.1")
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod, network="macvlan")
        await asyncio.sleep(0.02)
        (lost,) = restore(world)
        await until(lambda: bool(world.held()))

    (record,) = world.cluster.all(SpiderIP)
    assert (lost.spec, lost.metadata.labels) == (record.spec, record.metadata.labels)


async def test_records_lost_while_no_agent_ran_come_back_from_endpoints(world: World) -> None:
    """At its start an agent reads what a pod had from its endpoint: both NICs, both families, gateway and routes."""
    world.pool("blue", gateway="10.6.0.1", routes=[{"dst": "192.168.0.0/24", "gw": "10.6.0.9"}])
    world.pool("six", "fd00::/64")
    pod = world.pod(annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"})
    async with world.agent() as agent:
        await agent.add(pod, "eth0")
        await agent.add(pod, "net1")
        await until(lambda: any(e.status and len(e.status.current.ips) == 2 for e in world.cluster.all(SpiderEndpoint)))
    lost = restore(world)

    async with world.agent():
        await until(lambda: len(world.held()) == 4)

    def told(records: tuple[SpiderIP, ...]) -> list[object]:
        forgotten = {"container_id": "", "network": ""}
        return [replace(record.spec, holder=replace(record.spec.holder, **forgotten)) for record in records]

    assert told(lost) == told(world.cluster.all(SpiderIP))


@pytest.mark.parametrize("worn", [True, False])
async def test_one_of_two_records_lost_while_no_agent_ran_comes_back(world: World, worn: bool) -> None:
    """A pod that still has a record for one NIC is given that of the other NIC again, if that wears the address."""
    world.pool("blue", gateway="10.6.0.1")
    pod = world.pod(annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"})
    async with world.agent() as agent:
        await agent.add(pod, "eth0")
        await agent.add(pod, "net1")
        await until(lambda: any(e.status and len(e.status.current.ips) == 2 for e in world.cluster.all(SpiderEndpoint)))
    before = world.held()
    lost = next(record for record in world.cluster.all(SpiderIP) if record.spec.holder.nic == "net1")
    world.cluster.drop(SpiderIP, lost.metadata.name)
    net1 = WornInterface(nic="net1", addresses=(f"{lost.spec.ip}/16",) if worn else ())

    async def look() -> tuple[WornNamespace, ...]:
        return (WornNamespace(path="/var/run/netns/x", pod_uid=pod.metadata.uid, interfaces=(net1,)),)

    async with world.agent(look=look) as agent:
        await agent.app.comeback.looked.wait()

    assert world.held() == (before if worn else {ip: name for ip, name in before.items() if ip != lost.spec.ip})


async def test_endpoints_stay_until_all_records_are_made_again(world: World) -> None:
    """With many pods the last ones are looked at late; until then their endpoints are all that tells what they had."""
    world.pool("blue", ips=["10.6.0.10-10.6.0.60"])
    pods = [world.pod(f"web-{number}") for number in range(30)]
    async with world.agent() as agent:
        for pod in pods:
            await agent.add(pod)
        await until(lambda: len(world.cluster.all(SpiderEndpoint)) == len(pods))
    before = world.held()
    restore(world)

    world.cluster.faults.latency_s = 0.002
    async with world.agent():
        await until(lambda: len(world.held()) == len(pods), timeout_s=1.5)

    assert before == world.held()


async def test_a_record_comes_back_from_the_pod_s_status(world: World) -> None:
    """Without an endpoint the address in the pod's status is claimed, if exactly one pool has it."""
    world.pool("blue", gateway="10.6.0.1")
    pod = world.pod()
    world.cluster.seed(replace(pod, status=replace(pod.status, pod_ips=(PodIP(ip="10.6.0.15"), PodIP(ip="192.0.2.1")))))

    async with world.agent():
        await until(lambda: world.held() == {"10.6.0.15": "web-1"})

    (record,) = world.cluster.all(SpiderIP)
    assert ("blue", 16, "10.6.0.1", "eth0") == (
        record.spec.pool,
        record.spec.prefix_length,
        record.spec.gateway,
        record.spec.holder.nic,
    )


async def test_a_comeback_makes_the_repeated_add_give_the_same_address(world: World) -> None:
    """After etcd lost the record, a new sandbox of the pod gets the address that the pod had."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        before = await agent.add(pod)
        restore(world)
        await until(lambda: bool(world.held()))
        after = await agent.add(pod, container="sandbox-2")

    assert before == after


async def test_an_address_in_other_hands_is_told_and_left(world: World) -> None:
    """If somebody else holds the address by now, an Event and a metric say so, and nothing is changed."""
    world.pool()
    pod = world.pod()
    async with world.agent() as agent:
        answer = await agent.add(pod)
        await until(lambda: bool(world.cluster.all(SpiderEndpoint)))
    restore(world)
    (ip,) = ips(answer)
    thief = world.cluster.seed(make_record(ip, facts=make_facts(pod=make_pod("thief", uid="t", node="node2"))))

    async with world.agent() as agent:
        await until(lambda: bool(world.cluster.all(Event)))
        metrics = agent.app.metrics.render().decode()

    (event,) = world.cluster.all(Event)
    assert ("IPAddressLost", "web-1") == (event.reason, event.involved_object.name)
    assert f"{ip} on eth0 of pod ns/web-1 is held by ns/thief on node node2" in event.message
    assert (thief,) == world.cluster.all(SpiderIP)
    assert (
        'spiderpool_ipam_lost_address_counts_total{otel_scope_name="spiderpool-agent",otel_scope_version="v0"} 1.0' in metrics
    )


async def test_an_undone_add_does_not_come_back(world: World) -> None:
    """What a failed ADD took back is not made again, though its pod lives and the watch tells of the deletion first."""
    world.pool("blue")
    world.pool("six", "fd00::/64", ips=[])
    pod = world.pod()

    async with world.agent() as agent:
        for _ in range(3):
            await asyncio.gather(agent.add(pod), return_exceptions=True)
        await asyncio.sleep(0.05)

    assert {} == world.held()


async def test_the_record_of_a_pod_that_ended_does_not_come_back(world: World) -> None:
    """A record that the controller reclaims stays away."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        world.cluster.drop(Pod, "web-1", "ns")
        restore(world)
        await asyncio.sleep(0.05)

    assert {} == world.held()


async def test_a_pod_that_went_while_no_agent_ran_gets_nothing_back(world: World) -> None:
    """A list of pods from the API server's memory may still show a pod whose DEL is over, and its endpoint is deleted late."""
    world.pool()
    pod = world.pod()
    async with world.agent() as agent:
        await agent.add(pod)
        await until(lambda: bool(world.cluster.all(SpiderEndpoint)))
    restore(world)
    world.cluster.hold_watch()
    world.cluster.drop(Pod, "web-1", "ns")

    async with world.agent():
        await until(lambda: world.cluster.count("get", Pod) == 1)
        await asyncio.sleep(0.02)

    assert {} == world.held()


async def test_an_endpoint_that_cannot_be_read_hinders_no_other_pod(world: World) -> None:
    """An endpoint that somebody edited into nonsense is passed over."""
    world.pool()
    broken, whole = world.pod("broken"), world.pod("whole")
    async with world.agent() as agent:
        await agent.add(broken)
        await agent.add(whole)
        await until(lambda: len(world.cluster.all(SpiderEndpoint)) == 2)
    restore(world)
    endpoint = next(e for e in world.cluster.all(SpiderEndpoint) if e.metadata.name == "broken")
    assert endpoint.status is not None
    nonsense = tuple(replace(nic, ipv4="10.6.0.300/16") for nic in endpoint.status.current.ips)
    current = replace(endpoint.status.current, ips=nonsense)
    world.cluster.seed(replace(endpoint, status=replace(endpoint.status, current=current)))

    async with world.agent():
        await until(lambda: bool(world.held()))

    assert ["whole"] == list(world.held().values())


async def test_pods_of_the_node_s_own_network_are_left_alone(world: World) -> None:
    """A hostNetwork pod has no address of its own."""
    world.pool()
    pod = world.pod()
    own = replace(pod.spec, host_network=True)
    world.cluster.seed(replace(pod, spec=own, status=replace(pod.status, pod_ips=(PodIP(ip="10.6.0.15"),))))

    async with world.agent():
        await asyncio.sleep(0.05)

    assert {} == world.held()


async def test_an_absent_api_server_only_delays(world: World) -> None:
    """The look at the start is repeated until it succeeds."""
    world.pool()
    pod = world.pod()
    world.cluster.seed(replace(pod, status=replace(pod.status, pod_ips=(PodIP(ip="10.6.0.15"),))))
    world.cluster.faults.fail_next("get", SpiderEndpoint, Unreachable("down"), times=3)

    async with world.agent():
        await until(lambda: world.held() == {"10.6.0.15": "web-1"}, timeout_s=1.5)


async def test_a_comeback_and_an_add_do_not_both_claim(world: World) -> None:
    """An ADD that runs while records are made again waits its turn, or the comeback does: one address in the end."""
    world.pool()
    pod = world.pod()
    async with world.agent() as agent:
        await agent.add(pod)
        await until(lambda: bool(world.cluster.all(SpiderEndpoint)))
    restore(world)

    async with world.agent() as agent:
        world.cluster.faults.latency_s = 0.005
        await asyncio.gather(*(agent.add(pod) for _ in range(3)))
        world.cluster.faults.latency_s = 0
        await asyncio.sleep(0.1)

    assert 1 == len(world.held())


async def test_a_pod_that_waits_for_its_first_address_holds_nobody_up(world: World) -> None:
    """While an ADD waits for a full pool, the look at all pods ends, and endpoints are written."""
    world.pool("full", ips=["10.6.0.200"], default=False)
    world.cluster.seed(make_record("10.6.0.200", pool=make_pool("full", ips=["10.6.0.200"])))
    world.pool("blue")
    waiting = world.pod("waiting", annotations={"ipam.spidernet.io/ippool": {"ipv4": ["full"]}})
    pod = world.pod()

    world.cluster.faults.latency_s = 0.02
    async with world.agent(wait_s=1.0) as agent:
        add = asyncio.create_task(agent.add(waiting))
        await agent.add(pod)
        world.cluster.faults.latency_s = 0
        await until(lambda: bool(world.cluster.all(SpiderEndpoint)), timeout_s=0.5)
        assert not add.done()
        await asyncio.gather(add, return_exceptions=True)
