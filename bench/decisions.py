"""
How long the controller takes to decide about one application among few and many pools.

An API server of its own, without the rest of Kubernetes: a Deployment's replicas change, and the
time runs until its automatic pool has the new size; a pool is shown to the webhooks' reviewer. The
other pools lie apart (each in a CIDR of its own) or beside (automatic pools of other applications,
in the same SpiderSubnet, whose status tells of all of them).
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.stage import in_flight
from spiderpool.addressing.ranges import parse_ranges
from spiderpool.api.crd.group import ANNO_IMPORTED
from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.crd.spiderip import Application
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec
from spiderpool.api.kubernetes.core import Namespace
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.api.kubernetes.workloads import Deployment
from spiderpool.configuration.config import Config
from spiderpool.controller.leader import Leader
from spiderpool.controller.metrics import Metrics
from spiderpool.controller.runtime.subnet_lookup import SubnetLookup
from spiderpool.controller.settings import read_settings
from spiderpool.controller.webhooks.conflicting_pools import OtherPools
from spiderpool.controller.webhooks.pool_review import Change, PoolReviewer
from spiderpool.errors import AlreadyExists
from spiderpool.ipam.automatic_pool import App, PoolPlan, build_pool
from spiderpool.ipam.pool_size import IPNumber
from spiderpool.kube.client import KubeClient
from spiderpool.kube.connect import connect
from spiderpool.kube.informer import Informer
from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Grant, Subnet, subnet_status
from tests.apiserver.control_plane import ControlPlane

OTHERS: Final = (10, 1000, 5000)
WHERE: Final = ("apart", "beside")
TIMES: Final = 15
NAMESPACE: Final = "default"
SUBNET: Final = "mine"
CONFIG: Final = Config(
    enable_ipv4=True,
    enable_ipv6=True,
    enable_spider_subnet=True,
    enable_auto_pool_for_application=True,
    cluster_subnet_auto_pool_default_redundant_ip_number=1,
)
LARGEST_RATIO: Final = 1.5
NOTHING_MS: Final = 5.0  # what the API server's own look at labels may take


@dataclass(frozen=True, slots=True)
class Row:
    """Medians in milliseconds, and their ratios to those with the fewest other pools."""

    where: str
    others: int
    resize_ms: float
    webhook_ms: float
    resize_ratio: float = 1.0
    webhook_ratio: float = 1.0


@dataclass(slots=True)
class Scene:
    """An API server, a leader that works on it, and the reviewer of a webhook."""

    client: KubeClient
    pools: Informer[SpiderIPPool]
    reviewer: PoolReviewer
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def resize(self, replicas: int) -> float:
        """Change the Deployment's replicas; gives the seconds until its pool follows."""
        began = time.perf_counter()
        await self.client.patch(
            Deployment, "app", {"spec": {"replicas": replicas}}, namespace=NAMESPACE
        )
        await self._until(lambda: self._size() == replicas + 1)
        return time.perf_counter() - began

    async def review(self, number: int) -> float:
        """Show the reviewer a new pool, as both webhooks do; gives the seconds of its opinion."""
        spec = IPPoolSpec(
            ip_version=4, subnet="192.168.0.0/16", ips=(f"192.168.{number}.10-192.168.{number}.20",)
        )
        pool = SpiderIPPool(metadata=ObjectMeta(name=f"new{number}"), spec=spec)
        began = time.perf_counter()
        completed = await self.reviewer.complete(Change(None, pool))
        opinion = await self.reviewer.judge(Change(None, completed, dry_run=True))
        took_s = time.perf_counter() - began
        if opinion.errors or opinion.forbidden:
            raise RuntimeError(f"the pool was to be allowed: {opinion}")
        return took_s

    async def add(self, pools: list[SpiderIPPool]) -> None:
        """
        Create pools, and wait until the leader has looked at them.

        That is not what is measured.
        """
        await in_flight(pools, self.client.create, 20)
        rest = [pool.metadata.name for pool in pools]
        while rest:
            known = [self.pools.named(name) for name in rest]
            rest = [
                name
                for name, pool in zip(rest, known, strict=True)
                if pool is None or pool.status.total_ip_count is None
            ]
            await asyncio.sleep(1)

    def _size(self) -> int:
        return sum(
            Pool.parse(pool).total.size
            for pool in self.pools
            if pool.metadata.name.startswith("auto4-app-")
        )

    async def _until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(300):
            while not done():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def _scene(plane: ControlPlane) -> AsyncIterator[Scene]:
    """Have a leader at work, and an application with its pool."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(str(plane.kubeconfig), user_agent="bench"))
        pools, subnets = Informer(client, SpiderIPPool), Informer(client, SpiderSubnet)
        for informer in (pools, subnets):
            await informer.start()
            stack.push_async_callback(informer.stop)
        await _furnish(client)
        environ = {"SPIDERPOOL_POD_NAMESPACE": NAMESPACE, "SPIDERPOOL_POD_NAME": "bench"}
        leader = Leader(
            client,
            pools,
            read_settings(environ),
            CONFIG,
            Metrics("bench", pools),
            lambda: True,
            subnets,
        )
        work = asyncio.create_task(leader.work())
        stack.push_async_callback(_end, work)

        async def no_go_agents() -> list[str]:
            return []

        lookup = SubnetLookup(client, subnets)
        scene = Scene(
            client,
            pools,
            PoolReviewer(client, OtherPools(client, pools), CONFIG.features, no_go_agents, lookup),
        )
        pools.subscribe(lambda *_: scene.changed.set())
        await scene.resize(2)
        yield scene


async def _end(work: asyncio.Task[None]) -> None:
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


async def _furnish(client: KubeClient) -> None:
    """Make the subnet and the application."""
    with suppress(AlreadyExists):
        await client.create(Namespace(metadata=ObjectMeta(name=NAMESPACE)))
    spec = SubnetSpec(ip_version=4, subnet="10.0.0.0/8", ips=("10.0.0.10-10.200.255.255",))
    await client.create(SpiderSubnet(metadata=ObjectMeta(name=SUBNET), spec=spec))
    template = {
        "metadata": {
            "labels": {"app": "app"},
            "annotations": {"ipam.spidernet.io/subnet": f'{{"ipv4":["{SUBNET}"]}}'},
        },
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }
    body: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app", "namespace": NAMESPACE},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "app"}}, "template": template},
    }
    await client.create(msgspec.convert(body, DeploymentManifest))


class DeploymentManifest(Deployment, frozen=True, kw_only=True):
    """
    A Deployment with all that the API server wants to see.

    Ours reads only what pools depend on.
    """

    spec: dict[str, Any]  # type: ignore[assignment]


def _apart(first: int) -> Iterator[SpiderIPPool]:
    """Return pools of other CIDRs."""
    while True:
        net = IPv4Address("172.16.0.0") + 16 * first
        spec = IPPoolSpec(ip_version=4, subnet=f"{net}/28", ips=(f"{net + 2}-{net + 12}",))
        yield SpiderIPPool(
            metadata=ObjectMeta(name=f"apart-{first}", annotations={ANNO_IMPORTED: "true"}),
            spec=spec,
        )
        first += 1


def _beside(first: int, subnet: Subnet) -> Iterator[tuple[SpiderIPPool, Grant]]:
    """
    Return pools of other applications of the same subnet.

    Theirs are kept without the application.
    """
    while True:
        low = IPv4Address("10.100.0.0") + 4 * first
        owner = Application(
            api_version="apps/v1", kind="Deployment", name=f"other-{first}", uid=f"u-{first:05}"
        )
        app = App(owner, NAMESPACE)
        ips = parse_ranges(4, [f"{low}-{low + 2}"])
        plan = PoolPlan(
            f"auto4-other-{first}-eth0",
            app,
            "eth0",
            subnet,
            ips,
            IPNumber(1, flexible=True),
            reclaim=False,
        )
        pool = build_pool(plan)
        metadata = msgspec.structs.replace(
            pool.metadata,
            annotations={**pool.metadata.annotations, ANNO_IMPORTED: "true"},
            finalizers=(),
        )
        yield msgspec.structs.replace(pool, metadata=metadata), Grant(ips, app.key)
        first += 1


async def _crowd(scene: Scene, where: str, already: int, others: int) -> None:
    """Have so many other pools."""
    if where == "apart":
        await scene.add(list(islice(_apart(already), others - already)))
        return
    subnet = Subnet.parse(await scene.client.get(SpiderSubnet, SUBNET))
    made = list(islice(_beside(already, subnet), others - already))
    grants = {**subnet.grants, **{pool.metadata.name: grant for pool, grant in made}}
    status = msgspec.to_builtins(subnet_status(grants, subnet.total))
    await scene.client.patch(SpiderSubnet, SUBNET, {"status": status}, subresource="status")
    await scene.add([pool for pool, _ in made])


async def rounds(others: tuple[int, ...] = OTHERS) -> list[Row]:
    """Measure with more and more other pools."""
    rows = []
    for where in WHERE:
        with tempfile.TemporaryDirectory() as folder, ControlPlane(Path(folder)) as plane:
            async with _scene(plane) as scene:
                mine, already = [], 0
                for count in others:
                    await _crowd(scene, where, already, count)
                    already = count
                    mine.append(await _measure(scene, where, count))
        rows += [_related(row, mine[0]) for row in mine]
    return rows


async def _measure(scene: Scene, where: str, others: int) -> Row:
    """Measure both decisions some times."""
    resizes = [await scene.resize(3 + number % 2) for number in range(TIMES + 1)][1:]
    reviews = [await scene.review(number) for number in range(TIMES + 1)][1:]
    return Row(where, others, _median_ms(resizes), _median_ms(reviews))


def _median_ms(seconds: list[float]) -> float:
    return round(1000 * statistics.median(seconds), 2)


def _related(row: Row, first: Row) -> Row:
    """Relate a row to the one with the fewest other pools."""
    return dataclasses.replace(
        row,
        resize_ratio=round(row.resize_ms / first.resize_ms, 2),
        webhook_ratio=round(row.webhook_ms / first.webhook_ms, 2),
    )


def verdicts(rows: list[Row]) -> dict[str, bool]:
    """Compare with what is asked: the time does not grow with the number of unrelated pools."""
    first, last = ({row.where: row for row in each} for each in (reversed(rows), rows))
    words = f"at most {LARGEST_RATIO} x that with {OTHERS[0]}, or {NOTHING_MS:g} ms more"
    return {
        f"{what}, other pools {where}: {words}": after
        <= max(LARGEST_RATIO * before, before + NOTHING_MS)
        for where in WHERE
        for what, before, after in (
            ("resize of one application", first[where].resize_ms, last[where].resize_ms),
            ("webhook's opinion", first[where].webhook_ms, last[where].webhook_ms),
        )
    }
