"""A door to Kubernetes that lets no write be cut off."""

from __future__ import annotations

from typing import ParamSpec, TypeVar

from spiderpool.agent.concurrency.shield import hold_cancellation
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.wrapped_cluster import Call, WrappedCluster

P = ParamSpec("P")
R = TypeVar("R")


class ShieldedCluster(WrappedCluster):
    """
    The port `Cluster`; a caller that is cancelled during a write gets its outcome all the same.

    The cancellation is raised where the caller awaits something next. Until then it can note what
    it wrote.
    """

    def _write(self, call: Call[P, R]) -> Call[P, R]:
        async def uncut(*args: P.args, **kwargs: P.kwargs) -> R:
            return await hold_cancellation(call(*args, **kwargs))

        return uncut


_conforms: type[Cluster] = ShieldedCluster
