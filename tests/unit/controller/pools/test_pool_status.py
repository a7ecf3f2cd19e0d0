"""Pool status as a projection of SpiderIPs."""

from __future__ import annotations

import json
import math

import pytest

from spiderpool.api.crd.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.api.crd.spiderip import IPState
from spiderpool.controller.pools.pool_status import (
    LARGE_GAP_S,
    SMALL_GAP_S,
    SMALL_POOL,
    ChangeRate,
    Projection,
    Written,
    write_due_s,
)
from spiderpool.errors import Conflict
from tests.unit.controller.conftest import Scene, make_pool, make_record, settle


async def project(scene: Scene, *, limit: int = 5000) -> Projection:
    """Start a projection over what the cluster has."""
    projection = Projection(await scene.lead(), limit=limit, clock=scene.clock)
    projection.start()
    return projection


async def run(scene: Scene, projection: Projection, seconds: float) -> int:
    """Let time pass in small steps; give how often a status was written."""
    before = scene.cluster.count("patch", SpiderIPPool)
    for _ in range(round(seconds / 0.05)):
        await scene.pass_time(0.05)
        await projection.queue.run_due()
    return scene.cluster.count("patch", SpiderIPPool) - before


def status_of(scene: Scene, name: str = "blue") -> IPPoolStatus:
    """Return the stored status of a pool."""
    return next(
        pool.status for pool in scene.cluster.all(SpiderIPPool) if pool.metadata.name == name
    )


async def test_status_has_the_form_that_other_tools_read(scene: Scene) -> None:
    """
    Addresses are keys in plain string order, the value names pod and UID, and counts are set.

    Source: docs/reference/objects.md#spiderippool.
    """
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_record("10.6.0.9", "p", "u"))
    scene.cluster.seed(make_record("10.6.0.10", "q", "v"))
    await run(scene, await project(scene), 1)
    status = status_of(scene)

    expected = '{"10.6.0.10":{"pod":"ns/q","podUid":"v"},"10.6.0.9":{"pod":"ns/p","podUid":"u"}}'
    assert expected == status.allocated_ips
    assert (10, 2) == (status.total_ip_count, status.allocated_ip_count)


async def test_map_goes_with_the_last_record(scene: Scene) -> None:
    """Without records the field `allocatedIPs` is absent and the count is 0."""
    scene.cluster.seed(make_pool())
    record = scene.cluster.seed(make_record())
    projection = await project(scene)
    await run(scene, projection, 1)
    scene.cluster.drop(type(record), record.metadata.name)
    await run(scene, projection, 3)

    assert IPPoolStatus(total_ip_count=10, allocated_ip_count=0) == status_of(scene)


async def test_only_held_records_count(scene: Scene) -> None:
    """Cooling and quarantined addresses are free in the status."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_record("10.6.0.10"))
    scene.cluster.seed(make_record("10.6.0.11", state=IPState.COOLING))
    scene.cluster.seed(make_record("10.6.0.12", state=IPState.QUARANTINED))
    await run(scene, await project(scene), 1)

    assert ["10.6.0.10"] == list(json.loads(status_of(scene).allocated_ips or "{}"))
    assert 1 == status_of(scene).allocated_ip_count


async def test_map_is_left_out_above_the_limit(scene: Scene) -> None:
    """Above the limit the counts are written without the map."""
    scene.cluster.seed(make_pool())
    for last in range(10, 14):
        scene.cluster.seed(make_record(f"10.6.0.{last}", f"p{last}", f"u{last}"))
    await run(scene, await project(scene, limit=3), 1)

    assert IPPoolStatus(total_ip_count=10, allocated_ip_count=4) == status_of(scene)


async def test_pool_that_waits_for_its_import_is_left_alone(scene: Scene) -> None:
    """What Go Spiderpool wrote is not overwritten before the pool is marked."""
    theirs = '{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}'
    scene.cluster.seed(make_pool(marked=False, allocated=theirs))
    await run(scene, await project(scene), 2)

    assert theirs == status_of(scene).allocated_ips
    assert 0 == scene.cluster.count("patch", SpiderIPPool)


async def test_unchanged_status_is_not_written(scene: Scene) -> None:
    """A status that is right already costs no write, also when the pool itself changes."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_record())
    projection = await project(scene)
    assert 1 == await run(scene, projection, 3)

    await scene.cluster.patch(SpiderIPPool, "blue", {"metadata": {"labels": {"a": "b"}}})
    assert 0 == await run(scene, projection, 3)


async def test_total_follows_the_specification(scene: Scene) -> None:
    """A pool that grows gets its new total (ips without excludeIPs)."""
    scene.cluster.seed(make_pool())
    projection = await project(scene)
    await run(scene, projection, 2)
    body = {"spec": {"ips": ["10.6.0.10-10.6.0.29"], "excludeIPs": ["10.6.0.11"]}}
    await scene.cluster.patch(SpiderIPPool, "blue", body)
    await run(scene, projection, 2)

    assert 19 == status_of(scene).total_ip_count


async def test_small_pool_is_written_at_most_once_a_second(scene: Scene) -> None:
    """A steady stream of claims makes about one write a second, and the last claim is seen soon after it."""
    scene.cluster.seed(make_pool(ips=("10.6.0.10-10.6.0.250",)))
    projection = await project(scene)
    await run(scene, projection, 5)
    writes = 0
    for last in range(10, 110):
        scene.cluster.seed(make_record(f"10.6.0.{last}", f"p{last}", f"u{last}"))
        writes += await run(scene, projection, 0.05)
    writes += await run(scene, projection, 1.2)

    assert 4 <= writes <= 7  # 5 s of claims
    assert 100 == status_of(scene).allocated_ip_count


async def test_large_pool_is_written_every_ten_seconds_at_most(scene: Scene) -> None:
    """Above 200 records writes are ten seconds apart."""
    scene.cluster.seed(make_pool(ips=("10.6.0.10-10.6.2.250",)))
    for index in range(300):
        scene.cluster.seed(
            make_record(f"10.6.{1 + index // 200}.{index % 200}", f"p{index}", f"u{index}")
        )
    projection = await project(scene)
    await run(scene, projection, 15)
    writes = 0
    for last in range(10, 110):
        scene.cluster.seed(make_record(f"10.6.0.{last}", f"q{last}", f"v{last}"))
        writes += await run(scene, projection, 0.25)
    writes += await run(scene, projection, 11)

    assert 2 <= writes <= 4  # 25 s of claims and what follows
    assert 400 == status_of(scene).allocated_ip_count


async def test_large_burst_is_written_when_it_rests(scene: Scene) -> None:
    """After a burst into a pool that was quiet, the status is right well before the ten seconds are over."""
    scene.cluster.seed(make_pool(ips=("10.6.0.10-10.6.2.250",)))
    projection = await project(scene)
    await run(scene, projection, 20)
    for index in range(300):
        scene.cluster.seed(
            make_record(f"10.6.{1 + index // 200}.{index % 200}", f"p{index}", f"u{index}")
        )
    assert 1 == await run(scene, projection, 0.7)
    assert 300 == status_of(scene).allocated_ip_count


async def test_lost_race_is_repeated(scene: Scene) -> None:
    """A write that meets a changed pool is made again with the pool as it is now."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_record())
    projection = await project(scene)
    scene.cluster.faults.fail_next("patch", SpiderIPPool, Conflict("modified"))
    await run(scene, projection, 3)

    assert 1 == status_of(scene).allocated_ip_count


async def test_cost_of_an_event_does_not_grow_with_the_pool(scene: Scene) -> None:
    """Records that come while a write is not due yet are only noted: nothing walks the pool."""
    scene.cluster.seed(make_pool())
    projection = await project(scene)
    await run(scene, projection, 2)
    before = len(scene.cluster.calls)
    for last in range(10, 20):
        scene.cluster.seed(make_record(f"10.6.0.{last}", f"p{last}", f"u{last}"))
        await settle()
        assert 1 == len(projection.queue)

    assert before == len(scene.cluster.calls)


SMALL, LARGE = SMALL_POOL, SMALL_POOL + 1


@pytest.mark.parametrize(
    ("records", "unrest", "written", "expected"),
    [
        (SMALL, ChangeRate(100, 100), Written(), 100 + SMALL_GAP_S / 20),
        (SMALL, ChangeRate(100, 100), Written(any=99.9), 99.9 + SMALL_GAP_S),
        (SMALL, ChangeRate(100, 100), Written(any=99.9, large=99.9), 99.9 + SMALL_GAP_S),
        (LARGE, ChangeRate(100, 104), Written(), 104 + LARGE_GAP_S / 20),
        (LARGE, ChangeRate(100, 109.9), Written(), 100 + LARGE_GAP_S),
        (LARGE, ChangeRate(100, 100), Written(any=95, large=95), 95 + LARGE_GAP_S),
        (LARGE, ChangeRate(100, 100), Written(any=100), 100 + SMALL_GAP_S),
        (SMALL, None, Written(any=95), 95 + SMALL_GAP_S),
        (SMALL, None, Written(), -math.inf),
    ],
)
def test_when_a_write_is_due(
    records: int, unrest: ChangeRate | None, written: Written, expected: float
) -> None:
    """A pool is written at rest or after a gap of unrest, never sooner than a gap after its last write of that size."""
    assert expected == write_due_s(records, unrest, written)


async def test_burst_into_a_small_pool_ends_without_waiting(scene: Scene) -> None:
    """The write of a few records at the beginning of a burst does not delay the one of many records at its end."""
    scene.cluster.seed(make_pool(ips=("10.6.0.10-10.6.2.250",)))
    projection = await project(scene)
    await run(scene, projection, 20)
    scene.cluster.seed(make_record("10.6.0.10", "first", "u"))
    assert 1 == await run(scene, projection, 0.5)
    for index in range(300):
        scene.cluster.seed(
            make_record(f"10.6.{1 + index // 200}.{index % 200}", f"p{index}", f"u{index}")
        )
    assert 1 == await run(scene, projection, 1)
    assert 301 == status_of(scene).allocated_ip_count
