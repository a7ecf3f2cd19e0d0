"""
Laws run against many examples: they get more time than other unit tests, and no limit for a single example.

The examples are the same in each run, so that a red run tells of a change in the code; LAWS=search
looks for new ones, and for more of them (`make soak` does).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest
from hypothesis import is_hypothesis_test, settings

from tests import virtual_time

virtual_time.install()
settings.register_profile("same", deadline=None, max_examples=80, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=400)
settings.load_profile("search" if os.environ.get("LAWS") == "search" else "same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Return laws time for a machine that does other work beside; the limit is for hangs."""
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            item.add_marker(pytest.mark.timeout(120))


@pytest.hookimpl
def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run asynchronous tests in virtual time."""
    return {"virtual": virtual_time.VirtualTimeLoop}
