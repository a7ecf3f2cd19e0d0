"""
The agent at work: in which order its parts start, and in which they stop.

How the parts are made is in `build`.
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
from spiderpool.agent.api.node_settings import node_routes
from spiderpool.agent.api.pod_interfaces import interface_routes
from spiderpool.agent.api.server import (
    Handle,
    Plugin,
    dispatcher,
    listen_on_port,
    listen_on_socket,
    socket_routes,
)
from spiderpool.agent.concurrency.supervisor import Supervisor
from spiderpool.agent.coordinator.cluster_config import CoordinatorConfigs
from spiderpool.agent.coordinator.ifacer_plugin import Ifacer
from spiderpool.agent.coordinator.plugin import CoordinatorPlugin
from spiderpool.agent.informers import Informers
from spiderpool.agent.ipam.detection import Detector
from spiderpool.agent.ipam.plugin import IpamPlugin
from spiderpool.agent.ipam.socket_operations import Ipam
from spiderpool.agent.metrics import Metrics
from spiderpool.agent.multus.plugin import MetaPlugin
from spiderpool.agent.node.kube_proxy import KubeProxyWatch
from spiderpool.agent.node.sysctl import NodeSettings
from spiderpool.agent.reconcile.endpoints import Endpoints
from spiderpool.agent.reconcile.restore import Restore
from spiderpool.agent.reconcile.strays import Strays
from spiderpool.agent.reconcile.suspected_records import LeakChecks
from spiderpool.agent.records.claims import Claims
from spiderpool.agent.records.cooling_informers import CoolingWatches
from spiderpool.agent.settings import Settings
from spiderpool.kube.events import EventRecorder
from spiderpool.networks.delegates import META_PLUGIN

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
