"""The door that repeats what did not happen, and whose writes are never cut off."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.agent.concurrency.retrying_cluster import RetryingCluster
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import SpiderpoolError, TooManyRequests, UnknownOutcome, Unreachable
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import make_pod, make_record

LATER = (Unreachable("refused"), TooManyRequests("later", retry_after_s=0.01))


@pytest.fixture
def fake() -> FakeCluster:
    """Return a cluster with one pod."""
    cluster = FakeCluster()
    cluster.seed(make_pod("web-1"))
    return cluster


def door(fake: FakeCluster) -> RetryingCluster:
    """Return a door that repeats for a second."""
    return RetryingCluster(fake, RetryPolicy(busy_s=1, absent_s=1))


@pytest.mark.parametrize("error", LATER)
async def test_reads_are_repeated(fake: FakeCluster, error: SpiderpoolError) -> None:
    """A read that could not be served is done again."""
    fake.faults.fail_next("get", Pod, error)
    fake.faults.fail_next("list", Pod, error)

    assert "web-1" == (await door(fake).get(Pod, "web-1", "ns")).metadata.name
    assert 1 == len((await door(fake).list_objects(Pod)).items)
    assert (2, 2) == (fake.count("get"), fake.count("list"))


@pytest.mark.parametrize("error", LATER)
async def test_writes_that_did_not_happen_are_repeated(
    fake: FakeCluster, error: SpiderpoolError
) -> None:
    """A refusal for now is no outcome."""
    cluster = door(fake)
    for verb in ("create", "replace", "delete"):
        fake.faults.fail_next(verb, SpiderIP, error)

    made = await cluster.create(make_record())
    written = await cluster.replace(made)
    await cluster.delete(SpiderIP, written.metadata.name, uid=written.metadata.uid)

    assert () == fake.all(SpiderIP)
    assert {2} == {fake.count(verb, SpiderIP) for verb in ("create", "replace", "delete")}


async def test_a_write_without_an_answer_is_not_repeated(fake: FakeCluster) -> None:
    """It may have happened: the caller finds out."""
    fake.faults.fail_next("create", SpiderIP, UnknownOutcome("cut"))

    with pytest.raises(UnknownOutcome):
        await door(fake).create(make_record())
    assert 1 == fake.count("create", SpiderIP)


async def test_once_is_once(fake: FakeCluster) -> None:
    """Behind `once` nothing is repeated."""
    fake.faults.fail_next("create", SpiderIP, Unreachable("refused"))

    with pytest.raises(Unreachable):
        await door(fake).once.create(make_record())
    assert 1 == fake.count("create", SpiderIP)


async def test_a_caller_that_is_cancelled_learns_what_it_wrote(fake: FakeCluster) -> None:
    """The write ends, its caller notes it, and is cancelled at its next await."""
    fake.faults.latency_s = 0.02
    noted: list[str] = []

    async def call() -> None:
        noted.append((await door(fake).create(make_record())).spec.ip)
        await asyncio.sleep(0)
        noted.append("went on")

    calling = asyncio.create_task(call())
    await asyncio.sleep(0.005)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    assert ["10.6.0.10"] == noted


async def test_the_wait_for_a_repetition_can_be_cancelled(fake: FakeCluster) -> None:
    """Nobody waits for an API server that is away when its caller is."""
    fake.faults.fail_next("create", SpiderIP, TooManyRequests("later", retry_after_s=0.9))

    calling = asyncio.create_task(door(fake).create(make_record()))
    await asyncio.sleep(0.01)
    calling.cancel()
    async with asyncio.timeout(0.2):
        await asyncio.wait([calling])

    assert calling.cancelled()
    assert 1 == fake.count("create", SpiderIP)
