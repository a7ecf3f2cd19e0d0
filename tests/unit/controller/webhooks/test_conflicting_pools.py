"""Which pools a new one is compared with, and what is read for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.controller.webhooks.conflicting_pools import OtherPools
from spiderpool.kube.informer import Informer
from spiderpool.model.pool import Pool
from tests.fakes.cluster import FakeCluster
from tests.unit.controller.conftest import make_pool, settle

NEW = Pool.parse(make_pool("new", ips=("10.6.0.15-10.6.0.25",)))


@pytest.fixture
async def cluster() -> FakeCluster:
    """Return a cluster with pools of the same network, one with a common address, of one around it, and of many others."""
    cluster = FakeCluster()
    for number in range(40, 80):
        cluster.seed(
            make_pool(
                f"other{number}",
                subnet=f"10.{number}.0.0/16",
                ips=(f"10.{number}.0.15",),
                gateway=None,
            )
        )
    cluster.seed(make_pool("beside", ips=("10.6.0.30-10.6.0.40",)))
    cluster.seed(make_pool("shares", ips=("10.6.0.20",)))
    cluster.seed(make_pool("around", subnet="10.0.0.0/8", ips=("10.1.0.1",), gateway=None))
    return cluster


@pytest.fixture
async def other_pools(cluster: FakeCluster) -> AsyncIterator[OtherPools]:
    """Return the neighbours of that cluster, its informer complete."""
    pools = Informer(cluster, SpiderIPPool)
    await pools.start()
    await pools.synced()
    yield OtherPools(cluster, pools)
    await pools.stop()


@pytest.mark.parametrize(("granted", "lists"), [(False, 1), (True, 0)])
async def test_only_what_is_in_the_way(
    cluster: FakeCluster, other_pools: OtherPools, granted: bool, lists: int
) -> None:
    """
    Given are the pools with a common address and of other networks that overlap.

    What a subnet granted needs no list.
    """
    cluster.calls.clear()

    near = await other_pools.near(NEW, granted=granted)

    assert {"shares", "around"} == {pool.name for pool in near}
    assert ["list"] * lists == [call.verb for call in cluster.calls]


async def test_changes_count(cluster: FakeCluster, other_pools: OtherPools) -> None:
    """A pool that came into the way, one that left it, and one that went."""
    await other_pools.near(NEW)
    cluster.seed(make_pool("beside", ips=("10.6.0.25-10.6.0.40",)))
    cluster.seed(make_pool("shares", ips=("10.6.0.14",)))
    cluster.drop(SpiderIPPool, "around")
    await settle()

    assert ["beside"] == [pool.name for pool in await other_pools.near(NEW, granted=True)]


async def test_within_a_network(other_pools: OtherPools) -> None:
    """A subnet is compared with the pools of its own network and of those that overlap it."""
    assert {"beside", "shares", "around"} == {
        pool.name for pool in await other_pools.within(NEW.subnet)
    }


async def test_an_informer_that_is_not_filled_yet(cluster: FakeCluster) -> None:
    """A replica that has just begun says nothing before it knows the pools."""
    pools = Informer(cluster, SpiderIPPool)
    other_pools = OtherPools(cluster, pools)
    asked = asyncio.create_task(other_pools.near(NEW))
    await settle()
    assert not asked.done()

    await pools.start()

    assert {"shares", "around"} == {pool.name for pool in await asked}
    await pools.stop()
