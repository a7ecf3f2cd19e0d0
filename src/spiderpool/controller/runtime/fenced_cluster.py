"""A door to Kubernetes that lets writes through only while this replica leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from spiderpool.errors import TryAgain
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.wrapped_cluster import Call, WrappedCluster

P = ParamSpec("P")
R = TypeVar("R")


class FencedCluster(WrappedCluster):
    """
    The port `Cluster`; each write first asks whether the lease is still ours, by our own clock.

    Cancelling the leader's tasks is not enough: a process that was stopped for a while goes on
    where it was.
    """

    def __init__(self, cluster: Cluster, leading: Callable[[], bool]) -> None:
        """
        Put the fence around a door.

        Args:
            cluster: the door.
            leading: whether this replica leads at this moment.
        """
        super().__init__(cluster)
        self._leading = leading

    def _write(self, call: Call[P, R]) -> Call[P, R]:
        async def fenced(*args: P.args, **kwargs: P.kwargs) -> R:
            if not self._leading():
                raise TryAgain("this replica does not lead any more and writes nothing")
            return await call(*args, **kwargs)

        return fenced


_conforms: type[Cluster] = FencedCluster
