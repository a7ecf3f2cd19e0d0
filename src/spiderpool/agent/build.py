"""
The agent put together, room by room.

Each function makes the parts of one room from what the rooms below it made; nothing runs yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spiderpool.agent.app import App
from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.agent.concurrency.retrying_cluster import RetryingCluster
from spiderpool.agent.concurrency.supervisor import Supervisor
from spiderpool.agent.coordinator.cluster_config import CoordinatorConfigs
from spiderpool.agent.coordinator.plugin import CoordinatorPlugin
from spiderpool.agent.informers import Informers
from spiderpool.agent.ipam.allocator import WAIT_S, Allocator
from spiderpool.agent.ipam.detection import Detector, quarantined_in
from spiderpool.agent.ipam.facts import FactSource
from spiderpool.agent.ipam.incidents import Incidents
from spiderpool.agent.ipam.pod_events import COMPONENT, Reports
from spiderpool.agent.ipam.release import Releases
from spiderpool.agent.ipam.socket_operations import Ipam
from spiderpool.agent.metrics import Metrics
from spiderpool.agent.multus.plugin import MetaPlugin
from spiderpool.agent.node.caller import PodCall
from spiderpool.agent.node.installation import node_policy, read_install_settings
from spiderpool.agent.node.kube_proxy import KubeProxyWatch, looking
from spiderpool.agent.node.sysctl import RECORD, NodeSettings
from spiderpool.agent.reconcile.endpoints import QUIET_S, Endpoints
from spiderpool.agent.reconcile.restore import Restore
from spiderpool.agent.reconcile.sightings import Fence, Look
from spiderpool.agent.reconcile.strays import Strays
from spiderpool.agent.reconcile.suspected_records import LeakChecks
from spiderpool.agent.records.claims import Claims
from spiderpool.agent.records.cooling_informers import CoolingWatches
from spiderpool.agent.records.handover import Handover
from spiderpool.agent.records.occupancy import Occupancy
from spiderpool.agent.records.releases import Deletions
from spiderpool.agent.settings import Settings
from spiderpool.api.agent.interfaces import InUseNamespace
from spiderpool.api.kubernetes.core import Node, Pod
from spiderpool.configuration.config import Config
from spiderpool.kernel import address_removal
from spiderpool.kernel.pod_namespaces import read_pod_namespaces
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.events import EventRecorder
from spiderpool.model.pod import runtime_uids
from spiderpool.model.pool import Pool
from spiderpool.networks.meta_config import NodePolicy


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
    fence: Fence = address_removal.fence,
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
    base = _build_base(settings, config, cluster, metrics, retry or RetryPolicy())
    records = _build_records(base)
    ipam = _build_ipam(base, records, wait_s)
    reconcilers = _build_reconcilers(base, records, quiet_s, look or base.look, fence)
    configs = CoordinatorConfigs(base.informers, base.source)
    node_settings = NodeSettings(Path(config.ipam_unix_socket_path).parent / RECORD)
    return App(
        settings=settings,
        socket=Path(config.ipam_unix_socket_path),
        informers=base.informers,
        claims=records.claims,
        watches=records.watches,
        ipam=ipam,
        configs=configs,
        meta=MetaPlugin(
            cluster,
            base.recorder,
            node or node_policy(read_install_settings({}), config.multus.allowed_plugins),
        ),
        detector=Detector(records.deletions, base.quarantined_in, base.incidents.pool_misused),
        coordinator=CoordinatorPlugin(
            configs, counted=metrics.coordinator_call, report=base.reports.policy_left_out
        ),
        endpoints=reconcilers.endpoints,
        restore=reconcilers.restore,
        leak_checks=reconcilers.leak_checks,
        strays=reconcilers.strays if settings.reclaim else None,
        recorder=base.recorder,
        metrics=metrics,
        node_settings=node_settings,
        kube_proxy=KubeProxyWatch(
            looking(node_settings, config.features.families),
            base.node,
            base.recorder.record,
            metrics.packets_invalid,
        ),
        supervisor=Supervisor(metrics.task_restarted),
        started=asyncio.Event(),
    )


@dataclass(frozen=True, slots=True)
class _Base:
    """What several rooms need. `api` retries what `cluster` does not."""

    settings: Settings
    config: Config
    metrics: Metrics
    cluster: Cluster
    api: RetryingCluster
    informers: Informers
    source: FactSource
    pod_locks: KeyedLock
    recorder: EventRecorder
    reports: Reports
    incidents: Incidents

    def node(self) -> Node | None:
        """Return this node's object, None as long as it is unknown."""
        return self.informers.node.named(self.settings.node)

    def pools(self) -> Mapping[str, Pool]:
        """Return the pools as they are now."""
        return self.source.pools

    def is_busy(self) -> bool:
        """Return whether a CNI call runs or waits."""
        return self.pod_locks.busy

    def quarantined_in(self, pool: str) -> int:
        """Count this node's quarantined addresses of a pool."""
        return quarantined_in(self.informers.records, pool)

    async def look(self) -> tuple[InUseNamespace, ...]:
        """Look into the namespaces of the node's pods."""
        return await read_pod_namespaces(known_uids(self.informers))


def _build_base(
    settings: Settings, config: Config, cluster: Cluster, metrics: Metrics, retry: RetryPolicy
) -> _Base:
    api = RetryingCluster(cluster, retry)
    informers = Informers(cluster, settings.node)
    source = FactSource(
        api,
        informers,
        config.features,
        node=settings.node,
        agent_namespace=settings.namespace,
        default_network=settings.default_network,
    )

    def find_pod(call: PodCall) -> Pod | None:
        return informers.pods.named(call.name, call.namespace)

    recorder = EventRecorder(cluster, COMPONENT, host=settings.node)
    return _Base(
        settings=settings,
        config=config,
        metrics=metrics,
        cluster=cluster,
        api=api,
        informers=informers,
        source=source,
        pod_locks=KeyedLock(metrics.allocation_wait.observe, metrics.release_wait.observe),
        recorder=recorder,
        reports=Reports(recorder, find_pod),
        incidents=Incidents(metrics, recorder, informers.pools.named),
    )


@dataclass(frozen=True, slots=True)
class _Records:
    """The room `records`."""

    occupancy: Occupancy
    deletions: Deletions
    watches: CoolingWatches
    claims: Claims


def _build_records(base: _Base) -> _Records:
    informers, occupancy = base.informers, Occupancy(base.api)
    informers.records.subscribe(occupancy.follow)
    informers.pools.subscribe(occupancy.follow_pools)
    informers.reserved.subscribe(lambda *_: occupancy.changed())
    deletions = Deletions(base.api, informers.records, occupancy, base.pools)
    watches = CoolingWatches(base.cluster, occupancy, node=base.settings.node)
    claims = Claims(
        base.api,
        informers.records,
        occupancy,
        watches,
        deletions=deletions,
        on_loss=base.metrics.lost_creates.inc,
    )
    return _Records(occupancy, deletions, watches, claims)


def _build_ipam(base: _Base, records: _Records, wait_s: float) -> Ipam:
    return Ipam(
        cluster=base.cluster,
        informers=base.informers,
        source=base.source,
        allocator=Allocator(
            base.source,
            base.informers.records,
            records.claims,
            Handover(base.api, base.informers.records),
            records.occupancy,
            report=base.reports.left_out,
            wait_s=wait_s,
            pool_wait_s=base.settings.pool_wait_s,
        ),
        releases=Releases(
            base.api,
            base.informers,
            records.claims,
            deletions=records.deletions,
            on_loss=base.metrics.lost_releases.inc,
        ),
        pod_locks=base.pod_locks,
        metrics=base.metrics,
        reports=base.reports,
        release_conflict_ips=base.settings.release_conflict_ips,
    )


@dataclass(frozen=True, slots=True)
class _Reconcilers:
    """The room `reconcile`."""

    endpoints: Endpoints
    restore: Restore
    leak_checks: LeakChecks
    strays: Strays


def _build_reconcilers(
    base: _Base, records: _Records, quiet_s: float, look: Look, fence: Fence
) -> _Reconcilers:
    node, incidents = base.settings.node, base.incidents
    endpoints = Endpoints(
        base.api,
        base.informers,
        base.source.owners,
        node=node,
        is_busy=base.is_busy,
        is_served=base.pod_locks.is_served,
        quiet_s=quiet_s,
    )
    base.informers.records.subscribe(endpoints.follow)
    restore = Restore(
        base.api,
        base.informers,
        base.source.owners,
        records.deletions,
        node=node,
        features=base.config.features,
        pools=base.pools,
        pod_locks=base.pod_locks,
        look=look,
        on_lost=incidents.address_lost,
    )
    leak_checks = LeakChecks(
        base.api,
        base.informers,
        records.deletions,
        base.pod_locks,
        node=node,
        look=look,
        fence=fence,
        on_fenced=incidents.address_fenced,
        on_pinned=incidents.pool_misused,
    )
    strays = Strays(
        base.api,
        base.informers,
        node=node,
        pools=base.pools,
        look=look,
        fence=fence,
        on_fenced=incidents.address_fenced,
    )
    return _Reconcilers(endpoints, restore, leak_checks, strays)


def known_uids(informers: Informers) -> dict[str, str]:
    """
    Return the UIDs by which processes are this node's: of its pods, and of those that it had.

    Runtimes that keep no files of namespaces are looked into by the UIDs alone.
    """
    held = {record.spec.holder.uid for record in informers.records if record.spec.holder.uid}
    return {uid: uid for uid in held} | runtime_uids(informers.pods)
