"""When things come back: living pods without a record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.agent.interfaces import InUseInterface, InUseNamespace
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Event, Pod, PodIP
from spiderpool.errors import Rejected, UnknownOutcome, Unreachable
from spiderpool.model.limits import NICS
from spiderpool.records import lost_records as lost_module
from tests.fakes.objects import make_facts, make_pod, make_pool, make_record
from tests.unit.agent.reconcile.test_endpoints import until
from tests.unit.agent.simulation import Simulation, ips


def restore(simulation: Simulation) -> tuple[SpiderIP, ...]:
    """
    Let a backup of etcd come back from before the records were made.

    Give the records that are lost.
    """
    lost = simulation.cluster.all(SpiderIP)
    for record in lost:
        simulation.cluster.drop(SpiderIP, record.metadata.name)
    return lost


def wearing(lost: Iterable[SpiderIP]) -> Callable[[], Awaitable[tuple[InUseNamespace, ...]]]:
    """Look into a node whose pods still have the addresses of lost records."""
    nics: dict[str, list[InUseInterface]] = {}
    for record in lost:
        address = f"{record.spec.ip}/{record.spec.prefix_length}"
        link = InUseInterface(nic=record.spec.holder.nic, addresses=(address,))
        nics.setdefault(record.spec.holder.uid, []).append(link)
    found = tuple(
        InUseNamespace(path=f"/var/run/netns/{uid}", pod_uid=uid, interfaces=tuple(links))
        for uid, links in nics.items()
    )

    async def look() -> tuple[InUseNamespace, ...]:
        return found

    return look


async def test_a_record_deleted_by_hand_is_made_again(simulation: Simulation) -> None:
    """While its pod lives a record comes back with all that it said."""
    simulation.pool(gateway="10.6.0.1")
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod, network="macvlan")
        await asyncio.sleep(0.02)
        (lost,) = restore(simulation)
        await until(lambda: bool(simulation.held()))

    (record,) = simulation.cluster.all(SpiderIP)
    assert (lost.spec, lost.metadata.labels) == (record.spec, record.metadata.labels)


async def test_records_lost_while_no_agent_ran_come_back_from_endpoints(
    simulation: Simulation,
) -> None:
    """
    At its start an agent reads what a pod had from its endpoint.

    Both NICs, both families, gateway and routes.
    """
    simulation.pool(
        "blue", gateway="10.6.0.1", routes=[{"dst": "192.168.0.0/24", "gw": "10.6.0.9"}]
    )
    simulation.pool("six", "fd00::/64")
    pod = simulation.pod(annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"})
    async with simulation.agent() as agent:
        await agent.add(pod, "eth0")
        await agent.add(pod, "net1")
        await until(
            lambda: any(
                e.status and len(e.status.current.ips) == 2
                for e in simulation.cluster.all(SpiderEndpoint)
            )
        )
    lost = restore(simulation)

    async with simulation.agent(look=wearing(lost)):
        await until(lambda: len(simulation.held()) == 4)

    def told(records: tuple[SpiderIP, ...]) -> list[object]:
        forgotten = {"container_id": "", "network": ""}
        return [
            replace(record.spec, holder=replace(record.spec.holder, **forgotten))
            for record in records
        ]

    assert told(lost) == told(simulation.cluster.all(SpiderIP))


async def test_an_endpoint_that_anybody_wrote_makes_no_record(simulation: Simulation) -> None:
    """An endpoint counts for what the pod has on an interface, or in its status, in a pool that exists."""
    simulation.pool("blue")
    pod = simulation.pod()
    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: bool(simulation.cluster.all(SpiderEndpoint)))
    lost = restore(simulation)
    (endpoint,) = simulation.cluster.all(SpiderEndpoint)
    assert endpoint.status is not None
    (nic,) = endpoint.status.current.ips
    booked = tuple(
        replace(nic, interface=f"net{number}", ipv4=f"10.6.0.{number}/16")
        for number in range(12, 19)
    )
    elsewhere = replace(nic, ipv4_pool="none")
    current = replace(endpoint.status.current, ips=(elsewhere, *booked))
    simulation.cluster.seed(replace(endpoint, status=replace(endpoint.status, current=current)))

    async with simulation.agent(look=wearing(lost)) as agent:
        await agent.app.restore.looked.wait()

    assert {(record.spec.ip, "blue", "eth0") for record in lost} == slots(simulation)


@pytest.mark.parametrize("in_use", [True, False])
async def test_one_of_two_records_lost_while_no_agent_ran_comes_back(
    simulation: Simulation, in_use: bool
) -> None:
    """A pod that still has a record for one NIC is given that of the other NIC again, if that has the address."""
    simulation.pool("blue", gateway="10.6.0.1")
    pod = simulation.pod(annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"})
    async with simulation.agent() as agent:
        await agent.add(pod, "eth0")
        await agent.add(pod, "net1")
        await until(
            lambda: any(
                e.status and len(e.status.current.ips) == 2
                for e in simulation.cluster.all(SpiderEndpoint)
            )
        )
    before = simulation.held()
    lost = next(
        record for record in simulation.cluster.all(SpiderIP) if record.spec.holder.nic == "net1"
    )
    simulation.cluster.drop(SpiderIP, lost.metadata.name)
    net1 = InUseInterface(nic="net1", addresses=(f"{lost.spec.ip}/16",) if in_use else ())

    async def look() -> tuple[InUseNamespace, ...]:
        return (
            InUseNamespace(path="/var/run/netns/x", pod_uid=pod.metadata.uid, interfaces=(net1,)),
        )

    async with simulation.agent(look=look) as agent:
        await agent.app.restore.looked.wait()

    assert simulation.held() == (
        before if in_use else {ip: name for ip, name in before.items() if ip != lost.spec.ip}
    )


async def test_endpoints_stay_until_all_records_are_made_again(simulation: Simulation) -> None:
    """
    With many pods the last ones are looked at late.

    Until then their endpoints are all that tells what they had.
    """
    simulation.pool("blue", ips=["10.6.0.10-10.6.0.60"])
    pods = [simulation.pod(f"web-{number}") for number in range(30)]
    async with simulation.agent() as agent:
        for pod in pods:
            await agent.add(pod)
        await until(lambda: len(simulation.cluster.all(SpiderEndpoint)) == len(pods))
    before = simulation.held()
    lost = restore(simulation)

    simulation.cluster.faults.latency_s = 0.002
    async with simulation.agent(look=wearing(lost)):
        await until(lambda: len(simulation.held()) == len(pods), timeout_s=1.5)

    assert before == simulation.held()


async def test_a_record_comes_back_from_the_pod_s_status(simulation: Simulation) -> None:
    """Without an endpoint the address in the pod's status is claimed, if exactly one pool has it."""
    simulation.pool("blue", gateway="10.6.0.1")
    pod = simulation.pod()
    simulation.cluster.seed(
        replace(
            pod, status=replace(pod.status, pod_ips=(PodIP(ip="10.6.0.15"), PodIP(ip="192.0.2.1")))
        )
    )

    async with simulation.agent():
        await until(lambda: simulation.held() == {"10.6.0.15": "web-1"})

    (record,) = simulation.cluster.all(SpiderIP)
    assert ("blue", 16, "10.6.0.1", "eth0") == (
        record.spec.pool,
        record.spec.prefix_length,
        record.spec.gateway,
        record.spec.holder.nic,
    )


async def test_a_restore_makes_the_repeated_add_give_the_same_address(
    simulation: Simulation,
) -> None:
    """After etcd lost the record, a new sandbox of the pod gets the address that the pod had."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        before = await agent.add(pod)
        restore(simulation)
        await until(lambda: bool(simulation.held()))
        after = await agent.add(pod, container="sandbox-2")

    assert before == after


async def test_an_address_in_other_hands_is_told_and_left(simulation: Simulation) -> None:
    """If somebody else holds the address by now, an Event and a metric say so, and nothing is changed."""
    simulation.pool()
    pod = simulation.pod()
    async with simulation.agent() as agent:
        answer = await agent.add(pod)
        await until(lambda: bool(simulation.cluster.all(SpiderEndpoint)))
    lost = restore(simulation)
    (ip,) = ips(answer)
    thief = simulation.cluster.seed(
        make_record(ip, facts=make_facts(pod=make_pod("thief", uid="t", node="node2")))
    )

    async with simulation.agent(look=wearing(lost)) as agent:
        await until(lambda: bool(simulation.cluster.all(Event)))
        metrics = agent.app.metrics.render().decode()

    (event,) = simulation.cluster.all(Event)
    assert ("IPAddressLost", "web-1") == (event.reason, event.involved_object.name)
    assert f"{ip} on eth0 of pod ns/web-1 is held by ns/thief on node node2" in event.message
    assert (thief,) == simulation.cluster.all(SpiderIP)
    assert (
        'spiderpool_ipam_lost_address_counts_total{otel_scope_name="spiderpool-agent",otel_scope_version="v0"} 1.0'
        in metrics
    )


async def test_an_undone_add_does_not_come_back(simulation: Simulation) -> None:
    """What a failed ADD took back is not made again, though its pod lives and the watch tells of the deletion first."""
    simulation.pool("blue")
    simulation.pool("six", "fd00::/64", ips=[])
    pod = simulation.pod()

    async with simulation.agent() as agent:
        for _ in range(3):
            await asyncio.gather(agent.add(pod), return_exceptions=True)
        await asyncio.sleep(0.05)

    assert {} == simulation.held()


async def test_the_record_of_a_pod_that_ended_does_not_come_back(simulation: Simulation) -> None:
    """A record that the controller reclaims stays away."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        simulation.cluster.drop(Pod, "web-1", "ns")
        restore(simulation)
        await asyncio.sleep(0.05)

    assert {} == simulation.held()


async def test_a_pod_that_went_while_no_agent_ran_gets_nothing_back(simulation: Simulation) -> None:
    """A list of pods from the API server's memory may still show a pod whose DEL is over, and its endpoint is deleted late."""
    simulation.pool()
    pod = simulation.pod()
    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: bool(simulation.cluster.all(SpiderEndpoint)))
    lost = restore(simulation)
    simulation.cluster.hold_watch()
    simulation.cluster.drop(Pod, "web-1", "ns")

    async with simulation.agent(look=wearing(lost)):
        await until(lambda: simulation.cluster.count("get", Pod) == 1)
        await asyncio.sleep(0.02)

    assert {} == simulation.held()


async def test_an_endpoint_that_cannot_be_read_hinders_no_other_pod(simulation: Simulation) -> None:
    """An endpoint that somebody edited into nonsense is passed over."""
    simulation.pool()
    broken, whole = simulation.pod("broken"), simulation.pod("whole")
    async with simulation.agent() as agent:
        await agent.add(broken)
        await agent.add(whole)
        await until(lambda: len(simulation.cluster.all(SpiderEndpoint)) == 2)
    lost = restore(simulation)
    endpoint = next(
        e for e in simulation.cluster.all(SpiderEndpoint) if e.metadata.name == "broken"
    )
    assert endpoint.status is not None
    nonsense = tuple(replace(nic, ipv4="10.6.0.300/16") for nic in endpoint.status.current.ips)
    current = replace(endpoint.status.current, ips=nonsense)
    simulation.cluster.seed(replace(endpoint, status=replace(endpoint.status, current=current)))

    async with simulation.agent(look=wearing(lost)):
        await until(lambda: bool(simulation.held()))

    assert ["whole"] == list(simulation.held().values())


async def test_pods_of_the_node_s_own_network_are_left_alone(simulation: Simulation) -> None:
    """A hostNetwork pod has no address of its own."""
    simulation.pool()
    pod = simulation.pod()
    own = replace(pod.spec, host_network=True)
    simulation.cluster.seed(
        replace(pod, spec=own, status=replace(pod.status, pod_ips=(PodIP(ip="10.6.0.15"),)))
    )

    async with simulation.agent():
        await asyncio.sleep(0.05)

    assert {} == simulation.held()


async def test_an_absent_api_server_only_delays(simulation: Simulation) -> None:
    """The look at the start is repeated until it succeeds."""
    simulation.pool()
    pod = simulation.pod()
    simulation.cluster.seed(
        replace(pod, status=replace(pod.status, pod_ips=(PodIP(ip="10.6.0.15"),)))
    )
    simulation.cluster.faults.fail_next("get", SpiderEndpoint, Unreachable("down"), times=3)

    async with simulation.agent():
        await until(lambda: simulation.held() == {"10.6.0.15": "web-1"}, timeout_s=1.5)


async def test_a_restore_and_an_add_do_not_both_claim(simulation: Simulation) -> None:
    """
    An ADD that runs while records are made again waits its lock, or the comeback does.

    One address in the end.
    """
    simulation.pool()
    pod = simulation.pod()
    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: bool(simulation.cluster.all(SpiderEndpoint)))
    restore(simulation)

    async with simulation.agent() as agent:
        simulation.cluster.faults.latency_s = 0.005
        await asyncio.gather(*(agent.add(pod) for _ in range(3)))
        simulation.cluster.faults.latency_s = 0
        await asyncio.sleep(0.1)

    assert 1 == len(simulation.held())


async def test_a_pod_that_waits_for_its_first_address_holds_nobody_up(
    simulation: Simulation,
) -> None:
    """While an ADD waits for a full pool, the look at all pods ends, and endpoints are written."""
    simulation.pool("full", ips=["10.6.0.200"], default=False)
    simulation.cluster.seed(make_record("10.6.0.200", pool=make_pool("full", ips=["10.6.0.200"])))
    simulation.pool("blue")
    waiting = simulation.pod(
        "waiting", annotations={"ipam.spidernet.io/ippool": {"ipv4": ["full"]}}
    )
    pod = simulation.pod()

    simulation.cluster.faults.latency_s = 0.02
    async with simulation.agent(wait_s=1.0) as agent:
        add = asyncio.create_task(agent.add(waiting))
        await agent.add(pod)
        simulation.cluster.faults.latency_s = 0
        await until(lambda: bool(simulation.cluster.all(SpiderEndpoint)), timeout_s=0.5)
        assert not add.done()
        await asyncio.gather(add, return_exceptions=True)


async def test_one_bad_pod_does_not_end_the_restore(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody expected costs one pod its restore for now, and no other pod."""
    simulation.pool()
    pods = [simulation.pod(name) for name in ("web-1", "web-2")]
    async with simulation.agent() as agent:
        for pod in pods:
            await agent.add(pod)
        await until(lambda: len(simulation.cluster.all(SpiderEndpoint)) == 2)
    lost = restore(simulation)
    read = lost_module.records_of_endpoint

    def fail_for_one(endpoint: SpiderEndpoint, pod: Pod, *more: Any) -> tuple[SpiderIP, ...]:
        if pod.metadata.name == "web-1":
            raise ValueError("a text that is no address")
        return read(endpoint, pod, *more)

    monkeypatch.setattr(lost_module, "records_of_endpoint", fail_for_one)
    async with simulation.agent(look=wearing(lost)) as agent:
        await until(lambda: bool(simulation.held()))
        await agent.app.restore.looked.wait()

        assert ["web-2"] == list(simulation.held().values())


def namespace_with(uid: str, **addresses: str) -> InUseNamespace:
    """Make the namespace of a pod: NIC → address."""
    links = tuple(InUseInterface(nic=nic, addresses=(ip,)) for nic, ip in addresses.items())
    return InUseNamespace(path="/var/run/netns/x", pod_uid=uid, interfaces=links)


def slots(simulation: Simulation) -> set[tuple[str, str, str]]:
    """Return what is held: address, pool, NIC."""
    return {
        (record.spec.ip, record.spec.pool, record.spec.holder.nic)
        for record in simulation.cluster.all(SpiderIP)
        if record.held
    }


async def test_a_write_that_was_not_committed_is_tried_again(simulation: Simulation) -> None:
    """The API server answers 504 and has not written: the record is made all the same."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        held = simulation.held()
        lost = UnknownOutcome("the API server answered 504")
        simulation.cluster.faults.fail_next("create", SpiderIP, lost, times=3)
        restore(simulation)
        await until(lambda: simulation.held() == held, timeout_s=10)


async def test_a_pod_that_cannot_have_its_record_holds_up_no_other(simulation: Simulation) -> None:
    """
    While one record cannot be written, those of other pods are made.

    It is tried as long as its pod lives.
    """
    simulation.pool()
    first, second = simulation.pod("first"), simulation.pod("second")

    async with simulation.agent() as agent:
        await agent.add(first)
        await agent.add(second)
        held = {name: ip for ip, name in simulation.held().items()}
        await agent.app.restore.looked.wait()
        lost = UnknownOutcome("the API server answered 504")
        simulation.cluster.faults.fail_next("create", SpiderIP, lost, times=2)
        simulation.cluster.drop(SpiderIP, held["first"])
        simulation.cluster.drop(SpiderIP, held["second"])
        simulation.cluster.drop(Pod, "first", "ns")
        await until(lambda: ["second"] == list(simulation.held().values()), timeout_s=10)
        await asyncio.sleep(60)

    assert ["second"] == list(simulation.held().values())


async def test_what_was_refused_is_looked_at_again(simulation: Simulation) -> None:
    """A write that the API server refused now may be welcome ten minutes later."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        await agent.app.restore.looked.wait()
        held = simulation.held()
        simulation.cluster.faults.fail_next("create", SpiderIP, Rejected("a webhook says no"))
        restore(simulation)
        await asyncio.sleep(60)
        assert {} == simulation.held()
        await asyncio.sleep(600)

    assert held == simulation.held()


async def test_everything_is_compared_again(simulation: Simulation) -> None:
    """
    Ten minutes after the start at the latest an agent sees what nobody told it.

    All NICs, both families.
    """
    uses: list[InUseNamespace] = []

    async def look() -> tuple[InUseNamespace, ...]:
        return tuple(uses)

    simulation.pool("blue", "10.6.0.0/16")
    simulation.pool("green", "10.7.0.0/16", ips=["10.7.0.10-10.7.0.19"])
    simulation.pool("six", "fd00::/64")
    pod = simulation.pod()
    async with simulation.agent(look=look) as agent:
        await agent.app.restore.looked.wait()
        uses.append(namespace_with(pod.metadata.uid, eth0="10.6.0.12/16", net1="10.7.0.13/16"))
        uses.append(namespace_with(pod.metadata.uid, net1="fd00::15/64", tun0="192.0.2.1/24"))
        await asyncio.sleep(600)

    assert {
        ("10.6.0.12", "blue", "eth0"),
        ("10.7.0.13", "green", "net1"),
        ("fd00::15", "six", "net1"),
    } == slots(simulation)


async def test_pools_that_appear_give_running_pods_their_records(simulation: Simulation) -> None:
    """
    A reinstallation.

    Pods run, records, endpoints and pools are gone, pools are applied later.
    """
    pod = simulation.pod()
    uses = namespace_with(pod.metadata.uid, eth0="10.6.0.12/16", net1="10.7.0.13/16")

    async def look() -> tuple[InUseNamespace, ...]:
        return (uses,)

    async with simulation.agent(look=look) as agent:
        await agent.app.restore.looked.wait()
        simulation.pool("blue", "10.6.0.0/16")
        simulation.pool("green", "10.7.0.0/16", ips=["10.7.0.10-10.7.0.19"])
        await asyncio.sleep(10)

    assert {("10.6.0.12", "blue", "eth0"), ("10.7.0.13", "green", "net1")} == slots(simulation)


async def test_a_former_sandbox_takes_no_second_record(simulation: Simulation) -> None:
    """A pod whose NIC has a record gets none for what its former sandbox still has."""
    simulation.pool()
    pod = simulation.pod()
    uses: list[InUseNamespace] = []

    async def look() -> tuple[InUseNamespace, ...]:
        return tuple(uses)

    async with simulation.agent(look=look) as agent:
        await agent.add(pod)
        (ip,) = simulation.held()
        other = "10.6.0.11" if ip == "10.6.0.10" else "10.6.0.10"
        uses += [
            namespace_with(pod.metadata.uid, eth0=f"{other}/16"),
            namespace_with("", eth0="10.6.0.12/16"),
        ]
        await asyncio.sleep(700)

    assert [ip] == list(simulation.held())


async def test_interfaces_without_number_hold_no_more_than_a_pod_can_ask_for(
    simulation: Simulation,
) -> None:
    """A pod with NET_ADMIN that makes two hundred interfaces with addresses of the pool does not empty it."""
    simulation.pool("blue", ips=["10.6.0.10-10.6.0.250"])
    pod = simulation.pod()
    links = tuple(
        InUseInterface(nic=f"d{number}", addresses=(f"10.6.0.{number}/16",))
        for number in range(10, 210)
    )
    found = InUseNamespace(path="/var/run/netns/x", pod_uid=pod.metadata.uid, interfaces=links)

    async def look() -> tuple[InUseNamespace, ...]:
        return (found,)

    async with simulation.agent(look=look) as agent:
        await agent.app.restore.looked.wait()

    assert 1 + NICS == len(simulation.held())
