"""Waiting for a cluster: ask, sleep a little, give up with the last thing that was seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

STEP_S = 0.2


def until(
    ask: Callable[..., T | None],  # no arguments; `...` lets lambdas bind names of a loop
    what: str,
    *,
    within_s: float = 30,
    seen: Callable[[], object] | None = None,
) -> T:
    """
    Ask until the answer is true, and give it.

    Args:
        ask: gives something true when the wait is over.
        what: the sentence of the failure, such as `pod a runs`.
        within_s: after this many seconds the test fails.
        seen: what to show when it fails; the last answer when not given.
    """
    deadline = time.monotonic() + within_s
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"after {within_s:.0f} s still not so: {what}; seen: {seen() if seen else answer!r}"
            )
        time.sleep(STEP_S)
    return answer


def until_none(ask: Callable[[], object], what: str, *, within_s: float = 30) -> None:
    """Ask until nothing is left: an empty list, None."""
    last: list[object] = [None]

    def empty() -> bool:
        last[0] = ask()
        return not last[0]

    until(empty, what, within_s=within_s, seen=lambda: last[0])
