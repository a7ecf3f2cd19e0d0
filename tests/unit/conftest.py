"""Laws run against many examples: they get more time than other unit tests, and no limit for a single example."""

from __future__ import annotations

import pytest
from hypothesis import is_hypothesis_test, settings

settings.register_profile("unit", deadline=None, max_examples=80)
settings.load_profile("unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give laws time for a machine that does other work beside; the limit is for hangs."""
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            item.add_marker(pytest.mark.timeout(120))
