"""Addresses that namespaces still have though their pods are gone and others may have them."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Event, Pod
from spiderpool.errors import Unreachable
from spiderpool.records.build import let_go
from tests.unit.agent.reconcile.test_endpoints import until
from tests.unit.agent.reconcile.test_suspected_records import Kernel, in_use
from tests.unit.agent.simulation import Simulation

IP = "10.6.0.10"
FENCED = [f"{IP} /var/run/netns/cni-1"]


async def test_a_fixed_address_that_went_elsewhere_is_taken_off_at_once(
    simulation: Simulation,
) -> None:
    """
    The next pod of the name has the address, on another node: what the former one left behind loses it.

    An Event on the pool tells it.
    """
    simulation.pool(ips=[IP])
    kernel = Kernel(*in_use(IP, "uid-db-0", "sandbox-uid-db-0", "app"))

    async with kernel.agent(simulation) as agent, simulation.agent("node2") as other:
        await agent.add(simulation.pod("db-0", stateful=True))
        simulation.cluster.drop(Pod, "db-0", "ns")
        await asyncio.sleep(0.01)
        assert [] == kernel.fenced
        await other.add(simulation.pod("db-0", "uid-2", stateful=True, node="node2"))
        await until(lambda: FENCED == kernel.fenced)
        await until(lambda: bool(simulation.cluster.all(Event)))

    assert {IP: "db-0"} == simulation.held()
    (event,) = simulation.cluster.all(Event)
    assert ("IPFenced", "blue") == (event.reason, event.involved_object.name)
    assert event.message.endswith("its pod is gone, and ns/db-0 holds it now")


@pytest.mark.parametrize("rests", [True, False])
async def test_what_nobody_holds_is_taken_off_after_a_minute(
    simulation: Simulation, rests: bool
) -> None:
    """A released address that a namespace still has, and one without a record, leave it."""
    simulation.pool(ips=[IP])
    kernel = Kernel(*in_use(IP, "uid-web-1", "sandbox-uid-web-1", "app"))

    async with kernel.agent(simulation) as agent:
        await agent.add(simulation.pod())
        (record,) = simulation.cluster.all(SpiderIP)
        if rests:
            simulation.cluster.seed(let_go(record, IPState.COOLING, "now"))
        simulation.cluster.drop(Pod, "web-1", "ns")
        if not rests:
            simulation.cluster.drop(SpiderIP, record.metadata.name)
        await asyncio.sleep(55)
        assert [] == kernel.fenced
        await asyncio.sleep(70)

    assert FENCED == kernel.fenced


async def test_who_may_live_is_left_alone(simulation: Simulation) -> None:
    """Nothing leaves a pod that lives, that only a live read knows, whose processes are no pod's, or that has none."""
    simulation.pool(ips=[IP])
    simulation.pod("other")
    (mine,) = in_use(IP, "uid-other")
    (late,) = in_use(IP, "uid-late")
    (bare,) = in_use(IP, "")
    (admin,) = in_use(IP, "uid-x")
    kernel = Kernel(mine, late, bare, replace(admin, others=True))

    async with kernel.agent(simulation) as agent:
        late_pod = simulation.pod("late")
        await asyncio.sleep(0.01)
        agent.app.informers.pods.forget(late_pod)
        await asyncio.sleep(300)
        assert agent.app.supervisor.trouble == ""

    assert [] == kernel.fenced


async def test_addresses_of_no_pool_are_not_ours(simulation: Simulation) -> None:
    """What another IPAM gave stays."""
    simulation.pool(ips=[IP])
    kernel = Kernel(*in_use("10.233.1.1", "uid-old"))

    async with kernel.agent(simulation):
        await asyncio.sleep(300)

    assert [] == kernel.fenced


async def test_an_api_server_that_is_away_only_delays(simulation: Simulation) -> None:
    """Without a word about the record nothing is done, and it is asked again."""
    simulation.pool(ips=[IP])
    kernel = Kernel(*in_use(IP, "uid-old"))
    simulation.cluster.faults.fail_next("get", SpiderIP, Unreachable("down"), times=20)

    async with kernel.agent(simulation):
        await asyncio.sleep(400)

    assert FENCED == kernel.fenced


async def test_reclaim_that_is_switched_off(simulation: Simulation) -> None:
    """Then nothing is taken off."""
    simulation.pool(ips=[IP])
    kernel = Kernel(*in_use(IP, "uid-old"))
    env = {"SPIDERPOOL_GC_IP_ENABLED": "false"}

    async with simulation.agent(look=kernel.look, fence=kernel.fence, env=env):
        await asyncio.sleep(300)

    assert [] == kernel.fenced
