"""Incidents are counted, and told where there is an object to tell them on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import Counter

from spiderpool.agent.ipam.incidents import Incidents
from spiderpool.agent.metrics import Metrics
from spiderpool.api.kubernetes.core import Event
from spiderpool.kube.events import EventRecorder
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import make_ippool, make_pod
from tests.unit.agent.reconcile.test_endpoints import until


def value_of(counter: Counter) -> float:
    """Return what a counter says."""
    (family,) = counter.collect()
    return family.samples[0].value


def make_incidents(cluster: FakeCluster, *pools: str) -> Incidents:
    """Incidents of an agent that knows these pools."""
    known = {name: make_ippool(name) for name in pools}
    return Incidents(Metrics("test"), EventRecorder(cluster, "agent"), known.get)


async def written(cluster: FakeCluster, incidents: Incidents) -> list[tuple[str, str, str]]:
    """Return the Events that were queued: object, reason, message."""
    await incidents.recorder.start()
    await until(lambda: bool(cluster.all(Event)))
    await incidents.recorder.stop()
    return [
        (event.involved_object.name, event.reason, event.message) for event in cluster.all(Event)
    ]


@pytest.mark.parametrize(
    ("report", "counter", "reason"),
    [
        (Incidents.address_fenced, "fenced_addresses", "IPFenced"),
        (Incidents.pool_misused, "suspicious_addresses", "IPMisused"),
    ],
)
async def test_a_pool(
    report: Callable[[Incidents, str, str], None], counter: str, reason: str
) -> None:
    """What happened to a pool's address is counted; a pool that is gone has no Event."""
    cluster = FakeCluster()
    incidents = make_incidents(cluster, "blue")

    report(incidents, "blue", "what happened")
    report(incidents, "gone", "what happened")

    assert 2 == value_of(getattr(incidents.metrics, counter))
    assert [("blue", reason, "what happened")] == await written(cluster, incidents)


async def test_a_pod() -> None:
    """A pod whose address somebody else has is told."""
    cluster = FakeCluster()
    incidents = make_incidents(cluster)

    incidents.address_lost(make_pod("web-1"), "somebody has it")

    assert 1 == value_of(incidents.metrics.lost_addresses)
    assert [("web-1", "IPAddressLost", "somebody has it")] == await written(cluster, incidents)
