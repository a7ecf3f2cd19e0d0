"""
Order and time limits: unit, chart, contract, hostile, lab; random inside all but lab.

A test that hangs is ended.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# seconds: far above what a quiet machine takes
STAGES = {"unit": 30.0, "chart": 60.0, "contract": 120.0, "hostile": 300.0, "lab": 300.0}


def stage_of(item: pytest.Item) -> str:
    """Name the folder of `tests/` that an item lives in."""
    return item.path.relative_to(HERE).parts[0]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by stage, keeping the order inside each, and give each item its stage's time limit."""
    stages = list(STAGES)
    items.sort(key=lambda item: stages.index(stage_of(item)))
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(STAGES[stage_of(item)]))
