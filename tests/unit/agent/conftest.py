"""What the tests of the agent share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.unit.agent.simulation import Simulation, new_simulation


@pytest.fixture(autouse=True)
def plain_log() -> Iterator[None]:
    """
    Log plain lines.

    Structlog's own default draws tracebacks with all variables, which takes seconds.
    """
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    """Return a cluster of two nodes without pods and pools."""
    return new_simulation(tmp_path)
