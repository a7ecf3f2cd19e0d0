"""Writes that end whatever happens to their caller."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.agent.concurrency.shield import hold_cancellation, shielded
from spiderpool.errors import Conflict


async def test_a_result_is_passed_on() -> None:
    """Without a cancellation it is a plain await."""
    assert 7 == await shielded(asyncio.sleep(0, 7))


async def test_an_error_is_passed_on() -> None:
    """The error of the work is raised as it is."""

    async def work() -> None:
        await asyncio.sleep(0)
        raise Conflict("changed")

    with pytest.raises(Conflict, match=r"^changed$"):
        await shielded(work())


@pytest.mark.parametrize("times", [1, 3])
async def test_the_work_ends_before_the_cancellation_is_raised(times: int) -> None:
    """A caller that is cancelled, even several times, waits for the work, and then is cancelled."""
    log = []

    async def work() -> None:
        await asyncio.sleep(0.02)
        log.append("done")

    caller = asyncio.create_task(shielded(work()))
    for _ in range(times):
        await asyncio.sleep(0.001)
        caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert ["done"] == log


async def test_a_failure_of_abandoned_work_is_not_reported_as_unseen() -> None:
    """When caller and work both fail, the cancellation wins and nothing is left to warn about."""

    async def work() -> None:
        await asyncio.sleep(0.01)
        raise Conflict("changed")

    caller = asyncio.create_task(shielded(work()))
    await asyncio.sleep(0)
    caller.cancel()

    with pytest.raises(asyncio.CancelledError):
        await caller


@pytest.mark.parametrize("times", [1, 3])
async def test_a_held_cancellation_comes_at_the_next_await(times: int) -> None:
    """The caller has the result first, however often it was cancelled."""
    log = []

    async def call() -> None:
        log.append(await hold_cancellation(asyncio.sleep(0.02, "done")))
        await asyncio.sleep(0)
        log.append("went on")

    caller = asyncio.create_task(call())
    for _ in range(times):
        await asyncio.sleep(0.001)
        caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert ["done"] == log


async def test_a_held_cancellation_lets_the_error_through() -> None:
    """A failure is the caller's to handle, and the handler is what is cancelled."""
    log = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        raise Conflict("changed")

    async def call() -> None:
        try:
            await hold_cancellation(work())
        except Conflict:
            log.append("noted")
            await asyncio.sleep(0)
            log.append("went on")

    caller = asyncio.create_task(call())
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert ["noted"] == log


async def test_a_held_cancellation_is_cancelled_even_without_another_await() -> None:
    """A caller that ends without awaiting anything is cancelled all the same."""
    caller = asyncio.create_task(hold_cancellation(asyncio.sleep(0.01, 7)))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])

    assert caller.cancelled()


async def test_a_timeout_during_a_write_is_a_timeout() -> None:
    """A time limit that passes meanwhile is told as such, after the work."""
    log = []

    async def call() -> None:
        async with asyncio.timeout(0.01):
            log.append(await hold_cancellation(asyncio.sleep(0.03, "done")))
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await call()

    assert ["done"] == log
