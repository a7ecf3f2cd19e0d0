"""Turns: one call of a pod at a time, and ADDs that end early."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.errors import TryAgain

POD = ("ns", "web-1")


async def test_calls_of_one_pod_run_one_at_a_time() -> None:
    """The second call begins when the first has ended."""
    pod_locks, log = KeyedLock(), []

    async def story(name: str) -> None:
        log.append(f"{name} begins")
        await asyncio.sleep(0.01)
        log.append(f"{name} ends")

    await asyncio.gather(
        pod_locks.add(POD, "c", lambda: story("a")), pod_locks.add(POD, "c", lambda: story("b"))
    )

    assert ["a begins", "a ends", "b begins", "b ends"] == log


async def test_calls_of_two_pods_run_together() -> None:
    """Another pod does not wait."""
    pod_locks, meeting = KeyedLock(), asyncio.Barrier(2)

    async with asyncio.timeout(0.5):
        await asyncio.gather(
            pod_locks.add(POD, "c", meeting.wait), pod_locks.add(("ns", "web-2"), "d", meeting.wait)
        )


async def test_a_del_ends_running_and_waiting_adds_of_its_container() -> None:
    """Both ADDs are told to try again; the DEL runs when they have cleaned up."""
    pod_locks, log = KeyedLock(), []

    async def story() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            log.append("cleaned up")

    async def delete() -> None:
        log.append("deleted")

    adds = [asyncio.create_task(pod_locks.add(POD, "c", story)) for _ in range(2)]
    await asyncio.sleep(0.01)
    await pod_locks.delete(POD, "c", delete)
    ends = await asyncio.gather(*adds, return_exceptions=True)

    assert ["cleaned up", "deleted"] == log
    assert [TryAgain, TryAgain] == [type(end) for end in ends]


async def test_a_del_of_another_container_waits_for_the_add() -> None:
    """An old sandbox's DEL does not disturb the new sandbox's ADD of the same pod."""
    pod_locks, log = KeyedLock(), []

    async def story() -> str:
        await asyncio.sleep(0.02)
        log.append("added")
        return "answer"

    async def delete() -> None:
        log.append("deleted")

    add = asyncio.create_task(pod_locks.add(POD, "new", story))
    await asyncio.sleep(0.01)
    await pod_locks.delete(POD, "old", delete)

    assert "answer" == await add
    assert ["added", "deleted"] == log


async def test_a_caller_that_hangs_up_ends_its_add() -> None:
    """Cancelling the caller cancels the story, which cleans up before the next call's turn."""
    pod_locks, log = KeyedLock(), []

    async def story() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            log.append("cleaned up")
            raise

    caller = asyncio.create_task(pod_locks.add(POD, "c", story))
    await asyncio.sleep(0.01)
    caller.cancel()
    async with pod_locks.of(POD):
        log.append("next")

    assert ["cleaned up", "next"] == log
    assert caller.cancelled()


async def test_an_add_has_its_time() -> None:
    """An ADD that takes too long, the wait for its lock included, asks to try again."""
    pod_locks = KeyedLock(add_time_s=0.02)

    async with pod_locks.of(POD):
        with pytest.raises(TryAgain, match=r"^pod ns/web-1: ADD not done after 0\.02 s"):
            await pod_locks.add(POD, "c", lambda: asyncio.sleep(0))


async def test_a_failed_story_s_error_reaches_the_caller() -> None:
    """The error is the story's own."""
    pod_locks = KeyedLock()

    async def story() -> None:
        raise TryAgain("no")

    with pytest.raises(TryAgain, match=r"^no$"):
        await pod_locks.add(POD, "c", story)


async def test_nothing_is_kept_of_calls_that_ended() -> None:
    """No memory grows with the pods that ever were."""
    pod_locks = KeyedLock()

    await pod_locks.add(POD, "c", lambda: asyncio.sleep(0))
    await asyncio.sleep(0)

    assert not pod_locks.busy
    assert {} == pod_locks._adds


async def test_waiting_is_measured() -> None:
    """The time that each call waits for its lock is told, of ADDs and DELs apart."""
    adds: list[float] = []
    deletes: list[float] = []
    pod_locks = KeyedLock(adds.append, deletes.append)

    first = asyncio.create_task(pod_locks.add(POD, "c", lambda: asyncio.sleep(0.02)))
    await asyncio.sleep(0)
    await asyncio.gather(
        first,
        pod_locks.add(POD, "d", lambda: asyncio.sleep(0)),
        pod_locks.delete(POD, "e", lambda: asyncio.sleep(0)),
    )

    assert (2, 1) == (len(adds), len(deletes))
    assert adds[0] < min(adds[1], deletes[0])


async def test_settling_ends_all_adds_and_waits_for_them() -> None:
    """When the agent stops, each ADD takes back what it made before the socket closes."""
    pod_locks, log = KeyedLock(), []

    async def story() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            log.append("cleaned up")

    adds = [asyncio.create_task(pod_locks.add(("ns", str(n)), str(n), story)) for n in range(3)]
    await asyncio.sleep(0.01)
    await pod_locks.settle()

    assert ["cleaned up"] * 3 == log
    assert [TryAgain] * 3 == [
        type(end) for end in await asyncio.gather(*adds, return_exceptions=True)
    ]
