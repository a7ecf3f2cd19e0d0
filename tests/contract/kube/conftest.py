"""The clusters of the contract: the fake, the fake behind the door of the agent, a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.agent.concurrency.retrying_cluster import RetryingCluster
from spiderpool.kube.client import KubeClient
from spiderpool.kube.connect import connect
from spiderpool.kube.kubeconfig import from_kubeconfig
from spiderpool.kube.transport import Access
from tests.apiserver.control_plane import ControlPlane
from tests.apiserver.proxy import Proxy
from tests.contract.kube.stage import FakeStage, RealStage, Stage

NO_RETRY = RetryPolicy(busy_s=0.0, absent_s=0.0)  # the contract looks at single attempts


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Return a real API server that serves for the whole run."""
    with ControlPlane(Path(tmp_path_factory.mktemp("control-plane"))) as plane:
        yield plane


@pytest.fixture
async def real(control_plane: ControlPlane) -> AsyncIterator[RealStage]:
    """Return the real API server, behind a proxy."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(
            Proxy(from_kubeconfig(control_plane.kubeconfig)).running()
        )
        ours = await stack.enter_async_context(KubeClient(Access(proxy.url), user_agent="contract"))
        other = await stack.enter_async_context(
            connect(str(control_plane.kubeconfig), user_agent="other")
        )
        yield RealStage(control_plane, proxy, ours, other)


@pytest.fixture(params=["fake", "agent", "real"])
def stage(request: pytest.FixtureRequest) -> Stage:
    """Return each of them in turn."""
    if request.param == "fake":
        return FakeStage()
    if request.param == "agent":
        return FakeStage(lambda cluster: RetryingCluster(cluster, NO_RETRY))
    stage: RealStage = request.getfixturevalue("real")
    return stage
