"""
Conditional writes.

Decided by a state, written only if it is still that state, decided again if it is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from spiderpool.errors import Conflict, TryAgain, UnknownOutcome

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

ATTEMPTS: Final = 5  # others write the same object rarely


async def compare_and_swap(
    state: S,
    write: Callable[[S | T], Awaitable[R]],
    reread: Callable[[], Awaitable[T]],
    *,
    subject: str,
    lost: tuple[type[Exception], ...] = (Conflict, UnknownOutcome),
) -> R:
    """
    Decide and write until the write meets the state that it was decided by.

    Args:
        state: as it is known.
        write: decides by a state, and writes on condition of it.
        reread: reads the state again after a lost write.
        subject: what is written, for the error text.
        lost: errors after which the state is read again.
    Returns:
        What `write` returns.
    Raises:
        TryAgain: the state was another one at each of `ATTEMPTS` writes.
    """
    seen: S | T = state
    for _ in range(ATTEMPTS):
        try:
            return await write(seen)
        except lost:
            seen = await reread()
    raise TryAgain(f"{subject} changes all the time")
