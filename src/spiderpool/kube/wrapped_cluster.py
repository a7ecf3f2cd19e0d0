"""A door to Kubernetes before another one, for what is to happen around every call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeAlias, TypeVar

from spiderpool.kube.cluster import Cluster

P = ParamSpec("P")
R = TypeVar("R")
Call: TypeAlias = Callable[P, Coroutine[Any, Any, R]]


class WrappedCluster(ABC):
    """
    The port `Cluster`; a subclass says what happens around a read and around a write.

    Watches pass, and so do reads unless the subclass says otherwise.
    """

    def __init__(self, cluster: Cluster) -> None:
        """
        Stand before another door.

        Args:
            cluster: the door.
        """
        self.get = self._read(cluster.get)
        self.get_metadata = self._read(cluster.get_metadata)
        self.get_scale = self._read(cluster.get_scale)
        self.list_objects = self._read(cluster.list_objects)
        self.list_metadata = self._read(cluster.list_metadata)
        self.list_names = self._read(cluster.list_names)
        self.latest_version = self._read(cluster.latest_version)
        self.create = self._write(cluster.create)
        self.replace = self._write(cluster.replace)
        self.patch = self._write(cluster.patch)
        self.delete = self._write(cluster.delete)
        self.watch = cluster.watch
        self.watch_metadata = cluster.watch_metadata

    def _read(self, call: Call[P, R]) -> Call[P, R]:
        """Return what a caller gets for a method that reads."""
        return call

    @abstractmethod
    def _write(self, call: Call[P, R]) -> Call[P, R]:
        """Return what a caller gets for a method that writes."""
        ...
