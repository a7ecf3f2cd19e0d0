"""Background tasks are started again, counted, and given up only through the liveness probe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from spiderpool.agent.concurrency.supervisor import LIVES_S, MOST_FAILURES, Supervisor


class Clock:
    """Time that passes only by waiting, and what was waited for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands at 0."""
    return Clock()


@pytest.fixture
def restarted() -> list[str]:
    """Return the names of tasks that were started again."""
    return []


@pytest.fixture
async def supervisor(clock: Clock, restarted: list[str]) -> AsyncIterator[Supervisor]:
    """Return a supervisor, stopped in the end."""
    supervisor = Supervisor(restarted.append, clock=lambda: clock.now, sleep=clock.sleep)
    yield supervisor
    await supervisor.stop()


async def turns(count: int) -> None:
    """Let the tasks go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_task_that_fails_is_started_again(
    supervisor: Supervisor, clock: Clock, restarted: list[str]
) -> None:
    """It starts again after a pause, and goes on as if nothing had been."""
    runs: list[int] = []

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise RuntimeError("a record that nobody expected")
        await asyncio.Event().wait()

    supervisor.start("leak checks", work)
    await turns(20)

    assert [0, 1, 2] == runs
    assert ["leak checks"] * 2 == restarted
    assert 2 == len(clock.pauses)
    assert 0.5 <= clock.pauses[0] <= 1.0 <= clock.pauses[1] <= 2.0
    assert "" == supervisor.trouble


async def test_a_task_that_cannot_live_is_trouble(supervisor: Supervisor, clock: Clock) -> None:
    """One that fails again and again is named with its reason; it is tried all the same."""

    async def work() -> None:
        raise RuntimeError("no such file")

    supervisor.start("restore", work)
    while len(clock.pauses) < MOST_FAILURES:
        assert "" == supervisor.trouble
        await turns(1)

    assert supervisor.trouble.startswith("background task restore failed 5 times in a row")
    assert supervisor.trouble.endswith("RuntimeError: no such file")
    await turns(20)
    assert len(clock.pauses) > MOST_FAILURES


async def test_a_task_that_lived_begins_again(supervisor: Supervisor, clock: Clock) -> None:
    """Failures that are far from each other are no trouble."""

    async def work() -> None:
        clock.now += LIVES_S
        raise RuntimeError("once a minute")

    supervisor.start("endpoints", work)
    await turns(100)

    assert len(clock.pauses) > MOST_FAILURES
    assert "" == supervisor.trouble


async def test_a_task_that_ends_by_itself_has_failed(
    supervisor: Supervisor, restarted: list[str]
) -> None:
    """No background task has an end of its own."""

    async def work() -> None:
        return

    supervisor.start("endpoints", work)
    await turns(5)

    assert restarted


async def test_stop_ends_the_last_first(clock: Clock) -> None:
    """Tasks are cancelled in the opposite order, and have ended afterwards."""
    supervisor, ended = Supervisor(clock=lambda: clock.now, sleep=clock.sleep), []

    def waits(name: str) -> None:
        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        supervisor.start(name, work)

    waits("first")
    waits("second")
    await turns(2)
    await supervisor.stop()

    assert ["second", "first"] == ended
