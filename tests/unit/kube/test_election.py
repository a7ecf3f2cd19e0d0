"""Elections: one leads, never two, and the end of one is the beginning of the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from spiderpool.api.kubernetes.core import Lease, LeaseSpec
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import UnknownOutcome, Unreachable
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.election import Election, Times
from tests.fakes.cluster import FakeCluster

QUICK = Times(duration_s=0.4, renew_s=0.2, retry_s=0.02, gap_s=0.01)


class Candidate:
    """A process that takes part and notes when it leads."""

    def __init__(self, cluster: Cluster, identity: str, times: Times = QUICK) -> None:
        self.election = Election(cluster, "lease", "default", identity, times=times)
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.terms = 0
        self.task = asyncio.create_task(self.election.run(self._work))

    async def _work(self) -> None:
        self.terms += 1
        self.began.set()
        self.ended.clear()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def leave(self) -> None:
        """End the process in peace."""
        self.task.cancel()
        await asyncio.wait({self.task})


Join = Callable[..., Candidate]


@pytest.fixture
def cluster() -> FakeCluster:
    """Return an empty API server."""
    return FakeCluster()


@pytest.fixture
async def join(cluster: FakeCluster) -> AsyncIterator[Join]:
    """Return a function that starts a candidate; all end with the test."""
    candidates = []

    def join(identity: str, times: Times = QUICK) -> Candidate:
        candidates.append(Candidate(cluster, identity, times))
        return candidates[-1]

    yield join
    for candidate in candidates:
        await candidate.leave()


async def test_first_leads_and_the_other_waits(cluster: FakeCluster, join: Join) -> None:
    """The second candidate does not begin as long as the first renews."""
    first = join("a")
    await first.began.wait()
    second = join("b")
    await asyncio.sleep(3 * QUICK.duration_s)
    assert (True, False) == (first.election.leading, second.election.leading)
    assert (1, 0) == (first.terms, second.terms)
    spec = cluster.all(Lease)[0].spec
    assert ("a", 1, 0) == (
        spec.holder_identity,
        spec.lease_duration_seconds,
        spec.lease_transitions or 0,
    )


async def test_release_hands_over_at_once(cluster: FakeCluster, join: Join) -> None:
    """A leader that leaves in peace is followed in less than the lease's duration."""
    slow = Times(duration_s=30, renew_s=20, retry_s=0.02, gap_s=0.01)
    first = join("a", slow)
    await first.began.wait()
    second = join("b", slow)
    await asyncio.sleep(0.05)
    await first.leave()
    await asyncio.wait_for(second.began.wait(), 1.0)
    assert first.ended.is_set()
    spec = cluster.all(Lease)[0].spec
    assert ("b", 1) == (spec.holder_identity, spec.lease_transitions)


class Line:
    """The way of one process to the API server."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        if self.cut:
            raise Unreachable("cut off")
        return getattr(self._cluster, name)


async def test_leader_stops_before_another_may_begin(cluster: FakeCluster, join: Join) -> None:
    """Cut off from the API server, the leader stops by its own clock, and only then the other begins."""
    line = Line(cluster)
    first = Candidate(line, "a")
    await first.began.wait()
    second = join("b")
    await asyncio.sleep(0.05)
    line.cut = True
    await first.ended.wait()
    assert not second.began.is_set()
    assert not first.election.leading
    await second.began.wait()
    assert 1 == first.terms
    await first.leave()


async def test_leading_ends_by_the_clock_alone(cluster: FakeCluster) -> None:
    """A process that was stopped for longer than the renewal lasts knows so at its first instruction."""
    now = 0.0
    election = Election(cluster, "lease", "default", "a", clock=lambda: now)
    assert not election.leading
    assert await election._attempt(1.0)
    now = 9.9
    assert election.leading
    now = 10.0
    assert not election.leading


async def test_lease_of_a_dead_holder_is_taken_after_its_duration(cluster: FakeCluster) -> None:
    """A candidate counts from when it first saw the lease as it is, whatever the times written in it."""
    spec = LeaseSpec(
        holder_identity="dead", lease_duration_seconds=15, renew_time="2001-01-01T00:00:00.000000Z"
    )
    cluster.seed(Lease(metadata=ObjectMeta(name="lease", namespace="default"), spec=spec))
    now = 100.0
    election = Election(cluster, "lease", "default", "a", clock=lambda: now)
    assert not await election._attempt(1.0)
    now = 114.9
    assert not await election._attempt(1.0)
    now = 115.1
    assert await election._attempt(1.0)


async def test_own_lease_from_before_a_restart_is_taken_at_once(cluster: FakeCluster) -> None:
    """The same identity need not wait for itself."""
    spec = LeaseSpec(holder_identity="a", lease_duration_seconds=15)
    cluster.seed(Lease(metadata=ObjectMeta(name="lease", namespace="default"), spec=spec))
    assert await Election(cluster, "lease", "default", "a")._attempt(1.0)


async def test_two_that_find_no_lease_do_not_both_lead(cluster: FakeCluster) -> None:
    """Of two creations at the same time one wins."""
    elections = [Election(cluster, "lease", "default", name) for name in "ab"]
    results = await asyncio.gather(*(election._attempt(1.0) for election in elections))
    assert [False, True] == sorted(results)


async def test_renewal_without_an_answer_does_not_cost_the_leadership(
    cluster: FakeCluster, join: Join
) -> None:
    """A renewal that was committed and never answered is found by the next one."""
    first = join("a")
    await first.began.wait()
    cluster.faults.fail_next("patch", Lease, UnknownOutcome("cut"), after_commit=True)
    await asyncio.sleep(2 * QUICK.renew_s)
    assert first.election.leading
    assert 1 == first.terms


async def test_error_of_the_work_ends_the_run(cluster: FakeCluster) -> None:
    """What the leader's work raises is raised by `run`, and the lease is free."""

    async def work() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await Election(cluster, "lease", "default", "a", times=QUICK).run(work)
    assert not cluster.all(Lease)[0].spec.holder_identity
