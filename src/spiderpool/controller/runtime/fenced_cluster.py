"""A door to Kubernetes that lets writes through only while this replica leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.errors import TryAgain
from spiderpool.kube.cluster import Cluster, PatchType

T = TypeVar("T", bound=KubeObject)


class FencedCluster:
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
        self._cluster = cluster
        self._leading = leading
        self.get = cluster.get
        self.get_metadata = cluster.get_metadata
        self.get_scale = cluster.get_scale
        self.list_objects = cluster.list_objects
        self.list_metadata = cluster.list_metadata
        self.list_names = cluster.list_names
        self.latest_version = cluster.latest_version
        self.watch = cluster.watch
        self.watch_metadata = cluster.watch_metadata

    async def create(self, obj: T) -> T:
        """Create an object."""
        self._check()
        return await self._cluster.create(obj)

    async def replace(self, obj: T, *, subresource: str = "") -> T:
        """Write a whole object on condition of its UID and resource version."""
        self._check()
        return await self._cluster.replace(obj, subresource=subresource)

    async def patch(
        self,
        kind: type[T],
        name: str,
        body: Mapping[str, Any] | list[Mapping[str, Any]],
        *,
        namespace: str = "",
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
    ) -> T:
        """Change parts of an object."""
        self._check()
        return await self._cluster.patch(
            kind, name, body, namespace=namespace, patch_type=patch_type, subresource=subresource
        )

    async def delete(
        self,
        kind: type[KubeObject],
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
    ) -> None:
        """Delete an object."""
        self._check()
        await self._cluster.delete(
            kind,
            name,
            namespace,
            uid=uid,
            resource_version=resource_version,
            propagation=propagation,
        )

    def _check(self) -> None:
        """Refuse a write of a replica that does not lead."""
        if not self._leading():
            raise TryAgain("this replica does not lead any more and writes nothing")


_conforms: type[Cluster] = FencedCluster
