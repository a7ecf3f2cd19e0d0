"""Exact addresses through the agent: `ipam.spidernet.io/ip`, `ips` and `IP` alike."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest

from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Event, Pod
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import AddressHeld, Exhausted, InvalidRequest, NoPool
from spiderpool.records.build import let_go
from tests.fakes.objects import make_facts, make_pod, make_record, make_statefulset
from tests.unit.agent.reconcile.test_endpoints import until
from tests.unit.agent.simulation import Simulation, ips

IP = "ipam.spidernet.io/ip"
IPPOOL = "ipam.spidernet.io/ippool"


async def test_a_pinned_pod_gets_its_address_by_one_create(simulation: Simulation) -> None:
    """A pin costs nothing more than any other ADD."""
    simulation.pool()
    pod = simulation.pod(annotations={IP: "10.6.0.15"})

    async with simulation.agent() as agent:
        answer = await agent.add(pod)

    assert ["10.6.0.15"] == ips(answer)
    assert 1 == simulation.cluster.count("create", SpiderIP)


async def test_both_families_and_all_nics_are_pinned(simulation: Simulation) -> None:
    """
    Each NIC and family gets the address that the annotation gives it.

    What is not pinned is free.
    """
    simulation.pool("blue", default=False)
    simulation.pool("six", "fd00::/64", default=False)
    simulation.pool("red", "10.7.0.0/16", default=False, ips=["10.7.0.10-10.7.0.19"])
    pod = simulation.pod(
        annotations={
            "ipam.spidernet.io/ippools": [
                {"interface": "eth0", "ipv4": ["blue"], "ipv6": ["six"]},
                {"interface": "net1", "ipv4": ["red"]},
            ],
            "k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1",
            IP: [
                {"interface": "eth0", "ipv6": ["fd00::13"]},
                {"interface": "net1", "ipv4": ["10.7.0.17"]},
            ],
        }
    )

    async with simulation.agent() as agent:
        await agent.add(pod)

    held = simulation.held()
    assert {"fd00::13", "10.7.0.17"} < set(held)
    assert 3 == len(held)


async def test_a_held_address_is_refused_with_its_holder(simulation: Simulation) -> None:
    """The second pod hears in error and Event who has its address, on which interface and node."""
    simulation.pool()
    first = simulation.pod("web-1", annotations={IP: "10.6.0.15"}, node="node2")
    second = simulation.pod("web-2", annotations={IP: "10.6.0.15"})
    words = "10.6.0.15, which is asked for, is held by pod ns/web-1 (eth0, node node2)"

    async with simulation.agent("node2") as two, simulation.agent("node1") as one:
        await two.add(first)
        with pytest.raises(AddressHeld) as caught:
            await one.add(second)
        await until(lambda: bool(simulation.cluster.all(Event)))

    assert words in caught.value.message
    assert [("IPAddressHeld", "web-2")] == [
        (e.reason, e.involved_object.name) for e in simulation.cluster.all(Event)
    ]
    assert ["web-1"] == list(simulation.held().values())


async def test_an_address_of_no_pool_is_refused(simulation: Simulation) -> None:
    """An address that no pool of the pod has is no request that a pool could serve."""
    simulation.pool("blue", default=False)
    pod = simulation.pod(annotations={IPPOOL: {"ipv4": ["blue"]}, IP: "10.6.9.9"})

    async with simulation.agent() as agent:
        with pytest.raises(NoPool, match=r"blue: does not have 10\.6\.9\.9, which is asked for"):
            await agent.add(pod)


async def test_the_pool_that_has_the_address_serves_whatever_its_place(
    simulation: Simulation,
) -> None:
    """Of several pools the one with the pinned address gives it."""
    simulation.pool("blue", default=False)
    simulation.pool("red", "10.7.0.0/16", default=False, ips=["10.7.0.10"])
    pod = simulation.pod(annotations={IPPOOL: {"ipv4": ["blue", "red"]}, IP: "10.7.0.10"})

    async with simulation.agent() as agent:
        assert ["10.7.0.10"] == ips(await agent.add(pod))


async def test_a_reserved_address_is_refused(simulation: Simulation) -> None:
    """A reservation binds pins as well."""
    simulation.pool()
    simulation.cluster.seed(
        SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ips=("10.6.0.15",)))
    )
    pod = simulation.pod(annotations={IP: "10.6.0.15"})

    async with simulation.agent() as agent:
        with pytest.raises(
            Exhausted, match=r"10\.6\.0\.15, which is asked for, is reserved by a SpiderReservedIP"
        ):
            await agent.add(pod)


async def test_a_pinned_address_that_rests_is_taken(simulation: Simulation) -> None:
    """Who wants exactly this address need not wait until it has rested, whatever held it before."""
    simulation.pool()
    other = make_record(
        "10.6.0.15", facts=make_facts(pod=make_pod("other", uid="other", node="node2"))
    )
    simulation.cluster.seed(let_go(other, IPState.COOLING, "2026-01-01T00:00:00Z"))
    pod = simulation.pod(annotations={IP: "10.6.0.15"})

    async with simulation.agent() as agent:
        assert ["10.6.0.15"] == ips(await agent.add(pod))


async def test_a_pinned_pod_waits_for_its_predecessor(simulation: Simulation) -> None:
    """A pod that is made again gets the address of the one before it as soon as that is released, on whatever node."""
    simulation.pool()
    first = simulation.pod("web-1", annotations={IP: "10.6.0.15"}, node="node2")
    second = simulation.pod("web-2", annotations={IP: "10.6.0.15"})

    async with simulation.agent("node2") as two, simulation.agent("node1", wait_s=2) as one:
        await two.add(first)
        adding = asyncio.create_task(one.add(second))
        await asyncio.sleep(0.1)
        simulation.cluster.drop(Pod, "web-1", "ns")
        await asyncio.sleep(0.01)
        await two.delete(first)
        assert ["10.6.0.15"] == ips(await adding)


def db(simulation: Simulation, number: int, pin: Any, **more: Any) -> Pod:
    """Have a pod of StatefulSet db with a pin."""
    return simulation.pod(f"db-{number}", stateful=True, annotations={IP: pin}, **more)


async def test_the_ordinals_of_a_statefulset_walk_the_list(simulation: Simulation) -> None:
    """
    Replica i gets address i, counted from where the ordinals start.

    A replica beyond the list is refused.
    """
    simulation.pool()
    simulation.cluster.seed(make_statefulset("db", replicas=3, start=5))
    pin = ["10.6.0.18", "10.6.0.12-10.6.0.13"]

    async with simulation.agent() as agent:
        got = [ips(await agent.add(db(simulation, number, pin))) for number in (7, 5, 6)]
        with pytest.raises(InvalidRequest, match="3 IPv4 addresses are listed, none for replica 4"):
            await agent.add(db(simulation, 8, pin))

    assert [["10.6.0.13"], ["10.6.0.18"], ["10.6.0.12"]] == got


async def test_a_changed_pin_takes_effect_at_restart(simulation: Simulation) -> None:
    """A StatefulSet's pod that is made again with another pin gets that address, and lets the old one go."""
    simulation.pool()
    simulation.cluster.seed(make_statefulset("db", replicas=1))

    async with simulation.agent() as agent:
        await agent.add(db(simulation, 0, "10.6.0.12", uid="first"))
        simulation.cluster.drop(Pod, "db-0", "ns")
        await asyncio.sleep(0.01)
        assert ["10.6.0.13"] == ips(await agent.add(db(simulation, 0, "10.6.0.13", uid="second")))

    assert {"10.6.0.13": "db-0"} == simulation.held()


async def test_a_pin_of_the_call_is_the_same_request(simulation: Simulation) -> None:
    """CNI_ARGS `IP` and `ips` name eth0's address; another one than the annotation's is refused."""
    simulation.pool()
    pod = simulation.pod(annotations={IP: "10.6.0.15"})

    async with simulation.agent() as agent:
        with pytest.raises(
            InvalidRequest, match=r"asks for 10\.6\.0\.15 on eth0, the CNI call .* for 10\.6\.0\.16"
        ):
            await agent.add(pod, ips=(ip_address("10.6.0.16"),))
        assert ["10.6.0.15"] == ips(await agent.add(pod, ips=(ip_address("10.6.0.15"),)))
