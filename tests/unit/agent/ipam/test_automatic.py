"""
ADD with automatic pools.

Which pool an application's pods get, and how an ADD waits for it.

Source: docs/reference/automatic-pools.md#add-with-an-automatic-pool.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.addressing.ranges import parse_ranges
from spiderpool.agent.ipam.allocator import first_of
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import Application, SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import Exhausted, InvalidRequest, PoolPending
from spiderpool.ipam.automatic_pool import App, PoolPlan, build_pool
from spiderpool.ipam.pool_size import IPNumber
from spiderpool.model.subnet import Subnet
from tests.unit.agent.simulation import CONFIG, Simulation, ips

AUTO = replace(CONFIG, enable_spider_subnet=True, enable_auto_pool_for_application=True)
SUBNETS = "ipam.spidernet.io/subnets"
IMPORTED = {"ipam.spidernet.io/imported": "true"}
ITEMS = [{"interface": "eth0", "ipv4": ["s1"]}, {"interface": "net1", "ipv4": ["s2"]}]
NETWORK = {"k8s.v1.cni.cncf.io/networks": "net"}
NO_WAIT = {"SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES": "0"}


def auto_pool(
    simulation: Simulation,
    number: int = 1,
    count: int = 1,
    *,
    nic: str = "eth0",
    uid: str = "db-uid",
) -> SpiderIPPool:
    """Have an automatic pool of StatefulSet `db` in subnet `s<number>`, as the controller makes it."""
    network = f"10.{number}.0.0/16"
    spec = SubnetSpec(ip_version=4, subnet=network, ips=(f"10.{number}.0.1-10.{number}.0.9",))
    app = App(Application(api_version="apps/v1", kind="StatefulSet", name="db", uid=uid), "ns")
    plan = PoolPlan(
        name=f"auto4-db-{nic}-{uid[:5]}",
        app=app,
        nic=nic,
        subnet=Subnet.parse(SpiderSubnet(metadata=ObjectMeta(name=f"s{number}"), spec=spec)),
        ips=parse_ranges(4, [f"10.{number}.0.1-10.{number}.0.{count}"]),
        number=IPNumber(1, flexible=True),
        reclaim=True,
    )
    pool = build_pool(plan)
    return simulation.cluster.seed(
        replace(pool, metadata=replace(pool.metadata, annotations=IMPORTED, uid=f"{nic}-{uid}"))
    )


def db_pod(
    simulation: Simulation, name: str = "db-0", annotations: dict[str, Any] | None = None
) -> Pod:
    """Have a pod of StatefulSet `db` that wants automatic pools."""
    return simulation.pod(
        name, stateful=True, annotations=annotations or {SUBNETS: ITEMS, **NETWORK}
    )


async def test_each_nic_has_its_own_pool(simulation: Simulation) -> None:
    """A NIC gets an address of the pool that was made for it, and of no other."""
    auto_pool(simulation, 1)
    auto_pool(simulation, 2, nic="net1")
    pod = db_pod(simulation)

    async with simulation.agent(config=AUTO) as agent:
        first, second = await agent.add(pod), await agent.add(pod, nic="net1")

    assert ["10.1.0.1"] == ips(first)
    assert {"eth0": "10.1.0.1/16", "net1": "10.2.0.1/16"} == {
        ip.nic: ip.address for ip in second.ips or ()
    }


async def test_a_pool_that_comes_later(simulation: Simulation) -> None:
    """An ADD that is earlier than its pool waits for the pool's arrival, and asks the API server nothing meanwhile."""
    pod = db_pod(simulation)

    async with simulation.agent(config=AUTO) as agent:
        adding = asyncio.create_task(agent.add(pod))
        await asyncio.sleep(0.05)
        calls = len(simulation.cluster.calls)
        await asyncio.sleep(0.1)
        assert calls == len(simulation.cluster.calls)
        assert not adding.done()
        auto_pool(simulation)
        answer = await asyncio.wait_for(adding, 1)

    assert ["10.1.0.1"] == ips(answer)


async def test_a_pool_that_grows(simulation: Simulation) -> None:
    """An ADD that finds its pool full goes on as soon as the pool grows, long before it would give up."""
    auto_pool(simulation, count=1)
    first, second = db_pod(simulation, "db-0"), db_pod(simulation, "db-1")

    async with simulation.agent(config=AUTO, wait_s=30) as agent:
        await agent.add(first)
        adding = asyncio.create_task(agent.add(second))
        await asyncio.sleep(0.05)
        assert not adding.done()
        auto_pool(simulation, count=2)
        answer = await asyncio.wait_for(adding, 1)

    assert ["10.1.0.2"] == ips(answer)


async def test_a_full_pool(simulation: Simulation) -> None:
    """A pool that stays full is told as any other."""
    auto_pool(simulation, count=1)
    first, second = db_pod(simulation, "db-0"), db_pod(simulation, "db-1")

    async with simulation.agent(config=AUTO) as agent:
        await agent.add(first)
        with pytest.raises(Exhausted, match="1 of 1 addresses held, none free"):
            await agent.add(second)


async def test_no_pool_in_time(simulation: Simulation) -> None:
    """When no pool comes the ADD says what it waited for, and that it may be tried again."""
    pod = db_pod(simulation)

    async with simulation.agent(config=AUTO, env=NO_WAIT) as agent:
        with pytest.raises(PoolPending) as caught:
            await agent.add(pod)

    assert (
        "no IPPool available: eth0 IPv4 (annotation ipam.spidernet.io/subnets): SpiderSubnet s1: no pool yet for "
        "StatefulSet ns/db, whose Events may say why; waited 0 s"
    ) == caught.value.message
    assert 11 == caught.value.cni_code


async def test_pools_of_others(simulation: Simulation) -> None:
    """The pool of a former application of the same name, of another UID, is not used."""
    auto_pool(simulation, uid="former-uid")
    pod = db_pod(simulation)

    async with simulation.agent(config=AUTO, env=NO_WAIT) as agent:
        with pytest.raises(PoolPending):
            await agent.add(pod)


async def test_bare_pod(simulation: Simulation) -> None:
    """A pod without a controller is refused at once, with what to write instead."""
    pod = simulation.pod(annotations={SUBNETS: ITEMS})

    async with simulation.agent(config=AUTO) as agent:
        with pytest.raises(
            InvalidRequest,
            match="pod ns/web-1 has no controller, and automatic pools are for applications",
        ):
            await agent.add(pod)


async def test_nic_without_an_item(simulation: Simulation) -> None:
    """A NIC that the annotation does not name is refused at once."""
    auto_pool(simulation)
    pod = db_pod(simulation, annotations={"ipam.spidernet.io/subnet": {"ipv4": ["s1"]}, **NETWORK})

    async with simulation.agent(config=AUTO) as agent:
        with pytest.raises(InvalidRequest, match="no item is for interface net1, only for eth0"):
            await agent.add(pod, nic="net1")


async def test_feature_off(simulation: Simulation) -> None:
    """
    Where subnets are off the annotation says nothing.

    Default pools serve.

    Source: docs/reference/selection.md#sources.
    """
    simulation.pool()
    pod = db_pod(simulation)

    async with simulation.agent() as agent:
        assert 1 == len(ips(await agent.add(pod)))


async def test_a_static_address_stays(simulation: Simulation) -> None:
    """A StatefulSet's pod that is made again gets the address that it had in its application's pool."""
    auto_pool(simulation, count=9)
    pod = db_pod(simulation)

    async with simulation.agent(config=AUTO) as agent:
        before = await agent.add(pod)
        simulation.cluster.drop(Pod, "db-0", "ns")
        texts = {SUBNETS: json.dumps(ITEMS), **NETWORK}
        again = simulation.pod("db-0", "uid-again", stateful=True, annotations=texts)
        after = await agent.add(again)

    assert ips(before) == ips(after)
    assert 1 == len(simulation.cluster.all(SpiderIP))


async def test_news_end_the_work() -> None:
    """
    Work that news overtake is undone before it is given up.

    An error of the work itself is its result.
    """
    undone = []

    async def work() -> str:
        try:
            await asyncio.sleep(10)
        finally:
            undone.append(True)
        return "done"

    async def fail() -> str:
        raise Exhausted("full")

    async def news(result: bool) -> bool:
        await asyncio.sleep(0.01)
        return result

    assert await first_of(work(), news(True)) is None
    assert [True] == undone
    with pytest.raises(Exhausted):
        await first_of(fail(), news(False))


async def test_cancelled_while_waiting(simulation: Simulation) -> None:
    """An ADD whose caller hangs up while it waits for its pool ends, and leaves nothing."""
    pod = db_pod(simulation)

    async with simulation.agent(config=AUTO) as agent:
        adding = asyncio.create_task(agent.add(pod))
        await asyncio.sleep(0.05)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        await asyncio.sleep(0.05)
        assert not agent.app.ipam.pod_locks.busy

    assert () == simulation.cluster.all(SpiderIP)
