"""
What the controller counts, under the documented names; only what exists is exported.

Each series carries the two `otel_scope` labels of the original, since boards select by them.

Source: docs/reference/configuration.md#metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from spiderpool.api.crd.group import LABEL_OWNER_APP_NAME
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.model.subnet import read_grants
from spiderpool.records.verdicts import Trigger

SCOPE: Final = "spiderpool-controller"
DEBUG_SCOPE: Final = "spiderpool-controller-debug-metrics"
SERVICE: Final = "spiderpool.spidernet.io"
_LABELS: Final = ("otel_scope_name", "otel_scope_version")


class Metrics:
    """All series of one controller, in a registry of their own."""

    def __init__(
        self,
        version: str,
        pools: Iterable[SpiderIPPool],
        subnets: Iterable[SpiderSubnet] = (),
        *,
        debug: bool = False,
    ) -> None:
        """
        Register the series.

        Args:
            version: value of the label `otel_scope_version`.
            pools: the informer of pools, walked at each scrape.
            subnets: the informer of subnets, the same.
            debug: whether each pool and each subnet gets series of its own.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the original has no such series
        self.registry = CollectorRegistry()
        scope = (SCOPE, version)
        Info("otel_scope", "Instrumentation scope", _LABELS, registry=self.registry).labels(
            *scope
        ).info({})
        Gauge("target_info", "Target metadata", ("service_name",), registry=self.registry).labels(
            SERVICE
        ).set(1)
        self._reclaimed = self._counter("ip_gc_counts", "addresses reclaimed", scope)
        self._failed = self._counter(
            "ip_gc_failure_counts", "reclaims that met a changed record", scope
        )
        # Ours: the documents promise one sum only.
        self._reasons = Counter(
            "spiderpool_ip_gc_trigger_counts",
            "addresses reclaimed, by reason",
            (*_LABELS, "trigger"),
            registry=self.registry,
        )
        self._scope = scope
        for trigger in Trigger:
            self._reasons.labels(*scope, trigger)
        total = Gauge(
            "spiderpool_total_ippool_counts", "pools", _LABELS, registry=self.registry
        ).labels(*scope)
        total.set_function(lambda: float(sum(1 for _ in pools)))
        total = Gauge(
            "spiderpool_total_subnet_counts", "subnets", _LABELS, registry=self.registry
        ).labels(*scope)
        total.set_function(lambda: float(sum(1 for _ in subnets)))
        self.registry.register(PoolUsage(pools, version))
        if debug:
            self.registry.register(PoolSeries(pools, version))
            self.registry.register(SubnetSeries(subnets, version))

    def count_reclaim(self, trigger: Trigger | None) -> None:
        """Count a reclaimed address and why it was; None = an attempt that failed."""
        if trigger is None:
            self._failed.inc()
            return
        self._reclaimed.inc()
        self._reasons.labels(*self._scope, trigger).inc()

    def _counter(self, name: str, text: str, scope: tuple[str, str]) -> Counter:
        """Register a counter that is exported as 0 from the start."""
        counter = Counter(f"spiderpool_{name}", text, _LABELS, registry=self.registry)
        return counter.labels(*scope)


@dataclass(frozen=True, eq=False)
class PoolUsage(Collector):
    """
    How full each pool is, from its status: 0 to 1.

    Not in the original, whose series of pools are for debugging only.

    Automatic pools are as large as their application, so they are told apart: nearly full is how
    they should be.
    """

    pools: Iterable[SpiderIPPool]
    version: str  # of the label `otel_scope_version`

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """
        Render the series at a scrape.

        A pool without addresses, or one that is not counted yet, has none.
        """
        labels = (*_LABELS, "SpiderIPPool", "automatic")
        ratio = GaugeMetricFamily(
            "spiderpool_ippool_usage_ratio", "held part of the pool's addresses", labels=labels
        )
        for pool in self.pools:
            automatic = "true" if LABEL_OWNER_APP_NAME in pool.metadata.labels else "false"
            if count := pool.status.total_ip_count:
                taken = pool.status.allocated_ip_count or 0
                ratio.add_metric(
                    (SCOPE, self.version, pool.metadata.name, automatic), taken / count
                )
        yield ratio


@dataclass(frozen=True, eq=False)
class PoolSeries(Collector):
    """Addresses of each pool, all and free, from its status."""

    pools: Iterable[SpiderIPPool]
    version: str  # of the label `otel_scope_version`

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Render the series at a scrape."""
        labels = (*_LABELS, "SpiderIPPool")
        total = GaugeMetricFamily(
            "spiderpool_debug_ippool_total_ip_counts", "addresses of the pool", labels=labels
        )
        free = GaugeMetricFamily(
            "spiderpool_debug_ippool_available_ip_counts",
            "free addresses of the pool",
            labels=labels,
        )
        for pool in self.pools:
            values = (DEBUG_SCOPE, self.version, pool.metadata.name)
            count, taken = pool.status.total_ip_count or 0, pool.status.allocated_ip_count or 0
            total.add_metric(values, count)
            free.add_metric(values, max(0, count - taken))
        yield total
        yield free


@dataclass(frozen=True, eq=False)
class SubnetSeries(Collector):
    """Addresses of each subnet, those that no pool has, and its pools, from its status."""

    subnets: Iterable[SpiderSubnet]
    version: str  # of the label `otel_scope_version`

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Render the series at a scrape."""
        labels = (*_LABELS, "SpiderSubnet")
        prefix = "spiderpool_debug_subnet"
        pools = GaugeMetricFamily(f"{prefix}_ippool_counts", "pools of the subnet", labels=labels)
        total = GaugeMetricFamily(
            f"{prefix}_total_ip_counts", "addresses of the subnet", labels=labels
        )
        free = GaugeMetricFamily(
            f"{prefix}_available_ip_counts", "addresses that no pool has", labels=labels
        )
        for subnet in self.subnets:
            values = (DEBUG_SCOPE, self.version, subnet.metadata.name)
            count, given = subnet.status.total_ip_count or 0, subnet.status.allocated_ip_count or 0
            family = subnet.spec.ip_version or 4
            pools.add_metric(values, len(read_grants(subnet.status.controlled_ippools, family)))
            total.add_metric(values, count)
            free.add_metric(values, max(0, count - given))
        yield from (pools, total, free)


def metrics_app(metrics: Metrics) -> web.Application:
    """Build the application of the metrics port: every path answers."""

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry),
            headers={"Content-Type": "text/plain; version=0.0.4"},
        )

    app = web.Application()
    app.router.add_get("/{path:.*}", scrape)
    return app
