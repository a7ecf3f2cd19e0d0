"""
The top owner of a pod, fetched as metadata and remembered by UID.

Source: docs/decisions/0009-agents-under-load.md.
"""

from __future__ import annotations

import asyncio
from typing import Final

from spiderpool.api.crd.spiderip import Application
from spiderpool.api.kubernetes.core import Job, Pod, ReplicaSet
from spiderpool.api.kubernetes.meta import KubeObject, OwnerReference
from spiderpool.errors import NotFound
from spiderpool.kube.cluster import Cluster
from spiderpool.model.owners import application, is_final, next_owner, top_owner

KINDS: Final[dict[str, type[KubeObject]]] = {"ReplicaSet": ReplicaSet, "Job": Job}
REMEMBERED: Final = 4096  # owners; the oldest go first


class TopOwners:
    """Finds top owners: one read per owner, however many pods ask at once."""

    def __init__(self, cluster: Cluster) -> None:
        """
        Start with an empty memory.

        Args:
            cluster: where the metadata comes from.
        """
        self._cluster = cluster
        self._known: dict[str, OwnerReference] = {}
        self._flights: dict[str, asyncio.Task[OwnerReference]] = {}

    async def of(self, pod: Pod) -> Application:
        """
        Return the application that a pod belongs to.

        A ReplicaSet or Job that is gone stands for itself.
        """
        ref = next_owner(pod.metadata.owner_references)
        if ref is None or is_final(ref):
            return application(pod, ref)
        return application(
            pod, self._known.get(ref.uid) or await self._look_up(ref, pod.metadata.namespace)
        )

    async def _look_up(self, ref: OwnerReference, namespace: str) -> OwnerReference:
        flight = self._flights.get(ref.uid)
        if flight is None:
            flight = self._flights[ref.uid] = asyncio.create_task(self._fetch(ref, namespace))
            flight.add_done_callback(lambda _: self._flights.pop(ref.uid))
        return await asyncio.shield(flight)

    async def _fetch(self, ref: OwnerReference, namespace: str) -> OwnerReference:
        try:
            found = (
                await self._cluster.get_metadata(KINDS[ref.kind], ref.name, namespace)
            ).metadata
        except NotFound:
            return ref  # deleted already: its own owner is not known any more
        if found.uid != ref.uid:
            return ref
        while len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[ref.uid] = top_owner(ref, found.owner_references)
        return self._known[ref.uid]
