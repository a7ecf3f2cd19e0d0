"""
Letting work end whatever happens to its caller.

A write that is cut off midway has an outcome that nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


async def shielded(work: Coroutine[Any, Any, R]) -> R:
    """
    Run `work` to its end.

    A cancellation of the caller, or several, is raised after that, instead of the result.
    """
    task = asyncio.ensure_future(work)
    cancelled = await _ended(task)
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen
        raise cancelled
    return task.result()


async def hold_cancellation(work: Coroutine[Any, Any, R]) -> R:
    """
    Run `work` to its end and return its result, also when the caller is cancelled meanwhile.

    The cancellation is raised where the caller awaits something next. Until then it can note what
    came of the work. So does a shielded cancel scope of anyio.
    """
    task = asyncio.ensure_future(work)
    if await _ended(task) is not None and (caller := asyncio.current_task()) is not None:
        caller.uncancel()  # asyncio.timeout counts cancellations: their number stays as it is
        caller.cancel()
    return task.result()


async def _ended(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait for the end of a task; returns the last cancellation of the caller meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001, S110 - `task` keeps it, and the caller raises it
            pass
    return cancelled
