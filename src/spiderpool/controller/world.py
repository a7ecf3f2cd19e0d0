"""What the leader's reconcilers share: a fenced door, the mirrors with their indexes, the switches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from spiderpool.api.core import PartialObject, Pod
from spiderpool.api.group import LABEL_POOL
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.spiderip import SpiderIP
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.watch import MetadataMirror, Mirror
from spiderpool.model.config import Features
from spiderpool.model.labels import label_value

BY_POOL: Final = "pool"
BY_HOLDER: Final = "holder"


@dataclass(slots=True)
class World:
    """
    The cluster as the leader sees it.

    `records` can be asked by pool name (`BY_POOL`) and by namespace and name of the holder (`BY_HOLDER`).
    """

    cluster: Cluster
    pools: Mirror[SpiderIPPool]
    features: Features
    records: Mirror[SpiderIP] = field(init=False)
    pods: Mirror[PartialObject] = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the mirrors that only a leader keeps."""
        self.records = Mirror(self.cluster, SpiderIP)
        self.records.index(BY_POOL, lambda record: record.spec.pool)
        self.records.index(BY_HOLDER, lambda record: (record.spec.holder.namespace, record.spec.holder.name))
        self.pods = MetadataMirror(self.cluster, Pod)

    async def __aenter__(self) -> Self:
        """Fill the mirrors."""
        await self.records.start()
        await self.pods.start()
        for mirror in (self.records, self.pods, self.pools):
            await mirror.synced()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop following."""
        await self.records.stop()
        await self.pods.stop()


async def list_records(cluster: Cluster, pool: str) -> tuple[SpiderIP, ...]:
    """Read all records of a pool from etcd; the label may be a hash, so the name is compared as well."""
    listing = await cluster.list_objects(SpiderIP, labels=f"{LABEL_POOL}={label_value(pool)}")
    return tuple(record for record in listing.items if record.spec.pool == pool)
