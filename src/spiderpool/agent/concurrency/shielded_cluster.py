"""A door to Kubernetes that lets no write be cut off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from spiderpool.agent.concurrency.shield import hold_cancellation
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.kube.cluster import Cluster, PatchType

T = TypeVar("T", bound=KubeObject)


class ShieldedCluster:
    """
    The port `Cluster`; a caller that is cancelled during a write gets its outcome all the same.

    The cancellation is raised where the caller awaits something next. Until then it can note what
    it wrote.
    """

    def __init__(self, cluster: Cluster) -> None:
        """
        Stand before another door.

        Args:
            cluster: the door.
        """
        self._cluster = cluster
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
        return await hold_cancellation(self._cluster.create(obj))

    async def replace(self, obj: T, *, subresource: str = "") -> T:
        """Write a whole object on condition of its UID and resource version."""
        return await hold_cancellation(self._cluster.replace(obj, subresource=subresource))

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
        return await hold_cancellation(
            self._cluster.patch(
                kind,
                name,
                body,
                namespace=namespace,
                patch_type=patch_type,
                subresource=subresource,
            )
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
        """Delete an object, on condition of UID and resource version where given."""
        await hold_cancellation(
            self._cluster.delete(
                kind,
                name,
                namespace,
                uid=uid,
                resource_version=resource_version,
                propagation=propagation,
            )
        )


_conforms: type[Cluster] = ShieldedCluster
