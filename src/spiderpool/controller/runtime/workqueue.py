"""
A level-triggered work queue: keys go in, a reconciler reads and acts, failures are repeated.

Together with `admission` this is the only place of the controller that catches `SpiderpoolError`.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from spiderpool.errors import SpiderpoolError, TryAgain
from spiderpool.kube.backoff import Backoff

LONGEST_REST_S: Final = 30.0

Reconcile = Callable[[str], Awaitable[float | None]]
Clock = Callable[[], float]

log = structlog.get_logger("spiderpool.controller")


class WorkQueue:
    """
    Runs one reconciler over keys, never two runs of one key at the same time.

    A key added while it runs is run again afterwards. A reconciler may return a delay after which
    it wants its key again.
    """

    def __init__(
        self, name: str, reconcile: Reconcile, *, workers: int = 1, clock: Clock = time.monotonic
    ) -> None:
        """
        Keep the arguments; the queue is empty.

        Args:
            name: what the log calls this loop.
            reconcile: gets a key; returns seconds until it wants to see the key again, or None.
            workers: how many keys run at the same time.
            clock: monotonic seconds.
        """
        self.name = name
        self._reconcile = reconcile
        self._clock = clock
        self._slots = asyncio.Semaphore(workers)
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._running: set[str] = set()
        self._failures: dict[str, _Failures] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """Count the keys that wait or run."""
        return len(self._due.keys() | self._running)

    def add(self, key: str, after_s: float = 0.0) -> None:
        """
        Ask for a key.

        An earlier request wins over a later one, and a failing key keeps its rest.
        """
        due = self._clock() + after_s
        if key in self._failures:
            due = max(due, self._failures[key].rest_until)
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        if key not in self._running:
            heapq.heappush(self._heap, (due, key))
            self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._slots.acquire()
                tasks.create_task(self._work_and_free(await self._wait_for_key()))

    async def run_due(self) -> None:
        """Work on what is due now, one key after another, until nothing is due."""
        while (key := self._take()) is not None:
            await self._work(key)

    async def _wait_for_key(self) -> str:
        """Wait until a key is due and take it."""
        while (key := self._take()) is None:
            self._wake.clear()
            rest = self._heap[0][0] - self._clock() if self._heap else None
            with suppress(TimeoutError):
                # wait_for of Python 3.11 may swallow a cancellation
                async with asyncio.timeout(rest):
                    await self._wake.wait()
        return key

    def _take(self) -> str | None:
        """
        Take the key that is due longest.

        Entries of the heap that a later request made stale are dropped.
        """
        while self._heap and (self._heap[0][0] <= self._clock() or self._is_stale(*self._heap[0])):
            due, key = heapq.heappop(self._heap)
            if not self._is_stale(due, key):
                del self._due[key]
                self._running.add(key)
                return key
        return None

    def _is_stale(self, due: float, key: str) -> bool:
        """Return whether a heap entry does not stand for a request any more."""
        return key in self._running or self._due.get(key) != due

    async def _work_and_free(self, key: str) -> None:
        """Work on a key and give the worker's slot back."""
        try:
            await self._work(key)
        finally:
            self._slots.release()

    async def _work(self, key: str) -> None:
        """Reconcile one key; schedule it again if it failed, is to be, or was added meanwhile."""
        again = None
        try:
            again = await self._reconcile(key)
            self._failures.pop(key, None)
        except SpiderpoolError as error:
            log.log(
                _level(error),
                "will retry",
                queue=self.name,
                key=key,
                reason=error.message,
                after_s=self._fail(key, error),
            )
        except Exception:  # a mistake of ours in one key must not stop all others
            log.exception(
                "unexpected error, will retry", queue=self.name, key=key, after_s=self._fail(key)
            )
        finally:
            self._running.discard(key)
            self._reschedule(key, again)

    def _fail(self, key: str, error: SpiderpoolError | None = None) -> float:
        """Count a failure and give the seconds that the key rests."""
        failures = self._failures.setdefault(key, _Failures())
        rest = failures.backoff.next_s(error)
        failures.rest_until = self._clock() + rest
        return round(rest, 2)

    def _reschedule(self, key: str, again: float | None) -> None:
        """Schedule a key again that failed, is to be reconciled again, or was added meanwhile."""
        added = self._due.pop(key, None)
        if key in self._failures:
            self.add(key)
        elif added is not None:
            self.add(key, max(0.0, added - self._clock()))
        if again is not None:
            self.add(key, again)


def _level(error: SpiderpoolError) -> int:
    """Losing a race is ordinary; everything else is worth a warning."""
    return 20 if isinstance(error, TryAgain) else 30


@dataclass(slots=True)
class _Failures:
    """How often a key failed in a row, and until when it rests."""

    backoff: Backoff = field(default_factory=lambda: Backoff(last_s=LONGEST_REST_S))
    rest_until: float = 0.0
