"""
Virtual time for unit tests: where a program would only wait, its clock jumps to the next timer.

The event loop looks for what comes from outside (sockets, threads, programs) first. Only when
nothing is ready, and neither a thread nor a program works, does it move its own clock. So a test
of half an hour takes no time, and the order of timers does not depend on how busy the machine is.

`time.monotonic` tells the loop's time to code that runs on such a loop, and the machine's to all
other code: the product measures with either, and both have to agree.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from asyncio import events
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

EXECUTOR: Final = "asyncio_"  # how the threads of asyncio's own executor are called; they stay
LOOPBACK_S: Final = 0.005  # what is sent to oneself arrives within that time
STEP_S: Final = 0.01  # how long to wait for a thread before looking again
PIDFD: Final = "anon_inode:[pidfd]"
START_S: Final = 1000.0  # no test may take a clock that began at zero for granted

_real_monotonic = time.monotonic


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps where others wait."""

    def __init__(self) -> None:
        self._now = START_S
        self._jobs = 0
        self._elders = set(threading.enumerate())
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return the loop's time in seconds."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], R], *args: *Ts
    ) -> asyncio.Future[R]:
        """Run something in a thread, and know that it runs."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._count_down)
        return future

    def _count_down(self, _: asyncio.Future[Any]) -> None:
        self._jobs -= 1

    def threads_work(self) -> bool:
        """Return whether a thread may still call this loop; the time that it needs is real."""
        return self._jobs > 0 or any(
            thread not in self._elders and not thread.name.startswith(EXECUTOR)
            for thread in threading.enumerate()
        )


class _JumpingSelector(selectors.DefaultSelector):
    """
    Waits for sockets, threads and programs only.

    What remains of a wait is a jump of the loop's clock.
    """

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # only somebody else can go on
            return super().select(None)
        if self._loop.threads_work() or self._programs_run():
            began = _real_monotonic()
            ready = super().select(min(timeout, STEP_S))
            self._loop.jump(min(timeout, _real_monotonic() - began))
            return ready
        if len(self.get_map()) > 1:  # sockets besides the loop's own
            ready = super().select(LOOPBACK_S)
        if not ready:
            self._loop.jump(timeout)
        return ready

    def _programs_run(self) -> bool:
        """Return whether the loop waits for the end of a program: by a pidfd (pidfd_open(2))."""
        return any(PIDFD in _target(key.fd) for key in self.get_map().values())


def _target(fd: int) -> str:
    """Return what a descriptor is."""
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except FileNotFoundError:  # closed, and still in the list
        return ""


def monotonic() -> float:
    """Return the time of the running virtual loop, or the machine's where none runs."""
    loop = events._get_running_loop()  # the public function raises, and is slower
    return loop.time() if isinstance(loop, VirtualTimeLoop) else _real_monotonic()


def install() -> None:
    """Let `time.monotonic` be `monotonic`, before anybody takes it as a default."""
    time.monotonic = monotonic


def new_runner() -> asyncio.Runner:
    """Return a runner in virtual time, for tests that are no coroutines."""
    return asyncio.Runner(loop_factory=VirtualTimeLoop)


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine in virtual time, as `asyncio.run` does in real time."""
    with new_runner() as runner:
        return runner.run(work)
