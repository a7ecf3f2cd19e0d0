"""How long work is repeated for an API server that says "later" or does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from spiderpool.errors import Forbidden, TooManyRequests, UnknownOutcome, Unreachable
from spiderpool.kube.backoff import Backoff

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    Limits of repeating what certainly did not happen.

    `busy_s`: how long "too many requests" is tolerated, below the time that the CNI caller waits.
    `absent_s`: how long no answer is tolerated; short, since the runtime repeats the whole call. An
    API server that has just started and does not know its roles yet refuses everybody for a second:
    a refusal is tolerated like an absence.
    """

    busy_s: float = 60.0
    absent_s: float = 5.0

    async def run(self, work: Callable[[], Awaitable[R]]) -> R:
        """
        Do `work` until the API server can serve it, and return its result.

        An unknown outcome is the caller's to resolve.
        """
        async for attempt in self.attempts():
            with attempt:
                return await work()
        raise AssertionError("the last attempt returns or raises")

    def attempts(self) -> Attempts:
        """
        Return the attempts at some work, for work that is no function of its own.

        ::

            async for attempt in policy.attempts():
                with attempt:
                    ...  # the work; an error that is worth another attempt is kept back
        """
        return Attempts(self)


class Attempts:
    """Attempts at one piece of work, with a pause before each but the first."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._backoff = Backoff(first_s=0.1, last_s=2.0)
        self._began = time.monotonic()
        self._refused: float | None = None
        self._pause_s: float | None = 0.0  # before the next attempt; None when there is no next one

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Self:
        if self._pause_s is None:
            raise StopAsyncIteration
        if self._pause_s:
            await asyncio.sleep(self._pause_s)
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._pause_s = None if error is None else self._pause_after(error)
        return self._pause_s is not None

    def _pause_after(self, error: BaseException) -> float | None:
        """Return the seconds until the next attempt; None when the error is the caller's."""
        if isinstance(error, UnknownOutcome) or not isinstance(error, Unreachable | Forbidden):
            return None
        limit_s = self._policy.absent_s
        began = self._began
        if isinstance(error, TooManyRequests):
            limit_s = self._policy.busy_s
        elif isinstance(error, Forbidden):
            if self._refused is None:
                # The API server may have been absent until now: its own time begins.
                self._refused = time.monotonic()
                self._backoff.reset()
            began = self._refused
        pause_s = self._backoff.next_s(error)
        return pause_s if time.monotonic() + pause_s <= began + limit_s else None
