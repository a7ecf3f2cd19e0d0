"""The top owner of a pod, fetched as metadata."""

from __future__ import annotations

from typing import Final

from spiderpool.api.core import Job, Pod, ReplicaSet
from spiderpool.api.meta import KubeObject
from spiderpool.api.spiderip import Application
from spiderpool.errors import NotFound
from spiderpool.kube.cluster import Cluster
from spiderpool.model.owners import application, is_final, next_owner, top_owner

KINDS: Final[dict[str, type[KubeObject]]] = {"ReplicaSet": ReplicaSet, "Job": Job}


async def owner_of(cluster: Cluster, pod: Pod) -> Application:
    """Give the application that a pod belongs to; a ReplicaSet or Job that is gone stands for itself."""
    ref = next_owner(pod.metadata.owner_references)
    if ref is None or is_final(ref):
        return application(pod, ref)
    try:
        found = (await cluster.get_metadata(KINDS[ref.kind], ref.name, pod.metadata.namespace)).metadata
    except NotFound:
        return application(pod, ref)
    return application(pod, top_owner(ref, found.owner_references) if found.uid == ref.uid else ref)
