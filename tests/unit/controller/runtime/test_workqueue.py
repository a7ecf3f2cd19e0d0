"""The work queue."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.controller.runtime.workqueue import LONGEST_REST_S, WorkQueue
from spiderpool.errors import Conflict, TooManyRequests, Unreachable
from tests.unit.controller.conftest import Clock


class Reconciler:
    """Notes its keys, and does what a test prepared."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.answers: list[float | Exception | None] = []

    async def __call__(self, key: str) -> float | None:
        """Note the key and do what is next."""
        self.seen.append(key)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_many_adds_make_one_run() -> None:
    """A key that is added again and again before it runs, runs once."""
    reconcile, clock = Reconciler(), Clock()
    queue = WorkQueue("test", reconcile, clock=clock)
    for _ in range(5):
        queue.add("a")
    queue.add("b")
    await queue.run_due()

    assert ["a", "b"] == reconcile.seen
    assert 0 == len(queue)


async def test_earlier_request_wins() -> None:
    """A key that is wanted later and now runs now, and not a second time later."""
    reconcile, clock = Reconciler(), Clock()
    queue = WorkQueue("test", reconcile, clock=clock)
    queue.add("a", 10)
    queue.add("a")
    await queue.run_due()
    clock.now += 20
    await queue.run_due()

    assert ["a"] == reconcile.seen


async def test_reconciler_gets_its_key_again() -> None:
    """A reconciler that returns a delay is called again after it, not before."""
    reconcile, clock = Reconciler(), Clock()
    reconcile.answers = [3.0]
    queue = WorkQueue("test", reconcile, clock=clock)
    queue.add("a")
    await queue.run_due()
    clock.now += 2.9
    await queue.run_due()
    assert ["a"] == reconcile.seen

    clock.now += 0.2
    await queue.run_due()
    assert ["a", "a"] == reconcile.seen


async def test_failure_rests_longer_each_time() -> None:
    """A failing key comes back by itself, after rests that grow to at most the longest."""
    reconcile, clock = Reconciler(), Clock()
    reconcile.answers = [Unreachable("down") for _ in range(20)]
    queue = WorkQueue("test", reconcile, clock=clock)
    queue.add("a")
    rests = []
    for _ in range(20):
        await queue.run_due()
        before, count = clock.now, len(reconcile.seen)
        while len(reconcile.seen) == count:
            clock.now += 0.05
            await queue.run_due()
        rests.append(clock.now - before)

    assert max(rests) <= LONGEST_REST_S + 0.1
    assert rests[0] < 0.3
    assert min(rests[-3:]) >= LONGEST_REST_S / 2


async def test_failing_key_is_not_hurried_by_events() -> None:
    """Adding a key that rests after a failure does not run it sooner."""
    reconcile, clock = Reconciler(), Clock()
    reconcile.answers = [TooManyRequests("busy", retry_after_s=7)]
    queue = WorkQueue("test", reconcile, clock=clock)
    queue.add("a")
    await queue.run_due()
    clock.now += 6
    queue.add("a")
    await queue.run_due()
    assert ["a"] == reconcile.seen

    clock.now += 2
    await queue.run_due()
    assert ["a", "a"] == reconcile.seen


async def test_mistake_in_one_key_stops_nothing() -> None:
    """An error that nobody expected is retried like any other, and other keys go on."""
    reconcile, clock = Reconciler(), Clock()
    reconcile.answers = [ZeroDivisionError()]
    queue = WorkQueue("test", reconcile, clock=clock)
    queue.add("a")
    queue.add("b")
    await queue.run_due()
    clock.now += 1
    await queue.run_due()

    assert ["a", "b", "a"] == reconcile.seen


async def test_success_forgets_failures() -> None:
    """After a success the next failure rests as shortly as the first one did."""
    reconcile, clock = Reconciler(), Clock()
    reconcile.answers = [Conflict("lost"), Conflict("lost"), None, Conflict("lost")]
    queue = WorkQueue("test", reconcile, clock=clock)
    queue.add("a")
    for _ in range(3):
        await queue.run_due()
        clock.now += 1
    queue.add("a")
    await queue.run_due()
    assert 4 == len(reconcile.seen)

    clock.now += 0.21
    await queue.run_due()
    assert 5 == len(reconcile.seen)


async def test_one_key_never_runs_twice_at_once() -> None:
    """A key that is added while it runs waits for its own end, other keys run beside it."""
    running: list[str] = []
    worst = 0
    ran: list[str] = []

    async def reconcile(key: str) -> None:
        nonlocal worst
        running.append(key)
        worst = max(worst, running.count(key))
        queue.add("a") if len(ran) < 3 else None
        await asyncio.sleep(0.002)
        running.remove(key)
        ran.append(key)

    queue = WorkQueue("test", reconcile, workers=4)
    queue.add("a")
    queue.add("b")
    task = asyncio.create_task(queue.run())
    while len(queue) or ran.count("a") < 2:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert 1 == worst
    assert {"a", "b"} == set(ran)


async def test_run_sleeps_until_something_is_due() -> None:
    """A delayed key runs by itself when its time has come."""
    reconcile = Reconciler()
    queue = WorkQueue("test", reconcile)
    task = asyncio.create_task(queue.run())
    queue.add("late", 0.03)
    await asyncio.sleep(0.01)
    assert [] == reconcile.seen
    queue.add("now")
    await asyncio.sleep(0.01)
    assert ["now"] == reconcile.seen
    await asyncio.sleep(0.05)
    assert ["now", "late"] == reconcile.seen
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
