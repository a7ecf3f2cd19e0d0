"""
Time in unit tests.

It jumps where a program would only wait, and never over what works outside.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from tests import virtual_time


async def test_waiting_takes_no_time() -> None:
    """An hour passes for everybody who asks, and at once."""
    real = virtual_time._real_monotonic()
    loop, began = asyncio.get_running_loop().time(), time.monotonic()

    await asyncio.sleep(3600)

    assert asyncio.get_running_loop().time() - loop == pytest.approx(3600)
    assert time.monotonic() - began == pytest.approx(3600)
    assert virtual_time._real_monotonic() - real < 60


async def test_timers_keep_their_order() -> None:
    """What is due first happens first, whatever the order of asking."""
    happened: list[float] = []

    async def at(seconds: float) -> None:
        await asyncio.sleep(seconds)
        happened.append(seconds)

    await asyncio.gather(at(0.3), at(0.1), at(0.1001), at(0.2))

    assert [0.1, 0.1001, 0.2, 0.3] == happened


def in_executor() -> asyncio.Future[bool]:
    """Let a thread of the loop's executor wait for something."""
    return asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 0.05)


def in_thread() -> asyncio.Future[bool]:
    """Let a thread of its own wait for something, and tell the loop."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def work() -> None:
        result = threading.Event().wait(0.05)
        loop.call_soon_threadsafe(answer.set_result, result)

    threading.Thread(target=work).start()
    return answer


def in_program() -> asyncio.Future[bool]:
    """Let a program wait, as `kernel/programs.py` does: its end is a descriptor."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()
    program = subprocess.Popen(["sleep", "0.05"])  # noqa: S607
    fd = os.pidfd_open(program.pid)

    def ended() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        answer.set_result(program.wait() != 0)

    loop.add_reader(fd, ended)
    return answer


@pytest.mark.parametrize("begin", [in_executor, in_thread, in_program])
async def test_time_does_not_jump_over_work(begin: Callable[[], asyncio.Future[bool]]) -> None:
    """Work outside of the loop needs real time: a time-out that is far away does not come first."""
    assert not await asyncio.wait_for(begin(), 20)


async def test_time_does_not_jump_over_what_was_sent() -> None:
    """Bytes on the way to a socket arrive before a timer."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        writer.close()
        assert b"hello" == await asyncio.wait_for(got, 0.001)


def test_outside_of_a_loop_time_is_the_machine_s() -> None:
    """Code that runs on no virtual loop has the real clock."""
    before = virtual_time._real_monotonic()
    assert before <= time.monotonic() <= before + 60
    assert 3 == virtual_time.run(asyncio.sleep(3600, 3))
