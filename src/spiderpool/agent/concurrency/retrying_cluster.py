"""A door to Kubernetes that repeats what certainly did not happen."""

from __future__ import annotations

from functools import partial
from typing import ParamSpec, TypeVar

from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.agent.concurrency.shielded_cluster import ShieldedCluster
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.wrapped_cluster import Call, WrappedCluster

P = ParamSpec("P")
R = TypeVar("R")


class RetryingCluster(WrappedCluster):
    """
    The port `Cluster`; every call but a watch is repeated while the API server cannot serve it.

    A write of which it is not known whether it happened (`UnknownOutcome`) is not repeated: only
    the caller can find out. No write is cut off (`ShieldedCluster`); a caller that is cancelled
    waits for the attempt that is under way, not for the next one.
    """

    def __init__(self, cluster: Cluster, retry: RetryPolicy) -> None:
        """
        Stand before another door.

        Args:
            cluster: the door.
            retry: the limits of repeating.
        """
        self.retry = retry
        self.once = ShieldedCluster(cluster)  # without repetition
        super().__init__(self.once)

    def _read(self, call: Call[P, R]) -> Call[P, R]:
        async def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
            return await self.retry.run(partial(call, *args, **kwargs))

        return repeated

    _write = _read


_conforms: type[Cluster] = RetryingCluster
