"""
Background tasks that must not end: each is started again when it does.

An agent whose leak checks had ended silently would be taken for one that has nothing to say, and
the controller would free addresses that pods still have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from spiderpool.kube.backoff import Backoff

Work = Callable[[], Coroutine[Any, Any, None]]

FIRST_PAUSE_S: Final = 1.0
LAST_PAUSE_S: Final = 30.0
LIVES_S: Final = 60.0  # a task that ran so long has lived: what ends it then is another matter
MOST_FAILURES: Final = 5  # in a row; kubelet starts the agent again after that

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Background:
    """One task: what it does, how often it ended without having lived, and why."""

    name: str
    work: Work
    task: asyncio.Task[None] | None = None
    failures: int = 0
    reason: str = ""
    backoff: Backoff = field(
        default_factory=lambda: Backoff(first_s=FIRST_PAUSE_S, last_s=LAST_PAUSE_S)
    )


class Supervisor:
    """Keeps background tasks running."""

    def __init__(
        self,
        on_restart: Callable[[str], None] = lambda _: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        """
        Begin without tasks.

        Args:
            on_restart: told the name of each task that is started again, for the metrics.
            clock: monotonic seconds.
            sleep: waits for seconds.
        """
        self._on_restart = on_restart
        self._clock = clock
        self._sleep = sleep
        self._all: list[_Background] = []

    def start(self, name: str, work: Work) -> None:
        """
        Run a task until `stop`.

        Args:
            name: for logs, metrics and the liveness probe.
            work: makes the coroutine; called again each time it ends, so it must be repeatable.
        """
        background = _Background(name, work)
        background.task = asyncio.create_task(self._keep(background), name=name)
        self._all.append(background)

    async def stop(self) -> None:
        """Cancel all tasks, the last started first, and wait for their ends."""
        while self._all:
            task = self._all.pop().task
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    @property
    def trouble(self) -> str:
        """Say which task cannot live and why; empty when all can."""
        return "; ".join(
            f"background task {one.name} failed {one.failures} times in a row: {one.reason}"
            for one in self._all
            if one.failures >= MOST_FAILURES
        )

    async def _keep(self, background: _Background) -> None:
        while True:
            began = self._clock()
            try:
                await background.work()
                background.reason = "it ended by itself"
                log.error("a background task ended by itself", task=background.name)
            except Exception as error:  # whatever ends it, it is started again
                background.reason = f"{type(error).__name__}: {error}"
                log.exception("a background task failed", task=background.name)
            if self._clock() - began >= LIVES_S:
                background.failures = 0
                background.backoff.reset()
            background.failures += 1
            await self._sleep(background.backoff.next_s())
            self._on_restart(background.name)
