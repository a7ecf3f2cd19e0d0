"""A door to Kubernetes that repeats what certainly did not happen."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.agent.concurrency.shielded_cluster import ShieldedCluster
from spiderpool.api.kubernetes.core import PartialObject
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.kube.cluster import Cluster, Listing, PatchType

T = TypeVar("T", bound=KubeObject)


class RetryingCluster:
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
        self.once = self._cluster = ShieldedCluster(cluster)  # `once`: without repetition
        self.retry = retry
        self.watch = cluster.watch
        self.watch_metadata = cluster.watch_metadata

    async def get(self, kind: type[T], name: str, namespace: str = "") -> T:
        """Read one object live."""
        return await self.retry.run(partial(self._cluster.get, kind, name, namespace))

    async def get_metadata(
        self, kind: type[KubeObject], name: str, namespace: str = ""
    ) -> PartialObject:
        """Read one object's metadata only."""
        return await self.retry.run(partial(self._cluster.get_metadata, kind, name, namespace))

    async def get_scale(self, kind: type[KubeObject], name: str, namespace: str) -> int:
        """Read how many replicas an object wants, from its scale subresource."""
        return await self.retry.run(partial(self._cluster.get_scale, kind, name, namespace))

    async def list_objects(
        self,
        kind: type[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str | None = None,
    ) -> Listing[T]:
        """Read all objects that match."""
        scope = {"namespace": namespace, "labels": labels, "fields": fields}
        return await self.retry.run(
            partial(self._cluster.list_objects, kind, **scope, resource_version=resource_version)
        )

    async def list_metadata(
        self,
        kind: type[KubeObject],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str | None = None,
    ) -> Listing[PartialObject]:
        """Read the metadata of all objects that match."""
        scope = {"namespace": namespace, "labels": labels, "fields": fields}
        return await self.retry.run(
            partial(self._cluster.list_metadata, kind, **scope, resource_version=resource_version)
        )

    async def latest_version(self, kind: type[KubeObject], namespace: str = "") -> str:
        """Read the version that the store is at now."""
        return await self.retry.run(partial(self._cluster.latest_version, kind, namespace))

    async def list_names(self, kind: type[KubeObject], *, labels: str = "") -> tuple[str, ...]:
        """Read the names of all objects that match."""
        return await self.retry.run(partial(self._cluster.list_names, kind, labels=labels))

    async def create(self, obj: T) -> T:
        """Create an object."""
        return await self.retry.run(partial(self._cluster.create, obj))

    async def replace(self, obj: T, *, subresource: str = "") -> T:
        """Write a whole object on condition of its UID and resource version."""
        return await self.retry.run(partial(self._cluster.replace, obj, subresource=subresource))

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
        write = partial(
            self._cluster.patch,
            kind,
            name,
            body,
            namespace=namespace,
            patch_type=patch_type,
            subresource=subresource,
        )
        return await self.retry.run(write)

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
        conditions = {"uid": uid, "resource_version": resource_version, "propagation": propagation}
        await self.retry.run(partial(self._cluster.delete, kind, name, namespace, **conditions))


_conforms: type[Cluster] = RetryingCluster
