"""The lab and its stories, a tenant of one namespace, and watchers of the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spiderlab import Lab
from tests.hostile.tenant import Tenant, Trap, make_tenant
from tests.hostile.watch import Stalls
from tests.lab.conftest import kube as kube  # noqa: PLC0414 - a fixture
from tests.lab.conftest import lab as lab  # noqa: PLC0414 - a fixture
from tests.lab.conftest import pytest_runtest_makereport as pytest_runtest_makereport  # noqa: PLC0414
from tests.lab.conftest import story as story  # noqa: PLC0414 - a fixture
from tests.lab.story import Story


@pytest.fixture
def tenant(story: Story, tmp_path: Path) -> Iterator[Tenant]:
    """Return somebody who may make pods, workloads and networks in the story's namespace, nothing else."""
    made = make_tenant(story, tmp_path)
    yield made
    made.kube.close()


@pytest.fixture
def trap(lab: Lab) -> Iterator[Trap]:
    """Return a folder with programs on a node; nothing may ever execute one."""
    made = Trap(lab.node("node1"))
    yield made
    sprung = made.sprung
    made.remove()
    assert not sprung, "a program of the tenant was executed on the node"


@pytest.fixture
def stalls(lab: Lab) -> Iterator[Stalls]:
    """Ask the node's agent all the time how long it takes to answer; the longest is bounded."""
    with Stalls(lab.node("node1")) as watching:
        yield watching
    watching.assert_bounded()
