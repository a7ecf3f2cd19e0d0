from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.agent.world import World, new_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a cluster of two nodes without pods and pools."""
    return new_world(tmp_path)
