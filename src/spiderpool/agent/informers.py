"""The watches of one agent: what it knows without a request."""

from __future__ import annotations

import asyncio
from typing import Any

from spiderpool.api.crd.coordinator import SpiderCoordinator
from spiderpool.api.crd.group import LABEL_NODE
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Namespace, Node, Pod
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.informer import Informer
from spiderpool.model.label_values import label_value

BY_UID = "uid"
BY_POD = "pod"
BY_APPLICATION = "application"


class Informers:
    """All watches of one agent."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        """
        Keep the arguments; `start` begins.

        Args:
            cluster: the client of the API.
            node: name of this agent's node.
        """
        self.pools = Informer(cluster, SpiderIPPool)
        self.reserved = Informer(cluster, SpiderReservedIP)
        self.namespaces = Informer(cluster, Namespace)
        self.node = Informer(cluster, Node, fields=f"metadata.name={node}")
        self.pods = Informer(cluster, Pod, fields=f"spec.nodeName={node}")
        # Consistent: a record that a former agent of this node made must be there before the first
        # ADD.
        self.records = Informer(
            cluster, SpiderIP, labels=f"{LABEL_NODE}={label_value(node)}", consistent=True
        )
        self.records.index(BY_UID, lambda record: record.spec.holder.uid)
        self.records.index(
            BY_POD, lambda record: (record.spec.holder.namespace, record.spec.holder.name)
        )
        # Addresses do not need it: nothing but the coordinator waits for it.
        self.coordinators = Informer(cluster, SpiderCoordinator)

    @property
    def all(self) -> tuple[Informer[Any], ...]:
        """Every informer that addresses need."""
        return (self.pools, self.reserved, self.namespaces, self.node, self.pods, self.records)

    async def start(self) -> None:
        """Begin to watch."""
        for informer in (*self.all, self.coordinators):
            await informer.start()

    async def synced(self) -> None:
        """Wait until every first list that addresses need is complete."""
        await asyncio.gather(*(informer.synced() for informer in self.all))

    async def stop(self) -> None:
        """End all watches."""
        await asyncio.gather(*(informer.stop() for informer in (*self.all, self.coordinators)))

    @property
    def trouble(self) -> SpiderpoolError | None:
        """What keeps an informer from being up to date now."""
        return next(
            (informer.trouble for informer in self.all if informer.trouble is not None), None
        )
