"""
What the leader does for as long as it leads.

Informers of records and pods, and one loop for each concern.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.configuration.config import Config
from spiderpool.controller.metrics import Metrics
from spiderpool.controller.networks.coordinators import Coordinators, CoordinatorSettings
from spiderpool.controller.networks.multusconfigs import MultusConfigs
from spiderpool.controller.pools.deletion import PoolKeeper
from spiderpool.controller.pools.imports import Imports
from spiderpool.controller.pools.pool_status import Projection
from spiderpool.controller.pools.usage_events import Fullness
from spiderpool.controller.reclaim.reclaimer import Reclaim
from spiderpool.controller.runtime.context import Context, RecordEvent
from spiderpool.controller.runtime.fenced_cluster import FencedCluster
from spiderpool.controller.runtime.workqueue import WorkQueue
from spiderpool.controller.settings import Settings
from spiderpool.controller.subnets.applications import ForeignApplications, NativeApplications
from spiderpool.controller.subnets.automatic_pools import AutoPools
from spiderpool.controller.subnets.grant_ledger import SubnetLedger
from spiderpool.controller.subnets.subnet_keeper import SubnetKeeper
from spiderpool.ipam.pool_size import SizeLimits
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.events import EventRecorder
from spiderpool.kube.informer import SHORT_CHECK_S, Informer

COMPONENT = "spiderpool-controller"


@dataclass(slots=True)
class Leader:
    """
    The leader's work, begun again with each leadership.

    `leading` is asked before each write. `subnets` is None where the feature is off. `following`:
    whether the informers of this leadership are complete.
    """

    cluster: Cluster
    pools: Informer[SpiderIPPool]
    settings: Settings
    config: Config
    metrics: Metrics
    leading: Callable[[], bool]
    subnets: Informer[SpiderSubnet] | None = None
    following: bool = False

    async def work(self) -> None:
        """Reconcile until cancelled."""
        fenced = FencedCluster(self.cluster, self.leading)
        async with AsyncExitStack() as stack:
            record_event = await stack.enter_async_context(_recorder(fenced))
            context = await stack.enter_async_context(
                Context(fenced, self.pools, self.config.features)
            )
            self.following = True
            stack.callback(self._stop_following)
            queues = self._start(context, record_event) + await self._start_networks(
                stack, fenced, record_event
            )
            async with asyncio.TaskGroup() as tasks:
                for queue in queues:
                    tasks.create_task(queue.run(), name=queue.name)
                if self.subnets is not None:
                    tasks.create_task(
                        self._keep_subnets(context, record_event, self.subnets), name="subnets"
                    )

    def _stop_following(self) -> None:
        """Note that leadership is over."""
        self.following = False

    def _start(self, context: Context, recorder: EventRecorder) -> list[WorkQueue]:
        """Start every concern and give their loops."""
        settings, record_event = self.settings, recorder.record
        imports = Imports(context, record_event, settings.namespace)
        keeper = PoolKeeper(context, record_event, workers=settings.pool_workers)
        projection = Projection(
            context,
            limit=settings.max_allocated_ips,
            workers=settings.pool_workers,
            resync_s=settings.pool_resync_s,
        )
        reclaim = Reclaim(
            context,
            record_event=record_event,
            count=self.metrics.count_reclaim,
            workers=settings.reclaim.workers,
            scan_s=settings.reclaim.scan_s,
            enabled=settings.reclaim.enabled,
            rules=settings.reclaim.rules,
        )
        fullness = Fullness(context, record_event, percent=settings.nearly_full_percent)
        for concern in (imports, keeper, projection, reclaim, fullness):
            concern.start()
        return [imports.queue, keeper.queue, projection.queue, reclaim.queue, reclaim.rounds]

    async def _start_networks(
        self, stack: AsyncExitStack, cluster: Cluster, recorder: EventRecorder
    ) -> list[WorkQueue]:
        """Start the reconcilers of coordinators and networks, if switched on; return queues."""
        settings, queues = self.settings.networks, []
        if settings.coordinator is not None:
            where = CoordinatorSettings(
                settings.coordinator,
                settings.cni_dir,
                settings.cilium,
                float(settings.coordinator_resync_s),
            )
            coordinators = Coordinators(cluster, recorder.record, where)
            stack.push_async_callback(coordinators.stop)
            await coordinators.start()
            queues.append(coordinators.queue)
        if settings.multus_configs:
            configs = MultusConfigs(
                cluster, recorder.record, resync_s=float(settings.multus_configs_resync_s)
            )
            stack.push_async_callback(configs.stop)
            await configs.start()
            queues.append(configs.queue)
        return queues

    async def _keep_subnets(
        self, context: Context, recorder: EventRecorder, subnets: Informer[SpiderSubnet]
    ) -> None:
        """
        Keep subnets and automatic pools.

        What they need and cannot have (a kind, a right) holds up nothing else.
        """
        settings, record_event = self.settings, recorder.record
        async with AsyncExitStack() as stack:
            reserved = Informer(context.cluster, SpiderReservedIP, check_s=SHORT_CHECK_S)
            stack.push_async_callback(reserved.stop)
            await reserved.start()
            for informer in (subnets, reserved):
                await informer.synced()
            ledger = SubnetLedger(context.cluster, subnets, reserved)
            automatic = self.config.enable_auto_pool_for_application
            keeper = SubnetKeeper(
                context,
                subnets,
                ledger,
                record_event,
                automatic=automatic,
                workers=settings.subnet_workers,
                resync_s=settings.subnet_resync_s,
            )
            keeper.start()
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(keeper.queue.run(), name=keeper.queue.name)
            if automatic:
                pools = await self._start_pools(stack, context, record_event, ledger, subnets)
                tasks.create_task(pools.queue.run(), name=pools.queue.name)
            await asyncio.Event().wait()

    async def _start_pools(
        self,
        stack: AsyncExitStack,
        context: Context,
        record_event: RecordEvent,
        ledger: SubnetLedger,
        subnets: Informer[SpiderSubnet],
    ) -> AutoPools:
        """Start what keeps automatic pools."""
        redundancy = self.config.redundant_addresses
        workers = self.settings.application_workers
        most = self.config.auto_pool_limits
        pools = AutoPools(
            context,
            ledger,
            record_event,
            redundancy=redundancy,
            limits=SizeLimits(most.ip_number, most.per_replica, most.extra),
            workers=workers,
        )
        natives = await stack.enter_async_context(NativeApplications(context.cluster, pools.notify))
        kinds = self.config.auto_pool_third_party_controllers
        foreigns = await stack.enter_async_context(
            ForeignApplications(context, kinds, pools.notify)
        )
        pools.start(subnets, natives, foreigns)
        return pools


@asynccontextmanager
async def _recorder(cluster: Cluster) -> AsyncIterator[EventRecorder]:
    """Write Events while the block runs."""
    recorder = EventRecorder(cluster, COMPONENT)
    await recorder.start()
    try:
        yield recorder
    finally:
        await recorder.stop()
