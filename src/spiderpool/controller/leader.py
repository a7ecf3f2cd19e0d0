"""What the leader does for as long as it leads: mirrors of records and pods, and one loop for each concern."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.controller.coordinators import Coordinators, CoordinatorSettings
from spiderpool.controller.fence import FencedCluster
from spiderpool.controller.fullness import Fullness
from spiderpool.controller.imports import Imports
from spiderpool.controller.loop import Loop
from spiderpool.controller.metrics import Metrics
from spiderpool.controller.multusconfigs import MultusConfigs
from spiderpool.controller.pools import PoolKeeper
from spiderpool.controller.projection import Projection
from spiderpool.controller.reclaim import Reclaim
from spiderpool.controller.settings import Settings
from spiderpool.controller.world import World
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.events import EventRecorder
from spiderpool.kube.watch import Mirror
from spiderpool.model.config import Features

COMPONENT = "spiderpool-controller"


@dataclass(slots=True)
class Leader:
    """
    The leader's work, begun anew with each leadership.

    `leading` is asked before each write. `following`: whether the mirrors of this leadership are complete.
    """

    cluster: Cluster
    pools: Mirror[SpiderIPPool]
    settings: Settings
    features: Features
    metrics: Metrics
    leading: Callable[[], bool]
    following: bool = False

    async def work(self) -> None:
        """Reconcile until cancelled."""
        fenced = FencedCluster(self.cluster, self.leading)
        async with AsyncExitStack() as stack:
            tell = await stack.enter_async_context(_recorder(fenced))
            world = await stack.enter_async_context(World(fenced, self.pools, self.features))
            self.following = True
            stack.callback(self._stop_following)
            loops = self._start(world, tell) + await self._start_networks(stack, fenced, tell)
            async with asyncio.TaskGroup() as tasks:
                for loop in loops:
                    tasks.create_task(loop.run(), name=loop.name)

    def _stop_following(self) -> None:
        """Note that leadership is over."""
        self.following = False

    def _start(self, world: World, recorder: EventRecorder) -> list[Loop]:
        """Start every concern and give their loops."""
        settings, tell = self.settings, recorder.warning
        imports = Imports(world, tell, settings.namespace)
        keeper = PoolKeeper(world, tell, workers=settings.pool_workers)
        projection = Projection(
            world, limit=settings.max_allocated_ips, workers=settings.pool_workers, resync_s=settings.pool_resync_s
        )
        reclaim = Reclaim(
            world,
            tell=tell,
            count=self.metrics.count_reclaim,
            workers=settings.reclaim.workers,
            scan_s=settings.reclaim.scan_s,
            enabled=settings.reclaim.enabled,
            rules=settings.reclaim.rules,
        )
        fullness = Fullness(world, tell, recorder.normal, percent=settings.nearly_full_percent)
        for concern in (imports, keeper, projection, reclaim, fullness):
            concern.start()
        return [imports.loop, keeper.loop, projection.loop, reclaim.loop, reclaim.rounds]

    async def _start_networks(self, stack: AsyncExitStack, cluster: Cluster, recorder: EventRecorder) -> list[Loop]:
        """Start what keeps coordinators and networks, as far as it is switched on, and give the loops."""
        settings, loops = self.settings.networks, []
        if settings.coordinator is not None:
            where = CoordinatorSettings(
                settings.coordinator, settings.cni_dir, settings.cilium, float(settings.coordinator_resync_s)
            )
            coordinators = Coordinators(cluster, recorder.warning, where)
            stack.push_async_callback(coordinators.stop)
            await coordinators.start()
            loops.append(coordinators.loop)
        if settings.multus_configs:
            configs = MultusConfigs(cluster, recorder.warning, resync_s=float(settings.multus_configs_resync_s))
            stack.push_async_callback(configs.stop)
            await configs.start()
            loops.append(configs.loop)
        return loops


@asynccontextmanager
async def _recorder(cluster: Cluster) -> AsyncIterator[EventRecorder]:
    """Write Events while the block runs."""
    recorder = EventRecorder(cluster, COMPONENT)
    await recorder.start()
    try:
        yield recorder
    finally:
        await recorder.stop()
