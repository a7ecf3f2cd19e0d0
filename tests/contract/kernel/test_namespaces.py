"""Work inside namespaces leaves nothing open, whatever becomes of its caller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.pod_network import open_pod_network

OWN = "/proc/self/ns/net"


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("open_something", [Namespaces.network, open_pod_network])
async def test_what_a_cancelled_caller_opens_is_closed(
    open_something: Callable[[str], object],
) -> None:
    """A caller that is cancelled while its work opens something leaks no descriptor."""
    with Namespaces.network(OWN) as here:
        before = descriptors()
        for _ in range(5):
            begun, go_on, opened = threading.Event(), threading.Event(), threading.Event()

            def work(
                begun: threading.Event = begun,
                go_on: threading.Event = go_on,
                opened: threading.Event = opened,
            ) -> object:
                begun.set()
                go_on.wait()
                try:
                    return open_something(OWN)
                finally:
                    opened.set()

            task = asyncio.create_task(here.run(work))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            await asyncio.to_thread(opened.wait)

        for _ in range(100):
            if before == descriptors():
                break
            await asyncio.sleep(0.01)
        assert before == descriptors()


def test_what_outlives_the_loop_is_closed() -> None:
    """A result that comes after the end of the event loop is closed as well."""
    go_on, threads = threading.Event(), threading.active_count()

    def work() -> Namespaces:
        go_on.wait()
        return Namespaces.network(OWN)

    async def begin(here: Namespaces) -> None:
        task = asyncio.create_task(here.run(work))
        await asyncio.sleep(0)
        task.cancel()

    with Namespaces.network(OWN) as here:
        before = descriptors()
        asyncio.run(begin(here))
        go_on.set()
        while threading.active_count() > threads:
            threading.Event().wait(0.01)
        assert before == descriptors()
