"""
A lock for each pod: its calls run one at a time, and an ADD ends when nobody waits for it.

An ADD is ended by a DEL of the same container, by its caller hanging up, or by the time limit;
ending it means that it takes back what it made, and only then does the next call of the pod begin.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from spiderpool.errors import TryAgain

R = TypeVar("R")

PodName = tuple[str, str]  # (namespace, name)

# The executable gives up after 100 s, as the original's does; we do before, so that our words
# arrive (docs/decisions/0003-cni-executable.md).
ADD_TIME_S: Final = 90.0


@dataclass(slots=True)
class _Lock:
    """The lock of one pod, and how many calls wait for it or have it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    calls: int = 0


class KeyedLock:
    """Keeps one lock for each pod, and the ADDs that run."""

    def __init__(
        self,
        on_add_wait: Callable[[float], None] = lambda _: None,
        on_delete_wait: Callable[[float], None] = lambda _: None,
        add_time_s: float = ADD_TIME_S,
    ) -> None:
        """
        Begin with nobody.

        Args:
            on_add_wait: told how long each ADD waited for its lock, seconds.
            on_delete_wait: the same of each DEL.
            add_time_s: how long an ADD may take.
        """
        self._pod_locks: dict[PodName, _Lock] = {}
        self._adds: dict[str, set[asyncio.Task[Any]]] = {}
        self._on_add_wait = on_add_wait
        self._on_delete_wait = on_delete_wait
        self._add_time_s = add_time_s

    @property
    def busy(self) -> bool:
        """Return whether a call runs or waits for its lock."""
        return bool(self._pod_locks)

    def is_served(self, pod: PodName) -> bool:
        """Return whether a call of this pod runs or waits for its lock."""
        return pod in self._pod_locks

    @asynccontextmanager
    async def of(
        self, pod: PodName, on_wait: Callable[[float], None] = lambda _: None
    ) -> AsyncIterator[None]:
        """Wait for the pod's lock and have it; `on_wait` is told how long that took, seconds."""
        entry = self._pod_locks.setdefault(pod, _Lock())
        entry.calls += 1
        began = time.monotonic()
        try:
            async with entry.lock:
                on_wait(time.monotonic() - began)
                yield
        finally:
            entry.calls -= 1
            if not entry.calls:
                del self._pod_locks[pod]

    async def add(
        self, pod: PodName, container: str, story: Callable[[], Coroutine[Any, Any, R]]
    ) -> R:
        """
        Run an ADD under the pod's lock.

        When the caller is cancelled (it hung up) the story is too, and ends by itself: nobody waits
        for it.
        """
        task = asyncio.create_task(self._timed(pod, story))
        running = self._adds.setdefault(container, set())
        running.add(task)
        task.add_done_callback(lambda _: self._ended(container, task))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.cancel()
                raise
            if task.cancelled() and not _is_cancelling():
                raise TryAgain(
                    f"pod {'/'.join(pod)}: this ADD was ended by a DEL of the same container"
                ) from None
            raise

    async def delete(self, pod: PodName, container: str, story: Callable[[], Awaitable[R]]) -> R:
        """End the container's ADDs, then run a DEL under the pod's lock."""
        for task in tuple(self._adds.get(container, ())) if container else ():
            task.cancel()
        async with self.of(pod, self._on_delete_wait):
            return await story()

    async def settle(self) -> None:
        """End all ADDs and wait until they have taken back what they made."""
        tasks = [task for running in self._adds.values() for task in running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _timed(self, pod: PodName, story: Callable[[], Coroutine[Any, Any, R]]) -> R:
        try:
            async with asyncio.timeout(self._add_time_s), self.of(pod, self._on_add_wait):
                return await story()
        except TimeoutError:
            raise TryAgain(
                f"pod {'/'.join(pod)}: ADD not done after {self._add_time_s:g} s; all is given back"
            ) from None

    def _ended(self, container: str, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # seen: a caller that hung up does not ask for it
        running = self._adds[container]
        running.discard(task)
        if not running:
            del self._adds[container]


def _is_cancelling() -> bool:
    """Return whether this very task is asked to end, and not only something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
