"""The controller's series."""

from __future__ import annotations

from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace

from spiderpool.api.crd.group import LABEL_OWNER_APP_NAME
from spiderpool.api.crd.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec, SubnetStatus
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.controller.metrics import Metrics, metrics_app
from spiderpool.records.verdicts import Trigger
from tests.unit.controller.conftest import make_pool

SCOPE = 'otel_scope_name="spiderpool-controller",otel_scope_version="1"'
DEBUG = 'otel_scope_name="spiderpool-controller-debug-metrics",otel_scope_version="1"'


async def scrape(metrics: Metrics) -> list[str]:
    """Read the series as Prometheus does."""
    async with (
        TestClient(TestServer(metrics_app(metrics))) as client,
        client.get("/metrics") as answer,
    ):
        assert "text/plain; version=0.0.4" == answer.headers["Content-Type"]
        return [line for line in (await answer.text()).splitlines() if not line.startswith("#")]


async def test_documented_names_from_the_start() -> None:
    """
    Counters are there as 0 and pools are counted at each scrape.

    Source: docs/reference/configuration.md#metrics.
    """
    pools: list[SpiderIPPool] = []
    metrics = Metrics("1", pools)
    assert {
        f"spiderpool_ip_gc_counts_total{{{SCOPE}}} 0.0",
        f"spiderpool_ip_gc_failure_counts_total{{{SCOPE}}} 0.0",
        f"spiderpool_total_ippool_counts{{{SCOPE}}} 0.0",
        f"spiderpool_total_subnet_counts{{{SCOPE}}} 0.0",
    } <= set(await scrape(metrics))

    pools.append(make_pool())
    metrics.count_reclaim(Trigger.POD_GONE)
    metrics.count_reclaim(Trigger.FINISHED)
    metrics.count_reclaim(None)
    lines = await scrape(metrics)
    assert {
        f"spiderpool_ip_gc_counts_total{{{SCOPE}}} 2.0",
        f"spiderpool_ip_gc_failure_counts_total{{{SCOPE}}} 1.0",
        f"spiderpool_total_ippool_counts{{{SCOPE}}} 1.0",
        f'spiderpool_ip_gc_trigger_counts_total{{{SCOPE},trigger="pod gone"}} 1.0',
        f'spiderpool_ip_gc_trigger_counts_total{{{SCOPE},trigger="pod finished"}} 1.0',
        f'spiderpool_ip_gc_trigger_counts_total{{{SCOPE},trigger="pod terminating"}} 0.0',
    } <= set(lines)
    assert [] == [line for line in lines if "debug" in line or "_created" in line]


async def test_each_pool_has_series_when_asked_for() -> None:
    """With debug metrics each pool tells its addresses, all and free; they are gauges."""
    pool = replace(make_pool(), status=IPPoolStatus(total_ip_count=10, allocated_ip_count=3))
    lines = await scrape(Metrics("1", [pool], debug=True))

    assert {
        f'spiderpool_debug_ippool_total_ip_counts{{SpiderIPPool="blue",{DEBUG}}} 10.0',
        f'spiderpool_debug_ippool_available_ip_counts{{SpiderIPPool="blue",{DEBUG}}} 7.0',
    } == {line for line in lines if "debug_ippool" in line}


async def test_how_full_each_pool_is() -> None:
    """
    Always exported, from the status; a pool without counts has no series.

    Automatic ones are told apart.
    """
    status = IPPoolStatus(total_ip_count=20, allocated_ip_count=18)
    pool = replace(make_pool(), status=status)
    labels = {LABEL_OWNER_APP_NAME: "web"}
    automatic = replace(pool, metadata=replace(pool.metadata, name="auto4-web", labels=labels))
    lines = await scrape(Metrics("1", [pool, automatic, make_pool("new")]))

    assert {
        f'spiderpool_ippool_usage_ratio{{SpiderIPPool="blue",automatic="false",{SCOPE}}} 0.9',
        f'spiderpool_ippool_usage_ratio{{SpiderIPPool="auto4-web",automatic="true",{SCOPE}}} 0.9',
    } == {line for line in lines if "usage_ratio" in line}


async def test_each_subnet_has_series_when_asked_for() -> None:
    """
    With debug metrics each subnet tells its pools and its addresses, all and free.

    Source: docs/reference/configuration.md#metrics.
    """
    status = SubnetStatus(
        controlled_ippools='{"a":{"ips":["10.6.0.1"]}}', total_ip_count=10, allocated_ip_count=1
    )
    subnet = SpiderSubnet(
        metadata=ObjectMeta(name="s"),
        spec=SubnetSpec(ip_version=4, subnet="10.6.0.0/16"),
        status=status,
    )
    lines = await scrape(Metrics("1", [], [subnet], debug=True))

    assert {
        f"spiderpool_total_subnet_counts{{{SCOPE}}} 1.0",
        f'spiderpool_debug_subnet_ippool_counts{{SpiderSubnet="s",{DEBUG}}} 1.0',
        f'spiderpool_debug_subnet_total_ip_counts{{SpiderSubnet="s",{DEBUG}}} 10.0',
        f'spiderpool_debug_subnet_available_ip_counts{{SpiderSubnet="s",{DEBUG}}} 9.0',
    } <= set(lines)
