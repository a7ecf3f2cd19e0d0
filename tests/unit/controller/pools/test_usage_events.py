"""Pools that are nearly full: one Event when it begins, one when it is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.crd.group import LABEL_OWNER_APP_NAME
from spiderpool.api.crd.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.audit.usage import is_nearly_full
from spiderpool.controller.pools.usage_events import Fullness
from spiderpool.model.event_reasons import EventReason
from tests.unit.controller.conftest import Scene, Told, make_pool, settle


def used(held: int | None, pool: SpiderIPPool | None = None) -> SpiderIPPool:
    """Make a pool of 20 addresses of which some are held."""
    return replace(
        pool or make_pool(), status=IPPoolStatus(total_ip_count=20, allocated_ip_count=held)
    )


@pytest.mark.parametrize(
    ("held", "total", "percent", "was", "expected"),
    [
        (17, 20, 90, False, False),
        (18, 20, 90, False, True),
        (17, 20, 90, True, True),
        (16, 20, 90, True, False),
        (20, 20, 100, False, True),
        (20, 20, 0, False, False),
        (0, 0, 90, False, False),
        (0, 20, 1, True, False),
    ],
)
def test_nearly_full(held: int, total: int, percent: int, was: bool, expected: bool) -> None:
    """
    From the threshold on, until 5 points below.

    Never when switched off, and never without addresses.
    """
    assert expected is is_nearly_full(held, total, percent, was=was)


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 100))
def test_it_does_not_flutter(held: int, total: int, percent: int) -> None:
    """Law: what begins at a number has not ended at the same number."""
    if is_nearly_full(held, total, percent, was=False):
        assert is_nearly_full(held, total, percent, was=True)


async def test_events(scene: Scene) -> None:
    """A warning when a pool gets nearly full, nothing while it stays so, a normal Event when it is over."""
    scene.cluster.seed(used(10))
    told = Told()
    context = await scene.lead()
    Fullness(context, told, percent=90).start()

    for held in (18, 19, 20, 17, 16, 10):
        await scene.cluster.patch(
            SpiderIPPool, "blue", {"status": {"allocatedIPCount": held}}, subresource="status"
        )
        await settle()

    text = "pool blue: 18 of 20 addresses are held; when none is left pods wait: add addresses, or a further pool"
    over = "pool blue: 16 of 20 addresses are held: not nearly full any more"
    assert [("blue", "PoolNearlyFull", text), ("blue", "PoolUsageNormal", over)] == told.events
    types = {reason.value: reason.type for reason in EventReason}
    assert ["Warning", "Normal"] == [types[reason] for _, reason, _ in told.events]


async def test_what_is_full_when_leadership_begins(scene: Scene) -> None:
    """It is told again: the leader before may have had no time."""
    scene.cluster.seed(used(20))
    told = Told()
    Fullness(await scene.lead(), told, percent=90).start()
    assert ["PoolNearlyFull"] == [reason for _, reason, _ in told.events]


async def test_automatic_pools(scene: Scene) -> None:
    """They are as large as their application: nearly full is how they should be."""
    pool = make_pool()
    labels = {LABEL_OWNER_APP_NAME: "web"}
    scene.cluster.seed(used(20, replace(pool, metadata=replace(pool.metadata, labels=labels))))
    told = Told()
    Fullness(await scene.lead(), told, percent=90).start()
    assert [] == told.events
