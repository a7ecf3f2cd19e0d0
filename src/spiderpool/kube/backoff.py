"""Waits between attempts: ever longer, never the same for two processes."""

from __future__ import annotations

import random
from dataclasses import dataclass

from spiderpool.errors import SpiderpoolError, TooManyRequests


@dataclass(slots=True)
class Backoff:
    """Waits that double from `first_s` to `last_s`, each shortened at random by up to a half."""

    first_s: float = 0.2
    last_s: float = 10.0
    attempts: int = 0

    def reset(self) -> None:
        """Begin again, after a success."""
        self.attempts = 0

    def next_s(self, error: SpiderpoolError | None = None) -> float:
        """Return the seconds to wait now; never less than the API server asked for in `error`."""
        whole = min(self.last_s, self.first_s * float(2 ** min(self.attempts, 32)))
        self.attempts += 1
        chosen = whole * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        return max(chosen, error.retry_after_s) if isinstance(error, TooManyRequests) else chosen
