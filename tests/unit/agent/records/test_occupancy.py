"""What is believed to be taken: learned, listed, forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address

import msgspec
import pytest

from spiderpool.addressing.ranges import record_name
from spiderpool.addressing.sets import AddressSet
from spiderpool.agent.records.occupancy import Fullness, Occupancy
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.errors import Unreachable
from spiderpool.kube.cluster import Change
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import make_facts, make_pod, make_pool, make_record

TEN, ELEVEN, TWELVE, THIRTEEN = (ip_address(f"10.6.0.{n}") for n in (10, 11, 12, 13))


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


@pytest.fixture
def cluster() -> FakeCluster:
    """Return a cluster where somebody holds 10.6.0.10 to 10.6.0.13."""
    cluster = FakeCluster()
    for ip in (TEN, ELEVEN, TWELVE, THIRTEEN):
        cluster.seed(make_record(str(ip), facts=make_facts(pod=make_pod(f"p{ip}", uid=f"u{ip}"))))
    return cluster


async def test_a_lost_address_is_known(cluster: FakeCluster, clock: Clock) -> None:
    """What a create lost is not tried again."""
    occupancy = Occupancy(cluster, clock)
    await occupancy.lose("blue", TEN)

    assert TEN in occupancy.of("blue")
    assert ELEVEN not in occupancy.of("blue")
    assert TEN not in occupancy.of("red")


async def test_a_name_that_is_no_address_hides_no_others(
    cluster: FakeCluster, clock: Clock
) -> None:
    """A record that is older than the rules for its name is passed over."""
    record = cluster.all(SpiderIP)[0]
    metadata = msgspec.structs.replace(record.metadata, name="garbage", uid="g")
    cluster.seed(msgspec.structs.replace(record, metadata=metadata))
    occupancy = Occupancy(cluster, clock)

    assert await occupancy.refresh("blue")
    assert {int(ip) for ip in (TEN, ELEVEN, TWELVE, THIRTEEN)} == occupancy.of("blue").others


async def test_the_third_loss_lists_the_pool(cluster: FakeCluster, clock: Clock) -> None:
    """Then all that others hold is known; metadata from the API server's memory is enough."""
    occupancy = Occupancy(cluster, clock)
    for ip in (TEN, ELEVEN, TWELVE):
        assert 0 == cluster.count("list")
        await occupancy.lose("blue", ip)

    assert 1 == cluster.count("list")
    assert THIRTEEN in occupancy.of("blue")
    assert 4 == len(occupancy.of("blue"))


async def test_losses_of_many_calls_share_one_list(cluster: FakeCluster, clock: Clock) -> None:
    """A claim that loses while a list is under way waits for it."""
    occupancy = Occupancy(cluster, clock)
    cluster.faults.latency_s = 0.01

    await asyncio.gather(
        *(occupancy.lose("blue", ip_address(f"10.6.0.{n}")) for n in range(10, 20))
    )

    assert 1 == cluster.count("list")


async def test_lists_are_apart(cluster: FakeCluster, clock: Clock) -> None:
    """Half a second in a small pool; a full pool is listed every two seconds."""
    occupancy = Occupancy(cluster, clock)
    assert await occupancy.refresh("blue")
    assert not await occupancy.refresh("blue")
    clock.now += 1.9
    assert not await occupancy.refresh("blue")
    clock.now += 0.2
    assert await occupancy.refresh("blue")

    clock.now += 0.4
    for ip in (TEN, ELEVEN, TWELVE):
        await occupancy.lose("blue", ip)
    assert 2 == cluster.count("list")
    clock.now += 0.2
    await occupancy.lose("blue", TEN)
    assert 3 == cluster.count("list")


async def test_a_large_pool_is_listed_every_two_seconds_at_most(clock: Clock) -> None:
    """The more records a list has, the longer it has to do."""
    occupancy = Occupancy(FakeCluster(), clock)
    view = occupancy.of("blue")
    view.others = set(range(5000))

    assert 2.0 == view.between_lists_s


async def test_what_was_learned_is_forgotten(cluster: FakeCluster, clock: Clock) -> None:
    """Thirty seconds after the last loss nothing is believed any more but what this node holds."""
    occupancy = Occupancy(cluster, clock)
    occupancy.follow(Change.ADDED, None, make_record("10.6.0.15"))
    await occupancy.lose("blue", TEN)
    clock.now += 29
    await occupancy.lose("blue", ELEVEN)
    clock.now += 29
    occupancy.expire("blue")
    assert TEN in occupancy.of("blue")
    clock.now += 2
    occupancy.expire("blue")

    assert TEN not in occupancy.of("blue")
    assert ip_address("10.6.0.15") in occupancy.of("blue")


async def test_an_own_release_is_known_at_once(cluster: FakeCluster, clock: Clock) -> None:
    """A freed address is not taken any more, whatever a list said before, and who waits is told."""
    occupancy = Occupancy(cluster, clock)
    await occupancy.refresh("blue")
    news = occupancy.news
    (record,) = [record for record in cluster.all(SpiderIP) if record.spec.ip == "10.6.0.10"]
    occupancy.free(record)

    assert TEN not in occupancy.of("blue")
    assert news.is_set()


async def test_a_record_that_leaves_the_node_is_only_not_known(
    cluster: FakeCluster, clock: Clock
) -> None:
    """A hand-over to another node drops the belief; what a list or a loss said stays."""
    occupancy = Occupancy(cluster, clock)
    record = make_record("10.6.0.10")
    occupancy.follow(Change.ADDED, None, record)
    await occupancy.lose("blue", TEN)
    occupancy.follow(Change.DELETED, record, None)

    assert TEN in occupancy.of("blue")


async def test_a_trial_is_taken_only_while_it_lasts(cluster: FakeCluster, clock: Clock) -> None:
    """Two claims of one agent keep out of each other's way."""
    view = Occupancy(cluster, clock).of("blue")

    with view.trying(TEN):
        assert TEN in view
    assert TEN not in view


async def test_waiting_ends_with_news_or_when_a_list_is_due(cluster: FakeCluster) -> None:
    """
    A release wakes at once.

    Without one it is time to list again two seconds after the last list.
    """
    occupancy = Occupancy(cluster)
    await occupancy.refresh("blue")
    news = occupancy.news
    waiting = asyncio.create_task(occupancy.wait(news, ["blue"], 5))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    occupancy.free(make_record("10.6.0.10", make_pool()))

    await asyncio.wait_for(waiting, 0.2)


async def test_news_before_the_wait_are_not_missed(cluster: FakeCluster) -> None:
    """An address freed between the look and the wait ends the wait."""
    occupancy = Occupancy(cluster)
    await occupancy.refresh("blue")
    news = occupancy.news
    occupancy.free(make_record("10.6.0.10", make_pool()))

    await asyncio.wait_for(occupancy.wait(news, ["blue"], 5), 0.2)


async def test_a_failed_list_leaves_what_is_known(cluster: FakeCluster, clock: Clock) -> None:
    """
    The error is told, the losses stay, and the next list may begin at once.

    Else a pool would pass for full unseen.
    """
    occupancy = Occupancy(cluster, clock)
    cluster.faults.fail_next("list", SpiderIP, Unreachable("down"))
    await occupancy.lose("blue", TEN)
    with pytest.raises(Unreachable):
        await occupancy.refresh("blue")

    assert TEN in occupancy.of("blue")
    assert await occupancy.refresh("blue")


POOL = make_pool()


def walk(occupancy: Occupancy) -> Fullness:
    """What a walk through the pool goes by now."""
    return Fullness(occupancy.state("blue"), POOL, AddressSet.empty(4))


async def test_a_list_without_news_has_nobody_walk(cluster: FakeCluster, clock: Clock) -> None:
    """A full pool that a list shows as it was before is not walked through again; one that lost a record is."""
    occupancy = Occupancy(cluster, clock)
    await occupancy.refresh("blue")
    occupancy.found_full(walk(occupancy))

    clock.now += 3
    assert await occupancy.refresh("blue")
    assert occupancy.is_full(walk(occupancy))
    assert not occupancy.is_full(replace(walk(occupancy), pool=make_pool()))
    assert not occupancy.is_full(replace(walk(occupancy), reserved=make_pool().total))

    cluster.drop(SpiderIP, record_name(TEN))
    clock.now += 3
    assert await occupancy.refresh("blue")
    assert not occupancy.is_full(walk(occupancy))
    assert TEN not in occupancy.of("blue")


async def test_what_rested_and_is_gone_is_told_by_the_next_list(
    cluster: FakeCluster, clock: Clock
) -> None:
    """An address that no watch shows resting any more may be free: the list after that lets all walk."""
    occupancy = Occupancy(cluster, clock)
    await occupancy.refresh("blue")
    resting = make_record("10.6.0.14")
    occupancy.rests(resting)
    occupancy.found_full(walk(occupancy))

    occupancy.rests_no_more(resting)
    assert occupancy.is_full(walk(occupancy))
    clock.now += 3
    await occupancy.refresh("blue")
    assert not occupancy.is_full(walk(occupancy))
