"""The page of metrics, from what agent and controller export."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Metric

from deploy.reference.tables import page, table
from spiderpool.agent.metrics import Metrics as AgentMetrics
from spiderpool.api.crd.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.controller.metrics import Metrics as ControllerMetrics

TEXT = """\
Series of the agent (port 5711) and of the controller (port 5721), where
`spiderpoolAgent.prometheus.enabled` and `spiderpoolController.prometheus.enabled` are on. Each one
has the labels `otel_scope_name` and `otel_scope_version` besides those below; a series without a
value yet is 0 from the start.

Alerts and a dashboard that use them come with the chart (`prometheusRule`, `grafanaDashboard`)."""

SCOPE = {"otel_scope_name", "otel_scope_version"}
ENDINGS = {"counter": "_total", "info": "_info"}
DEBUG = "`spiderpoolController.prometheus.enabledDebugMetric`"


def render() -> str:
    """Return the page."""
    pools = [
        SpiderIPPool(
            metadata=ObjectMeta(name="p"),
            spec=IPPoolSpec(subnet="10.6.0.0/16"),
            status=replace(IPPoolStatus(), total_ip_count=1),
        )
    ]
    subnets = [SpiderSubnet(metadata=ObjectMeta(name="s"), spec=SubnetSpec(subnet="10.6.0.0/16"))]
    usual = ControllerMetrics("", pools, subnets).registry
    names = {family.name for family in usual.collect()}
    debug = ControllerMetrics("", pools, subnets, debug=True).registry
    return page(
        "Metrics",
        "src/spiderpool/agent/metrics.py and src/spiderpool/controller/metrics.py",
        TEXT,
        f"## spiderpool-agent\n\n{_table(_agent().collect())}",
        f"## spiderpool-controller\n\n{_table(usual.collect())}",
        f"### With {DEBUG}\n\n{_table(f for f in debug.collect() if f.name not in names)}",
    )


def _agent() -> CollectorRegistry:
    """Return the agent's registry, each series with a value: a series has its labels with it."""
    metrics = AgentMetrics("")
    metrics.api_call("get", "pods", 200, 0.1)
    metrics.task_restarted("x")
    return metrics.registry


def _table(families: Iterable[Metric]) -> str:
    """Return the series, by name."""
    rows = sorted(
        (
            f"`{family.name}{ENDINGS.get(family.type, '')}`",
            family.type,
            ", ".join(f"`{label}`" for label in _labels(family)),
            family.documentation,
        )
        for family in families
    )
    return table(("series", "type", "labels", "meaning"), rows)


def _labels(family: Metric) -> list[str]:
    """Return the labels of a series; without a value it has none, and the page would be wrong."""
    if not family.samples:
        raise ValueError(
            f"{family.name} has no value here: give it one in deploy/reference/metrics.py"
        )
    found = {label for sample in family.samples for label in sample.labels}
    return sorted(found - SCOPE - {"le"})
