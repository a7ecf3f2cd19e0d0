"""
Letting a write end whatever happens to its caller.

A write cut off midway would leave nobody who knows its outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


async def shielded(work: Coroutine[Any, Any, R]) -> R:
    """Run `work` to its end; a cancellation of the caller, or several, is raised after that."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001, S110 - `task` keeps it, and it is raised below
            pass
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen
        raise cancelled
    return task.result()
