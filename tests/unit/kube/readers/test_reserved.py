"""Reserved addresses that follow their SpiderReservedIPs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from spiderpool.addressing.ranges import parse_address
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.kube.informer import Informer
from spiderpool.kube.readers.reserved import ReservedAddresses
from tests.fakes.cluster import FakeCluster

TEN, ELEVEN = parse_address("10.6.0.10"), parse_address("10.6.0.11")


def reservation(name: str, *items: str) -> SpiderReservedIP:
    """Make a SpiderReservedIP."""
    return msgspec.convert(
        {"metadata": {"name": name, "uid": name}, "spec": {"ips": items}}, SpiderReservedIP
    )


@pytest.fixture
async def informer() -> Any:
    """A synced informer of one object, of which one item cannot be read."""
    cluster = FakeCluster()
    cluster.seed(reservation("a", "bad", "10.6.0.10"))
    informer = Informer(cluster, SpiderReservedIP)
    await informer.start()
    await informer.synced()
    yield informer
    await informer.stop()


async def test_the_addresses_follow_the_objects(informer: Informer[SpiderReservedIP]) -> None:
    """What was there counts, and what comes later."""
    reserved = ReservedAddresses(informer)
    assert (True, False) == (TEN in reserved.by_family[4], ELEVEN in reserved.by_family[4])

    informer.remember(msgspec.convert(later(reservation("b", "10.6.0.11")), SpiderReservedIP))
    assert (True, True) == (TEN in reserved.by_family[4], ELEVEN in reserved.by_family[4])


async def test_a_bad_item_is_logged_once(informer: Informer[SpiderReservedIP]) -> None:
    """A change of another object does not repeat the warning."""
    with capture_logs() as logs:
        ReservedAddresses(informer)
        informer.remember(msgspec.convert(later(reservation("b", "10.6.0.11")), SpiderReservedIP))

    (warning,) = logs
    assert "warning" == warning["log_level"]
    assert (
        'SpiderReservedIP a: "bad" is not an IP address; this item reserves nothing'
        == warning["reason"]
    )


def later(obj: SpiderReservedIP) -> dict[str, Any]:
    """Return an object a version above that of everything in the cluster."""
    document = msgspec.to_builtins(obj)
    document["metadata"]["resourceVersion"] = "1000"
    return document
