"""How long a story bears with an API server that says "later" or does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from spiderpool.errors import Forbidden, TooManyRequests, UnknownOutcome, Unreachable
from spiderpool.kube.backoff import Backoff

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    Limits of repeating what certainly did not happen.

    `busy_s`: how long "too many requests" is borne, below the time that the CNI caller waits.
    `absent_s`: how long no answer is borne; short, since the runtime repeats the whole call. An API
    server that has just started and does not know its roles yet refuses everybody for a second: a
    refusal is borne like an absence.
    """

    busy_s: float = 60.0
    absent_s: float = 5.0

    async def run(self, work: Callable[[], Awaitable[R]]) -> R:
        """
        Do `work`, again and again while the API server cannot.

        An unknown outcome is the caller's to resolve.
        """
        began, refused, backoff = time.monotonic(), None, Backoff(first_s=0.1, last_s=2.0)
        while True:
            try:
                return await work()
            except UnknownOutcome:
                raise
            except Unreachable as error:
                pause = backoff.next_s(error)
                if time.monotonic() + pause > began + (
                    self.busy_s if isinstance(error, TooManyRequests) else self.absent_s
                ):
                    raise
            except Forbidden as error:
                if refused is None:
                    # It may have been absent until now: its own time begins.
                    refused = time.monotonic()
                    backoff.reset()
                pause = backoff.next_s(error)
                if time.monotonic() + pause > refused + self.absent_s:
                    raise
            await asyncio.sleep(pause)


ONCE: Final = RetryPolicy(busy_s=0.0, absent_s=0.0)  # no repetition
