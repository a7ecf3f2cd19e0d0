"""Pools that are deleted."""

from __future__ import annotations

from msgspec.structs import replace

from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.controller.pools.deletion import GATHER_S, PoolKeeper, in_use_message
from spiderpool.errors import NotFound
from tests.unit.controller.conftest import Scene, make_pool, make_record, settle


async def keep(scene: Scene) -> PoolKeeper:
    """Start a keeper over what the cluster has."""
    keeper = PoolKeeper(await scene.lead(), scene.told, clock=scene.clock)
    keeper.start()
    return keeper


async def run(scene: Scene, keeper: PoolKeeper, seconds: float = GATHER_S) -> None:
    """Let time pass and the keeper work."""
    await scene.pass_time(seconds)
    await keeper.queue.run_due()
    await settle()


async def test_free_pool_goes(scene: Scene) -> None:
    """A deleted pool without records loses our finalizer, and with it goes."""
    scene.cluster.seed(make_pool(going=True))
    await run(scene, await keep(scene))

    assert () == scene.cluster.all(SpiderIPPool)


async def test_living_pool_stays(scene: Scene) -> None:
    """A pool that nobody deleted keeps its finalizer."""
    scene.cluster.seed(make_pool())
    await run(scene, await keep(scene))

    assert 1 == len(scene.cluster.all(SpiderIPPool)[0].metadata.finalizers)


async def test_used_pool_stays_and_says_why(scene: Scene) -> None:
    """
    A deleted pool whose addresses are held stays, and an Event names the pods.

    With the last release it goes.
    """
    scene.cluster.seed(make_pool(going=True))
    first = scene.cluster.seed(make_record("10.6.0.10", "web-1", "u1"))
    second = scene.cluster.seed(make_record("10.6.0.11", "web-2", "u2"))
    keeper = await keep(scene)
    await run(scene, keeper)

    text = "pool blue is deleted when its addresses are free: 2 addresses are held by ns/web-1, ns/web-2"
    assert [("blue", "PoolInUse", text)] == scene.told.events
    for record in (first, second):
        assert 1 == len(scene.cluster.all(SpiderIPPool))
        scene.cluster.drop(SpiderIP, record.metadata.name)
        await run(scene, keeper, 0)
        await run(scene, keeper)
    assert () == scene.cluster.all(SpiderIPPool)


async def test_status_decides_nothing(scene: Scene) -> None:
    """A held record keeps the pool though its status says that nothing is allocated."""
    scene.cluster.seed(make_pool(going=True, allocated=None))
    scene.cluster.seed(make_record())
    await run(scene, await keep(scene))
    assert 1 == len(scene.cluster.all(SpiderIPPool))


async def test_stale_status_does_not_keep_a_pool(scene: Scene) -> None:
    """A projected status that lists an address which is free by now does not keep the pool."""
    scene.cluster.seed(make_pool(going=True, allocated='{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}'))
    await run(scene, await keep(scene))
    assert () == scene.cluster.all(SpiderIPPool)


async def test_pool_that_waits_for_its_import_stays(scene: Scene) -> None:
    """Allocations that have no records yet keep their pool."""
    text = '{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}'
    scene.cluster.seed(make_pool(going=True, marked=False, allocated=text))
    await run(scene, await keep(scene))
    assert 1 == len(scene.cluster.all(SpiderIPPool))


async def test_claim_that_the_informer_has_not_seen_keeps_the_pool(scene: Scene) -> None:
    """The last look before a pool goes is a consistent list."""
    scene.cluster.seed(make_pool(going=True))
    keeper = await keep(scene)
    scene.cluster.hold_watch()
    scene.cluster.seed(make_record())
    await run(scene, keeper)

    assert 1 == len(scene.cluster.all(SpiderIPPool))
    assert ["PoolInUse"] == [reason for _, reason, _ in scene.told.events]


async def test_many_resting_records_go_at_once(scene: Scene) -> None:
    """After a burst of releases a pool goes with all its records, also when some of them end by themselves meanwhile."""
    scene.cluster.seed(make_pool(going=True))
    for number in range(10, 110):
        scene.cluster.seed(make_record(f"10.6.0.{number}", state=IPState.COOLING))
    scene.cluster.faults.fail_next("delete", SpiderIP, NotFound("gone"), times=3)
    keeper = await keep(scene)
    await run(scene, keeper)

    assert [] == list(scene.cluster.all(SpiderIPPool))
    assert 3 == len(scene.cluster.all(SpiderIP))  # those that the fault said were gone


async def test_cooling_records_go_with_their_pool(scene: Scene) -> None:
    """Addresses that cool or are quarantined do not keep a pool, and are not left behind."""
    scene.cluster.seed(make_pool(going=True))
    scene.cluster.seed(make_record("10.6.0.10", state=IPState.COOLING))
    scene.cluster.seed(make_record("10.6.0.11", state=IPState.QUARANTINED))
    scene.cluster.seed(make_record("10.9.0.11", pool="red", state=IPState.COOLING))
    await run(scene, await keep(scene))

    assert () == scene.cluster.all(SpiderIPPool)
    assert ["red"] == [record.spec.pool for record in scene.cluster.all(SpiderIP)]


async def test_other_finalizers_stay(scene: Scene) -> None:
    """Only our own finalizer is taken off."""
    pool = make_pool(going=True)
    scene.cluster.seed(
        type(pool)(metadata=_with_finalizer(pool, "example.com/keep"), spec=pool.spec)
    )
    await run(scene, await keep(scene))

    assert ("example.com/keep",) == scene.cluster.all(SpiderIPPool)[0].metadata.finalizers


def _with_finalizer(pool: SpiderIPPool, name: str) -> ObjectMeta:
    """Add a finalizer to a pool's metadata."""
    return replace(pool.metadata, finalizers=(*pool.metadata.finalizers, name))


def test_message_names_ten_pods_at_most() -> None:
    """A long list of pods is cut, with the number of the rest."""
    held = [make_record(f"10.6.0.{n}", f"p{n:02}", f"u{n}") for n in range(10, 25)]
    text = in_use_message("blue", held)

    assert text.endswith("ns/p18, ns/p19 and 5 more")
    assert "15 addresses are held by ns/p10" in text
    assert "1 address is held by ns/p10" in in_use_message("blue", held[:1])
