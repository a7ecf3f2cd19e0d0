"""Leadership: who writes, and when that ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.api.kubernetes.workloads import Deployment
from spiderpool.configuration.config import Config
from spiderpool.controller.leader import Leader
from spiderpool.controller.metrics import Metrics
from spiderpool.controller.runtime.fenced_cluster import FencedCluster
from spiderpool.controller.settings import read_settings
from spiderpool.errors import TryAgain
from spiderpool.kube.election import Election, Times
from spiderpool.kube.informer import Informer
from tests.fakes.cluster import FakeCluster
from tests.unit.controller.conftest import Scene, make_pod, make_pool, make_record, settle
from tests.unit.controller.test_settings import REQUIRED

CONFIG = Config(
    enable_ipv4=True, enable_ipv6=True, enable_stateful_set=True, enable_kubevirt_static_ip=True
)

TIMES = Times(duration_s=0.3, renew_s=0.2, retry_s=0.02, gap_s=0.02)


@asynccontextmanager
async def replica(
    cluster: FakeCluster,
    name: str,
    config: Config = CONFIG,
    subnets: Informer[SpiderSubnet] | None = None,
) -> AsyncIterator[tuple[Election, Leader, asyncio.Task[None]]]:
    """Run a replica."""
    pools = Informer(cluster, SpiderIPPool)
    await pools.start()
    election = Election(cluster, "leases", "ns", name, times=TIMES)
    leader = Leader(
        cluster,
        pools,
        read_settings(REQUIRED),
        config,
        Metrics("1", pools),
        lambda: election.leading,
        subnets,
    )
    task = asyncio.create_task(election.run(leader.work))
    try:
        yield election, leader, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await pools.stop()


async def test_subnets_are_the_leaders_work(scene: Scene) -> None:
    """
    A leader makes the pools of applications.

    A kind that it cannot follow holds up nothing else.
    """
    config = replace(CONFIG, enable_spider_subnet=True, enable_auto_pool_for_application=True)
    template = {"metadata": {"annotations": {"ipam.spidernet.io/subnet": '{"ipv4":["s1"]}'}}}
    app = {
        "metadata": {"name": "web", "namespace": "ns", "uid": "a-bcdef"},
        "spec": {"replicas": 1, "template": template},
    }
    scene.cluster.seed(msgspec.convert(app, Deployment))
    scene.cluster.seed(make_pool("blue", ips=("10.7.0.10",), subnet="10.7.0.0/16", gateway=None))
    subnets = Informer(scene.cluster, SpiderSubnet)
    async with replica(scene.cluster, "one", config, subnets):
        # while the informer of subnets has not even begun
        await until(lambda: counted(scene, "blue"))
        spec = SubnetSpec(ip_version=4, subnet="10.6.0.0/16", ips=("10.6.0.10-10.6.0.19",))
        scene.cluster.seed(SpiderSubnet(metadata=ObjectMeta(name="s1"), spec=spec))
        await subnets.start()
        await until(
            lambda: (
                "auto4-web-eth0-bcdef"
                in {pool.metadata.name for pool in scene.cluster.all(SpiderIPPool)}
            )
        )
    await subnets.stop()


async def until(condition: Any) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(1.5):
        while not condition():
            await asyncio.sleep(0.005)


def counted(scene: Scene, name: str) -> bool:
    """Return whether a pool has a status."""
    return any(
        p.metadata.name == name and p.status.total_ip_count for p in scene.cluster.all(SpiderIPPool)
    )


async def test_next_leader_goes_on(scene: Scene) -> None:
    """
    One replica reconciles at a time.

    When it ends, the other does what is left, with fresh informers.
    """
    scene.cluster.seed(make_pool("first", ips=("10.6.0.10",)))
    async with (
        replica(scene.cluster, "one") as (first, _, task),
        replica(scene.cluster, "two") as (second, idle, _),
    ):
        await until(lambda: counted(scene, "first"))
        assert [True, False, False] == [first.leading, second.leading, idle.following]
        task.cancel()
        await until(task.done)
        scene.cluster.seed(make_pool("second", ips=("10.6.0.20",)))
        await until(lambda: counted(scene, "second"))
        assert [False, True, True] == [first.leading, second.leading, idle.following]


async def test_lost_lease_ends_the_writes(scene: Scene) -> None:
    """A leader that cannot renew stops writing, though its tasks live and the rest of the API works."""
    async with replica(scene.cluster, "one") as (election, leader, _):
        await until(lambda: leader.following)

        def no_leases(call: Any) -> None:
            if call.plural == "leases":
                raise TryAgain("no leases today")

        scene.cluster.on_write(no_leases)
        await until(lambda: not election.leading)
        scene.cluster.seed(make_pool(ips=("10.6.0.10",)))
        await asyncio.sleep(0.15)

        assert not counted(scene, "blue")
        assert not leader.following


@pytest.mark.parametrize("write", ["create", "replace", "patch", "delete"])
async def test_fence_lets_no_write_through(scene: Scene, write: str) -> None:
    """
    Each kind of write is refused before it is sent when this replica does not lead.

    Reads go on.
    """
    record = scene.cluster.seed(make_record())
    leading = True
    fenced = FencedCluster(scene.cluster, lambda: leading)
    assert record == await fenced.get(SpiderIP, "10.6.0.10")
    leading = False
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "create": lambda: fenced.create(make_record("10.6.0.11")),
        "replace": lambda: fenced.replace(record),
        "patch": lambda: fenced.patch(SpiderIP, "10.6.0.10", {"spec": {"state": "Cooling"}}),
        "delete": lambda: fenced.delete(SpiderIP, "10.6.0.10"),
    }
    with pytest.raises(TryAgain, match="this replica does not lead any more and writes nothing"):
        await calls[write]()

    assert 0 == scene.cluster.count(write)
    assert 1 == len((await fenced.list_objects(SpiderIP)).items)
    assert 1 == len((await fenced.list_metadata(SpiderIP)).items)
    assert "10.6.0.10" == (await fenced.get_metadata(SpiderIP, "10.6.0.10")).metadata.name


async def test_informers_end_with_leadership(scene: Scene) -> None:
    """After leadership no subscriber of it is left on the informer of pools, and no watch of it runs."""
    scene.cluster.seed(make_pod())
    before = len(asyncio.all_tasks())
    async with replica(scene.cluster, "one") as (_, leader, task):
        await until(lambda: leader.following)
        subscribers = leader.pools._store._subscribers
        during = len(subscribers)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert during > len(subscribers)
        assert 1 >= len(subscribers)
    await settle()
    assert before == len(asyncio.all_tasks())
