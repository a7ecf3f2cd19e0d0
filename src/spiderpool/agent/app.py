"""
The agent put together.

Which parts there are, in which order they start, and in which they stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from spiderpool.agent.api.health import health_routes
from spiderpool.agent.api.interfaces import interface_routes
from spiderpool.agent.api.node_report import node_routes
from spiderpool.agent.api.server import (
    Handle,
    Plugin,
    dispatcher,
    listen_on_port,
    listen_on_socket,
    socket_routes,
)
from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.agent.concurrency.retrying_cluster import RetryingCluster
from spiderpool.agent.concurrency.supervisor import Supervisor
from spiderpool.agent.coordinator.cluster_config import CoordinatorConfigs
from spiderpool.agent.coordinator.ifacer_plugin import Ifacer
from spiderpool.agent.coordinator.plugin import CoordinatorPlugin
from spiderpool.agent.ipam.allocator import WAIT_S, Allocator
from spiderpool.agent.ipam.detection import Detector, quarantined_in
from spiderpool.agent.ipam.facts import FactSource
from spiderpool.agent.ipam.operations import Ipam
from spiderpool.agent.ipam.plugin import IpamPlugin
from spiderpool.agent.ipam.pod_events import COMPONENT, Reports
from spiderpool.agent.ipam.release import Releases
from spiderpool.agent.metrics import Metrics
from spiderpool.agent.multus.plugin import MetaPlugin
from spiderpool.agent.node.installation import node_policy, read_install_settings
from spiderpool.agent.node.kube_proxy import KubeProxyWatch, looking
from spiderpool.agent.node.sysctl import RECORD, NodeSettings
from spiderpool.agent.reconcile.endpoints import QUIET_S, Endpoints, name_of
from spiderpool.agent.reconcile.leak_checks import LeakChecks
from spiderpool.agent.reconcile.restore import Restore
from spiderpool.agent.reconcile.sightings import Fence, Look
from spiderpool.agent.reconcile.strays import Strays
from spiderpool.agent.records.claims import Claims
from spiderpool.agent.records.cooling_informers import CoolingWatches
from spiderpool.agent.records.deletions import Deletions
from spiderpool.agent.records.handover import Handover
from spiderpool.agent.records.informers import Informers
from spiderpool.agent.records.occupancy import Occupancy
from spiderpool.agent.settings import Settings
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.configuration.config import Config
from spiderpool.kernel import fencing
from spiderpool.kernel.pod_namespaces import read_pod_namespaces
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.events import EventRecorder
from spiderpool.model.event_reasons import EventReason
from spiderpool.model.pod import runtime_uids
from spiderpool.model.pool import is_imported
from spiderpool.networks.delegates import META_PLUGIN
from spiderpool.networks.meta_config import NodePolicy

IPAM_PLUGIN = "spiderpool"
COORDINATOR = "coordinator"
IFACER = "ifacer"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class App:
    """
    One agent: its parts, joined.

    `strays` is None where reclaim is switched off. `started` is set while it serves.
    """

    settings: Settings
    socket: Path
    informers: Informers
    claims: Claims
    watches: CoolingWatches
    ipam: Ipam
    configs: CoordinatorConfigs
    meta: MetaPlugin
    detector: Detector
    coordinator: CoordinatorPlugin
    endpoints: Endpoints
    restore: Restore
    leak_checks: LeakChecks
    strays: Strays | None
    recorder: EventRecorder
    metrics: Metrics
    node_settings: NodeSettings
    kube_proxy: KubeProxyWatch
    supervisor: Supervisor
    started: asyncio.Event


def build(
    settings: Settings,
    config: Config,
    cluster: Cluster,
    metrics: Metrics,
    *,
    retry: RetryPolicy | None = None,
    wait_s: float = WAIT_S,
    quiet_s: float = QUIET_S,
    look: Look | None = None,
    fence: Fence = fencing.fence,
    node: NodePolicy | None = None,
) -> App:
    """
    Join the parts of an agent; nothing runs before `serving`.

    Args:
        settings: the environment.
        config: the configuration file.
        cluster: the client of the API.
        metrics: what is counted.
        retry: how long an API server that cannot serve is tolerated.
        wait_s: how long an ADD waits for an address in full pools.
        quiet_s: how long no CNI call must have been before endpoints are written.
        look: into the namespaces of the node's pods; None = as they are.
        fence: takes addresses off namespaces whose pods are gone.
        node: where the meta plugin's folders are; None = at the usual places.
    """
    api = RetryingCluster(cluster, retry or RetryPolicy())
    informers = Informers(cluster, settings.node)
    occupancy = Occupancy(api)
    informers.records.subscribe(occupancy.follow)
    source = FactSource(
        api,
        informers,
        config.features,
        node=settings.node,
        agent_namespace=settings.namespace,
        default_network=settings.default_network,
    )
    recorder = EventRecorder(cluster, COMPONENT, host=settings.node)
    reports = Reports(recorder, lambda call: informers.pods.named(call.name, call.namespace))
    pod_locks = KeyedLock(metrics.allocation_wait.observe, metrics.release_wait.observe)
    endpoints = Endpoints(
        api,
        informers,
        source.owners,
        node=settings.node,
        is_busy=lambda: pod_locks.busy,
        is_served=pod_locks.is_served,
        quiet_s=quiet_s,
    )
    informers.records.subscribe(lambda _, old, new: _note(endpoints, old, new))
    informers.pools.subscribe(lambda _, old, new: _pool_changed(occupancy, old, new))
    informers.reserved.subscribe(lambda *_: occupancy.changed())
    deletions = Deletions(api, informers.records, occupancy, lambda: source.pools)
    watches = CoolingWatches(cluster, occupancy, node=settings.node)
    claims = Claims(
        api,
        informers.records,
        occupancy,
        watches,
        deletions=deletions,
        on_loss=metrics.lost_creates.inc,
    )
    configs = CoordinatorConfigs(informers, source)
    ipam = Ipam(
        cluster=cluster,
        informers=informers,
        source=source,
        allocator=Allocator(
            source,
            informers.records,
            claims,
            Handover(api, informers.records),
            occupancy,
            tell=reports.left_out,
            wait_s=wait_s,
            pool_wait_s=settings.pool_wait_s,
        ),
        releases=Releases(
            api, informers, claims, deletions=deletions, on_loss=metrics.lost_releases.inc
        ),
        pod_locks=pod_locks,
        metrics=metrics,
        reports=reports,
        release_conflict_ips=settings.release_conflict_ips,
    )
    look = look or (lambda: read_pod_namespaces(known_uids(informers)))
    leak_checks = LeakChecks(
        api,
        informers,
        deletions,
        pod_locks,
        node=settings.node,
        look=look,
        fence=fence,
        on_fenced=lambda record, text: _fenced(
            metrics, recorder, informers.pools.named(record.spec.pool), text
        ),
        on_pinned=lambda record, text: _suspicious(
            metrics, recorder, informers.pools.named(record.spec.pool), text
        ),
    )
    strays = Strays(
        api,
        informers,
        node=settings.node,
        pools=lambda: source.pools,
        look=look,
        fence=fence,
        on_fenced=lambda pool, text: _fenced(metrics, recorder, informers.pools.named(pool), text),
    )
    restore = Restore(
        api,
        informers,
        source.owners,
        deletions,
        node=settings.node,
        features=config.features,
        pools=lambda: source.pools,
        pod_locks=pod_locks,
        look=look,
        on_lost=lambda pod, text: _lost(metrics, reports, pod, text),
    )
    node_settings = NodeSettings(Path(config.ipam_unix_socket_path).parent / RECORD)
    kube_proxy = KubeProxyWatch(
        looking(node_settings, config.features.families),
        lambda: informers.node.named(settings.node),
        recorder.record,
        metrics.packets_invalid,
    )
    return App(
        settings=settings,
        socket=Path(config.ipam_unix_socket_path),
        informers=informers,
        claims=claims,
        watches=watches,
        ipam=ipam,
        configs=configs,
        meta=MetaPlugin(
            cluster,
            recorder,
            node or node_policy(read_install_settings({}), config.multus.allowed_plugins),
        ),
        detector=Detector(
            deletions,
            lambda pool: quarantined_in(informers.records, pool),
            lambda pool, text: _suspicious(metrics, recorder, informers.pools.named(pool), text),
        ),
        coordinator=CoordinatorPlugin(
            configs, counted=metrics.coordinator_call, tell=reports.policy_left_out
        ),
        endpoints=endpoints,
        restore=restore,
        leak_checks=leak_checks,
        strays=strays if settings.reclaim else None,
        recorder=recorder,
        metrics=metrics,
        node_settings=node_settings,
        kube_proxy=kube_proxy,
        supervisor=Supervisor(metrics.task_restarted),
        started=asyncio.Event(),
    )


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[None]:
    """
    Run an agent: kubelet's probes first, the socket when everything is known.

    All ends in the opposite order.
    """
    async with AsyncExitStack() as stack:
        interfaces = interface_routes(app.settings.node, lambda: app.informers.pods)
        node = node_routes(
            app.settings.node,
            app.node_settings,
            lambda: app.kube_proxy.verdict or app.kube_proxy.trouble,
        )
        probes = health_routes(app.started.is_set, app.socket, lambda: app.supervisor.trouble)
        health = dispatcher({**probes, **interfaces, **node})
        await _open(stack, listen_on_port(health, app.settings.health_port))
        if app.settings.metrics:
            await _open(
                stack, listen_on_port(_metrics_handle(app.metrics), app.settings.metric_port)
            )
        await stack.enter_async_context(informed(app))
        plugins: dict[str, Plugin] = {
            IPAM_PLUGIN: IpamPlugin(app.ipam, app.detector),
            META_PLUGIN: app.meta,
            COORDINATOR: app.coordinator,
            IFACER: Ifacer(),
        }
        await _open(
            stack,
            listen_on_socket(
                dispatcher(socket_routes(app.ipam, plugins, app.configs.serve)), app.socket
            ),
        )
        # Before the socket closes: ADDs that run take back what they made, and tell their callers.
        stack.push_async_callback(app.ipam.pod_locks.settle)
        stack.push_async_callback(app.coordinator.settle)
        stack.push_async_callback(app.meta.settle)
        app.started.set()
        stack.callback(app.started.clear)
        log.info("spiderpool-agent serves", node=app.settings.node, socket=str(app.socket))
        yield


@asynccontextmanager
async def informed(app: App) -> AsyncIterator[None]:
    """
    Run all of an agent but its listeners.

    Inside, it knows its node and keeps its projections.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(app.informers.stop)
        stack.push_async_callback(app.watches.stop)
        await app.informers.start()
        await app.informers.synced()
        app.claims.inherit(frozenset(pod.metadata.uid for pod in app.informers.pods))
        stack.push_async_callback(app.recorder.stop)
        await app.recorder.start()
        stack.push_async_callback(app.supervisor.stop)
        app.supervisor.start("endpoints", lambda: app.endpoints.run(app.restore.looked))
        app.supervisor.start("restore", app.restore.run)
        app.supervisor.start("leak checks", app.leak_checks.run)
        if app.strays is not None:
            app.supervisor.start("strays", app.strays.run)
        yield


async def _open(stack: AsyncExitStack, listener: Coroutine[Any, Any, web.ServerRunner]) -> None:
    runner = await listener
    stack.push_async_callback(runner.cleanup)


def _metrics_handle(metrics: Metrics) -> Handle:
    """Make the handler of the metrics port: any path."""

    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response(body=metrics.render(), content_type="text/plain", charset="utf-8")

    return handle


def _lost(metrics: Metrics, reports: Reports, pod: Pod, text: str) -> None:
    metrics.lost_addresses.inc()
    reports.address_lost(pod, text)


def _fenced(
    metrics: Metrics, recorder: EventRecorder, pool: SpiderIPPool | None, text: str
) -> None:
    metrics.fenced_addresses.inc()
    if pool is not None:
        recorder.record(pool, EventReason.FENCED, text)


def _suspicious(
    metrics: Metrics, recorder: EventRecorder, pool: SpiderIPPool | None, text: str
) -> None:
    """Report a tenant or machine that has, or answers for, too many addresses."""
    metrics.suspicious_addresses.inc()
    if pool is not None:
        recorder.record(pool, EventReason.MISUSED, text)


def known_uids(informers: Informers) -> dict[str, str]:
    """
    Return the UIDs by which processes are this node's: of its pods, and of those that it had.

    Runtimes that keep no files of namespaces are looked into by the UIDs alone.
    """
    held = {record.spec.holder.uid for record in informers.records if record.spec.holder.uid}
    return {uid: uid for uid in held} | runtime_uids(informers.pods)


def _pool_changed(occupancy: Occupancy, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
    """
    Wake who waits for an address when what a pool gives may have changed.

    Its status is written all the time.
    """
    if old is None or new is None or (old.spec, is_imported(old)) != (new.spec, is_imported(new)):
        occupancy.changed()


def _note(endpoints: Endpoints, *records: SpiderIP | None) -> None:
    """Have the endpoints of all holders looked at that a change concerns."""
    for record in records:
        if record is not None:
            endpoints.changed(name_of(record))
