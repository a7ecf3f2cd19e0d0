"""A node with the meta plugin, and a pod's network namespace, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.meta.node import Node, PodNetns, node, pod_netns


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Node]:
    """A node of its own."""
    with node(tmp_path) as made:
        yield made


@pytest.fixture
def netns() -> Iterator[PodNetns]:
    """A pod's network namespace."""
    with pod_netns() as made:
        yield made
