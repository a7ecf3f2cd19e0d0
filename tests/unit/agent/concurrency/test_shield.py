"""Writes that end whatever happens to their caller."""

from __future__ import annotations

import asyncio

import pytest

from spiderpool.agent.concurrency.shield import shielded
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
