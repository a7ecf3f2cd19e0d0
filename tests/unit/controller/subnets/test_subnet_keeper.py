"""
SpiderSubnets.

What their status says, which pools they adopt, and how they go.

Source: docs/reference/automatic-pools.md#spidersubnet,
docs/reference/automatic-pools.md#pools-that-belong-to-a-subnet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.ippool import Route, SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.workloads import Deployment
from spiderpool.ipam.automatic_pool import controlling_subnet
from tests.unit.controller.conftest import make_pool
from tests.unit.controller.desk import Desk

ETH0 = "auto4-web-eth0-7f619"
GOING = "2026-01-01T00:00:00Z"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Return a cluster without a subnet."""
    async with Desk() as found:
        yield found


def delete(desk: Desk, *finalizers: str) -> None:
    """Delete subnet `s1`, as the API server does with an object that has finalizers."""
    subnet = desk.cluster.all(SpiderSubnet)[0]
    meta = replace(
        subnet.metadata,
        deletion_timestamp=GOING,
        finalizers=(*subnet.metadata.finalizers, *finalizers),
    )
    desk.cluster.seed(replace(subnet, metadata=meta))


async def test_orphans_are_adopted(desk: Desk) -> None:
    """A pool of the subnet's CIDR becomes its own, inherits gateway and routes, and is listed with its addresses."""
    routes = (Route(dst="10.99.0.0/16", gw="10.6.0.2"),)
    desk.subnet(gateway="10.6.0.1", routes=routes)
    desk.cluster.seed(make_pool(ips=("10.6.0.10-10.6.0.12",), gateway=None))
    await desk.lead()
    await desk.settle()

    pool = desk.pool("blue")
    owner = controlling_subnet(pool)
    assert owner is not None
    assert "s1" == owner.name == pool.metadata.labels["ipam.spidernet.io/owner-spider-subnet"]
    assert ("10.6.0.1", routes) == (pool.spec.gateway, pool.spec.routes)
    assert (3, 10) == desk.counts()
    assert desk.grants()["blue"].application is None


async def test_what_a_pool_has_it_keeps(desk: Desk) -> None:
    """
    A gateway of its own and an explicitly empty list of routes are not replaced.

    Source: docs/reference/automatic-pools.md#pools-that-belong-to-a-subnet.
    """
    desk.subnet(gateway="10.6.0.1", routes=(Route(dst="10.99.0.0/16", gw="10.6.0.2"),))
    pool = make_pool(gateway="10.6.0.9")
    desk.cluster.seed(replace(pool, spec=replace(pool.spec, routes=())))
    await desk.lead()
    await desk.settle()

    assert ("10.6.0.9", ()) == (desk.pool("blue").spec.gateway, desk.pool("blue").spec.routes)


async def test_pool_outside_of_the_subnet(desk: Desk) -> None:
    """A pool with addresses that the subnet does not have stays an orphan, and an Event says so."""
    desk.subnet()
    desk.cluster.seed(make_pool(ips=("10.6.0.10-10.6.0.99",)))
    await desk.lead()
    await desk.settle(rounds=2)

    assert controlling_subnet(desk.pool("blue")) is None
    assert {} == desk.grants()
    assert ("blue", "NotInSubnet") == desk.told.events[0][:2]


async def test_status_follows_the_pools(desk: Desk) -> None:
    """A pool made by hand that changes or goes is listed as it is, and not any more."""
    desk.subnet()
    desk.cluster.seed(make_pool(ips=("10.6.0.10-10.6.0.12",)))
    await desk.lead()
    await desk.settle()
    pool = desk.pool("blue")
    desk.cluster.seed(replace(pool, spec=replace(pool.spec, ips=("10.6.0.10",))))
    await desk.settle()
    assert (1, 10) == desk.counts()

    desk.cluster.drop(SpiderIPPool, "blue")
    await desk.settle()

    assert (0, 10) == desk.counts()
    assert desk.cluster.all(SpiderSubnet)[0].status.controlled_ippools is None


async def test_lost_status(desk: Desk) -> None:
    """A status that somebody wiped out is written again from the pools."""
    desk.subnet()
    desk.app()
    await desk.lead()
    await desk.settle()
    grants = desk.grants()
    subnet = desk.cluster.all(SpiderSubnet)[0]
    desk.cluster.seed(replace(subnet, status=replace(subnet.status, controlled_ippools=None)))
    await desk.settle()

    assert grants == desk.grants()


async def test_deleted_subnet_takes_its_pools_along(desk: Desk) -> None:
    """A deleted subnet deletes its pools, waits for their pods, and goes last."""
    desk.subnet()
    desk.app()
    desk.cluster.seed(make_pool(ips=("10.6.0.19",)))
    await desk.lead()
    await desk.settle()
    desk.hold("10.6.0.10", ETH0)
    delete(desk)
    await desk.settle()
    assert [ETH0] == list(desk.pools())
    assert 1 == len(desk.cluster.all(SpiderSubnet))

    desk.cluster.drop(SpiderIP, "10.6.0.10")
    await desk.settle()

    assert {} == desk.pools()
    assert () == desk.cluster.all(SpiderSubnet)


async def test_unused_subnet_goes_at_once(desk: Desk) -> None:
    """A subnet without pools has nothing to wait for."""
    desk.subnet()
    await desk.lead()
    delete(desk)
    await desk.settle()

    assert () == desk.cluster.all(SpiderSubnet)


async def test_orphaning_deletion(desk: Desk) -> None:
    """A subnet that is deleted with `--cascade=orphan` leaves its pools to the garbage collector, which frees them."""
    desk.subnet()
    desk.cluster.seed(make_pool(ips=("10.6.0.19",)))
    await desk.lead()
    await desk.settle()
    delete(desk, "orphan")
    await desk.settle()

    assert desk.pool("blue").metadata.deletion_timestamp is None
    assert 1 == len(desk.cluster.all(SpiderSubnet))


async def test_grant_without_anybody(desk: Desk) -> None:
    """What a subnet's status grants to an application that does not exist is taken back."""
    subnet = desk.subnet()
    text = '{"auto4-x-eth0-00000":{"ips":["10.6.0.10"],"application":"apps_v1_Deployment_ns_x"},"gone":{"ips":["10.6.0.11"]}}'
    desk.cluster.seed(replace(subnet, status=replace(subnet.status, controlled_ippools=text)))
    await desk.lead()
    await desk.settle()

    assert {} == desk.grants()
    assert () == desk.cluster.all(Deployment)
    assert () == desk.cluster.all(Pod)
