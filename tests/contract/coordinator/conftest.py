"""A node with two uplinks on a switch, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.coordinator.stage import Stage, stage


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Stage]:
    """A node, a switch, and the coordinator."""
    with stage(tmp_path) as made:
        yield made
        await made.plugin.settle()
